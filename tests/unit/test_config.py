from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import BaseModel

from emoseg.config import (
    DescriptorsConfig,
    LearningConfig,
    LogMelConfig,
    SegmentConfig,
    TrainConfig,
    config_hash,
    load_train_config,
    parse_frontends,
    replace_settings,
)
from emoseg.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_no_file_gives_the_defaults() -> None:
    assert load_train_config(None) == TrainConfig()


def test_a_file_changes_what_it_names_and_nothing_else(file: Path) -> None:
    file.write_text(
        'method = "inherit"\n[segment]\nlength_s = 5\n[learning]\nepochs = 30\n[methods.sssl]\nwarmup_epochs = 7\n'
        '[[frontends]]\nname = "logmel"\nbands = 40\n[[frontends]]\nname = "descriptors"\n'
    )
    found = load_train_config(file)
    assert found.method == "inherit"
    assert found.segment == SegmentConfig(length_s=5.0)
    assert found.learning.epochs == 30
    assert found.methods == {"sssl": {"warmup_epochs": 7}}
    assert found.learning.batch == LearningConfig().batch
    assert found.frontends == (LogMelConfig(bands=40), DescriptorsConfig())


def test_an_empty_file_and_a_byte_order_mark_are_fine(file: Path) -> None:
    file.write_bytes(b"")
    assert load_train_config(file) == TrainConfig()
    file.write_bytes(b'\xef\xbb\xbfmethod = "inherit"\r\n')
    assert load_train_config(file).method == "inherit"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 3\n", "unknown key 'epochs'"),
        ("[learning]\nepoch = 3\n", "unknown key 'learning.epoch'"),
        ('[[frontends]]\nname = "logmel"\nmels = 3\n', "unknown key 'frontends.0.mels'"),
    ],
)
def test_an_unknown_key_is_named(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_train_config(file)
    assert str(caught.value) == f"{file}: {message}"


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ('[learning]\nepochs = "many"\n', "learning.epochs", "'many'"),
        ("[learning]\nepochs = 2.5\n", "learning.epochs", "2.5"),
        ("[learning]\nmembers = 1\n", "learning.members", "1"),
        ("[learning]\nlearning_rate = 0\n", "learning.learning_rate", "0"),
        ("[learning]\nlearning_rate = nan\n", "learning.learning_rate", "nan"),
        ("[learning]\nweight_decay = inf\n", "learning.weight_decay", "inf"),
        ("[learning.network]\ndropout = 1.0\n", "learning.network.dropout", "1.0"),
        ("[segment]\nsample_rate_hz = 4000\n", "segment.sample_rate_hz", "4000"),
        ('[segment]\nlast = "loop"\n', "segment.last", "'loop'"),
        ("method = 3\n", "method", "3"),
    ],
)
def test_a_bad_value_is_named_with_its_key_in_one_line(file: Path, text: str, key: str, value: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_train_config(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: {key}: ")
    assert message.endswith(f"(found {value})")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[frontends]]\nname = "logmel"\nfmin_hz = 900\nfmax_hz = 900\n',
            "frontends.0: fmin_hz 900.0 must be below fmax_hz 900.0",
        ),
        (
            '[[frontends]]\nname = "logmel"\n[[frontends]]\nname = "logmel"\nbands = 32\n',
            "frontends must be distinct, got ['logmel', 'logmel']",
        ),
    ],
)
def test_rules_across_keys(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_train_config(file)
    assert str(caught.value) == f"{file}: {message}"


def test_an_unknown_frontend_in_a_file_is_named_with_the_known(file: Path) -> None:
    file.write_text('[[frontends]]\nname = "mfcc"\n')
    with pytest.raises(ConfigError, match=r"settings\.toml: frontends\.0: frontend 'mfcc': must be one of logmel"):
        load_train_config(file)
    file.write_text("frontends = []\n")
    with pytest.raises(ConfigError, match=r"settings\.toml: frontends: .*at least 1 item"):
        load_train_config(file)


def test_a_file_that_cannot_be_read(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"settings\.toml: no such file"):
        load_train_config(file)
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        load_train_config(tmp_path)
    file.write_text("epochs: 3\n")
    with pytest.raises(ConfigError, match=r"settings\.toml: is not TOML: .*line 1"):
        load_train_config(file)
    file.write_bytes(b"method = '\xff'\n")
    with pytest.raises(ConfigError, match=r"settings\.toml: is not UTF-8 text \(byte 10\)"):
        load_train_config(file)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ConfigError, match=r"settings\.toml: is not a regular file"):
        load_train_config(file)
    with pytest.raises(ConfigError, match="/dev/zero: is not a regular file"):
        load_train_config(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 900, "is nested too deeply"),
        ("a = " + "[\n" * 20000, "is nested too deeply"),
        ("".join(f"[{'a.' * 200}b{i}]\n" for i in range(100)), "unknown key 'a'"),
        ("[learning]\nepochs = " + "9" * 900, "is not TOML: learning.epochs is a number beyond 1000000000"),
        ("[learning]\nepochs = 0x" + "f" * 900, "is not TOML: learning.epochs is a number beyond 1000000000"),
        ("[learning.network]\nhidden = [64, 2000000000]", "is not TOML: learning.network.hidden is a number beyond"),
        ("x = " + "9" * 5000, "line 1 has 5004 characters; at most 1000 are read"),
        ("a = [" + "1,\n" * 22000 + "]", "has 0.1 MB; at most 0.064 MB are read"),
        (f"method = '{'x' * 900}'", "(found '" + "x" * 99 + "...)"),
        (f"[methods.{'x' * 900}]", "methods." + "x" * 92 + "...: String should match pattern"),
        (f"{'k' * 900} = 1", "unknown key '" + "k" * 99 + "..."),
        ('method = "\\u001b[31m"', r"(found '\x1b[31m')"),
        ("[learning]\nepochs = [[[[1]]]]", "learning.epochs: Input should be a valid integer (found [[[[1]]]])"),
        ("learning = 3", "learning: Input should be a valid dictionary"),
        ("frontends = {}", "frontends: Input should be a valid tuple"),
        ("[learning]\nlearning_rate = 1e400", "learning.learning_rate: Input should be a finite number (found inf)"),
        ("[learning]\nlearning_rate = -inf", "learning.learning_rate: Input should be a finite number (found -inf)"),
        ("[learning]\nepochs = 1979-05-27", "learning.epochs: Input should be a valid integer"),
        ("a = 1\0", "is not TOML"),
    ],
)
def test_hostile_files_are_one_short_line(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_train_config(file)
    reported = str(caught.value)
    assert message in reported
    assert reported.startswith(f"{file}: ")
    assert "\n" not in reported
    assert len(reported) < len(str(file)) + 450


def test_parse_frontends() -> None:
    assert parse_frontends("logmel") == (LogMelConfig(),)
    assert parse_frontends("descriptors+logmel") == (DescriptorsConfig(), LogMelConfig())


@pytest.mark.parametrize(
    ("text", "part"), [("", ""), ("mfcc", "mfcc"), ("logmel+", ""), ("logmel, mfcc", "logmel, mfcc")]
)
def test_parse_frontends_names_the_unknown_and_the_known(text: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_frontends(text)
    message = str(caught.value)
    assert message.startswith(f"frontend {part!r}: must be one of logmel, descriptors, compare")
    assert message.endswith("; several are joined by '+'")


def test_replace_settings_checks_again() -> None:
    base = TrainConfig()
    assert replace_settings(base, method="inherit").method == "inherit"
    assert base.method == "emoseg"
    with pytest.raises(ConfigError, match=r"method: String should match pattern .* \(found '-'\)"):
        replace_settings(base, method="-")
    with pytest.raises(ConfigError, match=r"^frontends must be distinct, got \['logmel', 'logmel'\]"):
        replace_settings(base, frontends=parse_frontends("logmel+logmel"))
    with pytest.raises(ConfigError, match="unknown key 'seeds'"):
        replace_settings(base, seeds=3)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(TrainConfig(), "method", "inherit")  # noqa: B010 - the type checker refuses the plain assignment


def test_lengths_in_samples_are_rounded() -> None:
    segment = SegmentConfig(sample_rate_hz=22050, length_s=0.3333, hop_s=1.00002)
    assert (segment.length, segment.hop) == (7349, 22050)


def test_the_hash_is_the_same_in_every_run_and_version() -> None:
    # As by: printf '["a"]' | b2sum -l 64. The feature store's names hang on it: a new value here makes every user
    # compute every feature again.
    assert config_hash("a") == "2757634b7f53cf25"
    assert config_hash(LogMelConfig()) == config_hash(LogMelConfig(name="logmel", bands=64))


def test_the_hash_feels_every_change() -> None:
    configs: list[tuple[BaseModel | str, ...]] = [
        (SegmentConfig(), "x"),
        (SegmentConfig(), "y"),
        ("x", SegmentConfig()),
        (SegmentConfig(),),
        (SegmentConfig(hop_s=2.9999),),
        (LogMelConfig(),),
        (DescriptorsConfig(),),
        (LogMelConfig(fft=2048),),
        (TrainConfig(),),
        (TrainConfig(method="inherit"),),
    ]
    assert len({config_hash(*parts) for parts in configs}) == len(configs)
