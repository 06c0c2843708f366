"""Heavy packages are loaded only by what needs them, as a fresh interpreter shows; every public name is there."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from emoseg.version import VERSION

HEAVY = ("torch", "sklearn", "onnx", "fastapi", "matplotlib", "librosa", "transformers")
# What help has no use for, and would wait for.
SLOW = ("scipy", "onnxruntime", "soundfile", "pyarrow", "numpy")
TELL = "import json, sys; print('LOADED' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def loaded(code: str) -> set[str]:
    """Top-level packages in a new interpreter after `code`."""
    done = subprocess.run([sys.executable, "-c", f"{code}\n{TELL}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.rpartition("LOADED")[2]))


def command(*args: str) -> str:
    return f"""
import sys
from emoseg.cli.app import main
sys.argv = ["emoseg", *{args!r}]
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
"""


def test_the_check_itself_sees_a_package() -> None:
    assert "numpy" in loaded("import numpy")


@pytest.mark.parametrize(
    "code",
    [
        "import emoseg",
        "import emoseg; dir(emoseg)",
        command("--help"),
        command("--version"),
        command("train", "--help"),
        command("corpus", "--help"),
    ],
    ids=["import", "dir", "--help", "--version", "train --help", "corpus --help"],
)
def test_import_and_help_load_nothing_heavy(code: str) -> None:
    found = loaded(code)
    assert "emoseg" in found
    assert found & set(HEAVY) == set()
    assert found & set(SLOW) == set()


def test_every_public_name_can_be_imported() -> None:
    import emoseg

    assert sorted(emoseg.__all__) == dir(emoseg)
    for name in emoseg.__all__:
        if name == "EmotionClassifier" and find_spec("sklearn") is None:
            with pytest.raises(emoseg.MissingExtraError, match="pip install torch scikit-learn"):
                getattr(emoseg, name)
        else:
            assert getattr(emoseg, name) is not None


def test_public_functions_are_no_modules() -> None:
    code = "import emoseg, emoseg.training, emoseg.evaluation, emoseg.analysis.analyzer"
    names = ("train", "evaluate", "analyze", "analyze_many", "load_corpus", "load_model")
    assert loaded(f"{code}\nassert all(callable(getattr(emoseg, name)) for name in {names})")


def test_an_unknown_name_is_an_attribute_error() -> None:
    import emoseg

    with pytest.raises(AttributeError, match="module 'emoseg' has no attribute 'analyse'"):
        emoseg.analyse  # noqa: B018


def test_the_package_runs_like_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "emoseg", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"emoseg {VERSION}\n"


def test_analysis_loads_no_learning_package() -> None:
    found = loaded("import emoseg.analysis.many, emoseg.writers, emoseg.analysis.model_folder, emoseg.frontends")
    assert "numpy" in found
    assert found & set(HEAVY) == set()


def test_reading_a_corpus_loads_no_learning_package() -> None:
    assert loaded("import emoseg.corpora, emoseg.checking.check, emoseg.corpora.segments").isdisjoint(HEAVY)


def test_the_public_names_of_evaluation_and_training_wait_with_torch() -> None:
    assert loaded("import emoseg.evaluation, emoseg.training").isdisjoint(HEAVY)
