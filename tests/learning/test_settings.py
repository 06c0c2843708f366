"""Settings of methods: only those of the methods that are used are checked, before anything is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from emoseg.config import TrainConfig, config_hash, load_train_config, parse_frontends
from emoseg.default_settings import default_toml
from emoseg.errors import ConfigError
from emoseg.frontends.descriptors.frontend import Descriptors
from emoseg.frontends.logmel import LogMel
from emoseg.learning.methods import METHODS, build_method, code_versions, resolve_settings
from emoseg.learning.methods.emoseg.settings import EmosegSettings
from emoseg.version import VERSION


def config(**settings: Any) -> TrainConfig:
    return TrainConfig.model_validate(settings)


def test_settings_of_other_methods_do_not_matter() -> None:
    short = config(method="mixup", learning={"epochs": 3}, methods={"sssl": {"warmup_epochs": 99, "no_such_key": 1}})
    assert resolve_settings(short, ["mixup"]).methods == {"mixup": {}}
    assert resolve_settings(short, ["mixup"]).learning.epochs == 3


@pytest.mark.parametrize(
    ("settings", "methods", "message"),
    [
        ({"learning": {"epochs": 4}}, ["sssl"], "methods.sssl: warmup_epochs 4 must be below learning.epochs 4"),
        (
            {"learning": {"epochs": 3}},
            ["mixup", "dividemix"],
            "methods.dividemix: warmup_epochs 4 must be below learning.e",
        ),
        (
            {"learning": {"convnet": {"epochs": 4}}},
            ["sssl"],
            "methods.sssl: warmup_epochs 4 must be below learning.convnet.",
        ),
        ({"methods": {"sssl": {"tau": 3}}}, ["sssl"], "unknown key 'methods.sssl.tau'"),
        (
            {"methods": {"sssl": {"clean_threshold": 1.5}}},
            ["sssl"],
            "methods.sssl.clean_threshold: Input should be less",
        ),
        (
            {"methods": {"svm-compare": {"costs": [1, 0]}}},
            ["svm-compare"],
            "methods.svm-compare.costs.1: Input should be g",
        ),
        ({"methods": {"emoseg": {"costs": []}}}, ["emoseg"], "methods.emoseg.costs: Tuple should have at least 1 item"),
        ({}, ["mixpu"], "method 'mixpu': must be one of inherit, mixup, .*; did you mean 'mixup'"),
        ({"methods": {"ssl": {}}}, ["mixup"], "method 'ssl': must be one of inherit, .*; did you mean 'sssl'"),
    ],
)
def test_a_setting_that_breaks_its_rule_is_one_line(settings: Any, methods: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        resolve_settings(config(**settings), methods)
    assert "\n" not in str(caught.value)


def test_a_warm_up_just_below_the_number_of_passes_is_accepted() -> None:
    learning = {"epochs": 5, "convnet": {"epochs": 5}}
    assert resolve_settings(config(learning=learning), ["sssl", "dividemix"]).methods["sssl"]["warmup_epochs"] == 4


def test_resolved_settings_are_complete_and_stable() -> None:
    resolved = resolve_settings(config(methods={"emoseg": {"costs": [2]}}), ["emoseg"])
    assert resolved.methods["emoseg"] == EmosegSettings(costs=(2.0,)).model_dump(mode="json")
    assert resolve_settings(resolved, ["emoseg"]) == resolved
    assert TrainConfig.model_validate_json(resolved.model_dump_json()) == resolved
    assert config_hash(resolved) != config_hash(resolve_settings(TrainConfig(), ["emoseg"]))
    method = build_method(resolved, "emoseg")
    assert isinstance(method.settings, EmosegSettings)
    assert method.settings.costs == (2.0,)


def test_settings_can_be_keys() -> None:
    first, second = config(methods={"sssl": {"momentum": 0.1}}), config(methods={"sssl": {"momentum": 0.2}})
    assert len({first, second, config(methods={"sssl": {"momentum": 0.1}})}) == 2


@pytest.mark.parametrize("name", METHODS.names())
def test_every_setting_has_a_description_a_range_and_a_default(name: str) -> None:
    settings = METHODS[name].settings_class
    for key, field in settings.model_fields.items():
        assert field.description, key
        assert field.default is not None, key
        assert field.metadata or field.annotation is bool, f"{key} has no range"
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings(), next(iter(settings.model_fields), "key"), 1)
    assert METHODS[name].version >= 1


def test_the_file_with_all_defaults_gives_the_defaults(tmp_path: Path) -> None:
    text = default_toml({name: METHODS[name].settings_class for name in METHODS})
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    loaded = load_train_config(file)
    every = list(METHODS)
    assert resolve_settings(loaded, every) == resolve_settings(TrainConfig(), every)
    assert loaded.methods["emoseg"] == EmosegSettings().model_dump(mode="json")
    lines = text.splitlines()
    for line in (number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")):
        assert lines[line - 1].startswith(("# ", "[[frontends]]")), lines[line]
    assert "# Sharpening temperature T. (above 0, at most 1)\ntemperature = 0.5\n" in text
    assert '# name = "logmel"\n# Number of mel bands. (at least 8, at most 256)\n# bands = 64\n' in text


def test_versions_of_all_that_decides_the_result() -> None:
    both = TrainConfig(frontends=parse_frontends("logmel+descriptors"))
    assert code_versions(both, ["mixup", "emoseg"]) == {
        "emoseg": VERSION,
        "frontend descriptors": Descriptors.version,
        "frontend logmel": LogMel.version,
        "method mixup": METHODS["mixup"].version,
        "method emoseg": METHODS["emoseg"].version,
    }
    assert set(code_versions(TrainConfig())) == {"emoseg", "frontend descriptors"}


def test_a_version_that_rises_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_versions(TrainConfig(), ["mixup"])
    monkeypatch.setattr(METHODS["mixup"], "version", 7)
    monkeypatch.setattr(Descriptors, "version", 8)
    assert code_versions(TrainConfig(), ["mixup"]) == before | {"method mixup": 7, "frontend descriptors": 8}
