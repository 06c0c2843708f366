"""The scikit-learn estimator: the model of a model folder, and scikit-learn's own checks."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from made import RATE, song

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.utils import estimator_checks

import emoseg
from emoseg import Analyzer, EmosegError, EmotionClassifier
from emoseg.errors import EmosegWarning

FAST = {"learning": {"epochs": 2, "members": 2}}
ARTISTS = ["a", "b", "c", "d"] * 4


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("recordings")
    files = [root / f"{i:02d}.wav" for i in range(16)]
    for i, file in enumerate(files):
        soundfile.write(file, song(i, happy=i % 8 < 4), RATE)
    return files


@pytest.fixture(scope="module")
def labels() -> list[str]:
    return ["zippy" if i % 8 < 4 else "blue" for i in range(16)]


@pytest.fixture(scope="module")
def fitted(paths: list[Path], labels: list[str]) -> EmotionClassifier:
    return EmotionClassifier(settings=FAST).fit(paths, labels, groups=ARTISTS)


def test_it_learns_labels_of_any_name(fitted: EmotionClassifier, paths: list[Path], labels: list[str]) -> None:
    assert fitted.classes_.tolist() == ["blue", "zippy"]
    probabilities = fitted.predict_proba(paths)
    assert probabilities.shape == (16, 2)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert fitted.predict(paths).tolist() == labels
    assert fitted.score(paths, labels) == 1


def test_it_predicts_what_its_model_folder_predicts(
    fitted: EmotionClassifier, paths: list[Path], tmp_path: Path
) -> None:
    folder = fitted.save_model(tmp_path / "new" / "model")
    analyzer = Analyzer(folder)
    expected = [[analyzer.analyze(path).song.probability(label) for label in fitted.classes_] for path in paths[:4]]
    assert fitted.predict_proba(paths[:4]).tolist() == expected
    with pytest.raises(EmosegError, match="exists already"):
        fitted.save_model(folder)


def test_it_learns_what_training_learns(
    fitted: EmotionClassifier, paths: list[Path], labels: list[str], tmp_path: Path
) -> None:
    rows = [f"{path},{label},{artist}" for path, label, artist in zip(paths, labels, ARTISTS, strict=True)]
    table = tmp_path / "songs.csv"
    table.write_text("\n".join(["path,label,artist", *rows]), encoding="utf-8")
    config = emoseg.TrainConfig.model_validate(FAST)
    out = tmp_path / "model"
    emoseg.train(emoseg.load_corpus(f"csv:{table}"), out, config=config, workers=1, quiet=True)
    saved = fitted.save_model(tmp_path / "saved")
    for name in ("segment.onnx", "song.safetensors"):
        assert (saved / name).read_bytes() == (out / name).read_bytes()


def test_clean_probabilities_find_a_wrong_label(paths: list[Path], labels: list[str]) -> None:
    wrong = ["blue", *labels[1:]]
    fitted = EmotionClassifier(settings=FAST).fit(paths, wrong, groups=ARTISTS)
    assert fitted.clean_probability_.shape == (16,)
    assert fitted.clean_probability_.argmin() == 0
    assert ((fitted.clean_probability_ >= 0) & (fitted.clean_probability_ <= 1)).all()
    means = [segments.mean() for segments in fitted.segment_clean_probability_]
    assert fitted.clean_probability_.tolist() == means


def test_numbers_are_labels_too_and_keep_their_type(paths: list[Path]) -> None:
    values = np.array([10 if i % 8 < 4 else 9 for i in range(16)])
    fitted = EmotionClassifier(settings=FAST).fit(np.array([str(path) for path in paths]), values)
    assert fitted.classes_.tolist() == [9, 10]  # as texts they are the other way round
    assert fitted.predict(paths).tolist() == values.tolist()


def test_the_same_seed_gives_the_same_model(fitted: EmotionClassifier, paths: list[Path], labels: list[str]) -> None:
    again = clone(fitted).fit(paths, labels, groups=ARTISTS)
    other = clone(fitted).set_params(random_state=1).fit(paths, labels, groups=ARTISTS)
    expected = fitted.predict_proba(paths[:3])
    assert np.array_equal(again.predict_proba(paths[:3]), expected)
    assert not np.array_equal(other.predict_proba(paths[:3]), expected)


def test_a_fitted_estimator_survives_pickling(fitted: EmotionClassifier, paths: list[Path]) -> None:
    copy = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(copy.predict_proba(paths[:3]), fitted.predict_proba(paths[:3]))


def test_workers_change_nothing(fitted: EmotionClassifier, paths: list[Path]) -> None:
    two = pickle.loads(pickle.dumps(fitted)).set_params(workers=2)
    assert np.array_equal(two.predict_proba(paths[:4]), fitted.predict_proba(paths[:4]))


def test_bytes_are_classified_too(fitted: EmotionClassifier, paths: list[Path]) -> None:
    expected = fitted.predict_proba(paths[:1])
    assert np.array_equal(fitted.predict_proba([paths[0].read_bytes()]), expected)


def test_it_is_cross_validated_by_scikit_learn(paths: list[Path], labels: list[str]) -> None:
    classifier = EmotionClassifier(settings=FAST)
    scores = cross_val_score(classifier, paths, labels, groups=ARTISTS, cv=GroupKFold(2), error_score="raise")
    assert scores.tolist() == [1.0, 1.0]


def test_what_is_not_music_gets_equal_probabilities_and_a_warning(fitted: EmotionClassifier, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 6 * RATE)
    soundfile.write(tmp_path / "noise.wav", noise, RATE)
    with pytest.warns(EmosegWarning, match=r"noise\.wav: is noise, not music; its labels get equal probabilities"):
        assert fitted.predict_proba([tmp_path / "noise.wav"]).tolist() == [[0.5, 0.5]]


def test_a_recording_that_cannot_be_used_is_a_warning(paths: list[Path], labels: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    classifier = EmotionClassifier(settings=FAST)
    with pytest.warns(EmosegWarning, match=r"not learnt from: .*broken\.wav: cannot be decoded"):
        classifier.fit([broken, *paths], ["blue", *labels])
    assert np.isnan(classifier.clean_probability_[0])
    assert np.isfinite(classifier.clean_probability_[1:]).all()
    assert len(classifier.segment_clean_probability_[0]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["a"] * 15}, "labels has 15 items, but paths has 16: each recording needs one"),
        ({"groups": ["a"] * 17}, "groups has 17 items, but paths has 16"),
        ({"labels": ["same"] * 16}, "labels: must have two or more different values, and all are 'same'"),
        ({"labels": [["a"]] * 16}, r"labels, item 0: must be a text or a number, not \['a'\]"),
        ({"labels": ["a", None] * 8}, "labels, item 1: must be a text or a number, not None"),
        ({"labels": ["a", float("nan")] * 8}, "labels, item 1: must be a text or a number, not nan"),
        ({"labels": ["a", ""] * 8}, "labels, item 1: must be a text or a number, not ''"),
        ({"labels": ["a", 1] * 8}, "labels: must be all texts or all numbers, not both"),
        ({"labels": ["a", "b\n"] * 8}, r"the label 'b\\n' is not printable text"),
        ({"labels": "ab" * 8}, "must be a list, not str"),
        ({"labels": 7}, "labels 7: must be a list, not int"),
        ({"groups": [{}] * 16}, r"groups, item 0: must be a text, a number or None, not \{\}"),
        ({"paths": ["missing.wav"] * 16}, r"missing\.wav: no such file"),
        ({"paths": [7] * 16}, "paths, item 0: must be the path of a recording, not int"),
        ({"paths": "song.wav"}, "paths 'song.wav': must be a list, not str"),
        ({"paths": [], "labels": []}, "paths: must hold recordings, and is empty"),
        ({"paths": [Path(__file__)] * 16}, "is listed more than once"),
        ({"groups": ["one"] * 16}, "artist|group"),
    ],
)
def test_bad_training_data_is_refused(
    paths: list[Path], labels: list[str], arguments: dict[str, Any], message: str
) -> None:
    given = {"paths": paths, "labels": labels, "groups": None, **arguments}
    with pytest.raises(EmosegError, match=message):
        EmotionClassifier(settings=FAST).fit(given["paths"], given["labels"], groups=given["groups"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "magic"}, "magic"),
        ({"settings": 5}, "settings 5: must be a TrainConfig, a mapping, or None"),
        ({"settings": {"learning": {"epochs": 0}}}, "epochs"),
        ({"random_state": -1}, "random_state -1: must be a whole number, at least 0"),
        ({"random_state": None}, "random_state None: must be a whole number"),
        ({"workers": 0}, "workers 0: must be a whole number, at least 1"),
    ],
)
def test_bad_parameters_are_refused_when_fitting(
    paths: list[Path], labels: list[str], parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(EmosegError, match=message):
        EmotionClassifier(**{"settings": FAST, **parameters}).fit(paths, labels)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["missing.wav"], r"missing\.wav: no such file"),
        ([None], "a recording is a path, .* not NoneType"),
        ("song.wav", "paths 'song.wav': must be a list, not str"),
        (7, "paths 7: must be a list, not int"),
    ],
)
def test_bad_recordings_are_refused_when_predicting(fitted: EmotionClassifier, sources: Any, message: str) -> None:
    with pytest.raises(EmosegError, match=message):
        fitted.predict(sources)


# --- scikit-learn's own checks ---------------------------------------------------------------------------------------

APPLICABLE = [
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
]
BY_HAND = {
    "check_classifiers_classes": "test_it_learns_labels_of_any_name, test_numbers_are_labels_too_and_keep_their_type",
    "check_classifiers_one_label": "test_bad_training_data_is_refused: one label is an error",
    "check_classifiers_train": "test_it_learns_labels_of_any_name, test_bad_training_data_is_refused",
    "check_dict_unchanged": "test_predicting_and_fitting_keep_the_estimator",
    "check_dont_overwrite_parameters": "test_predicting_and_fitting_keep_the_estimator",
    "check_estimators_empty_data_messages": "test_bad_training_data_is_refused",
    "check_estimators_fit_returns_self": "test_predicting_and_fitting_keep_the_estimator",
    "check_estimators_overwrite_params": "test_predicting_and_fitting_keep_the_estimator",
    "check_estimators_pickle": "test_a_fitted_estimator_survives_pickling",
    "check_fit_check_is_fitted": "test_predicting_and_fitting_keep_the_estimator",
    "check_fit_idempotent": "test_the_same_seed_gives_the_same_model",
    "check_methods_sample_order_invariance": "test_order_and_subsets_change_no_prediction",
    "check_methods_subset_invariance": "test_order_and_subsets_change_no_prediction",
    "check_supervised_y_no_nan": "test_bad_training_data_is_refused",
}
"""Checks that give every estimator tables of numbers; the same is tested here with recordings."""


@pytest.mark.parametrize("name", APPLICABLE)
def test_checks_of_scikit_learn_pass(name: str) -> None:
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip("this scikit-learn has no such check")
    check("EmotionClassifier", EmotionClassifier())


class _OfTables(EmotionClassifier):
    """The estimator with the claim that it takes tables, because scikit-learn checks no other."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def test_the_other_checks_need_tables_of_numbers() -> None:
    """List what scikit-learn would check: what is not above fits on numbers, which are no recordings."""
    if not hasattr(estimator_checks, "estimator_checks_generator"):
        pytest.skip("this scikit-learn cannot list its checks")
    checks = estimator_checks.estimator_checks_generator(_OfTables(), legacy=True, mark=None)
    names = {check.func.__name__ for _, check in checks}
    assert names > set(APPLICABLE)
    rest = names - set(APPLICABLE) - set(BY_HAND)
    assert rest <= {
        # Types, layouts and shapes of a table of features, of which there is none.
        "check_array_api_input",
        "check_classifier_data_not_an_array",
        "check_complex_data",
        "check_dtype_object",
        "check_estimator_sparse_array",
        "check_estimator_sparse_matrix",
        "check_estimator_sparse_tag",
        "check_estimators_data_not_an_array",
        "check_estimators_dtypes",
        "check_estimators_nan_inf",
        "check_f_contiguous_array_estimator",
        "check_fit1d",
        "check_fit2d_1feature",
        "check_fit2d_1sample",
        "check_fit2d_predict1d",
        "check_n_features_in",
        "check_n_features_in_after_fitting",
        "check_positive_only_tag_during_fit",
        "check_readonly_memmap_input",
        # Labels that are tables or real numbers.
        "check_classifiers_regression_target",
        "check_supervised_y_2d",
        # Whether a fit takes a table and labels; a fit of no recordings is refused.
        "check_fit_score_takes_y",
        "check_pipeline_consistency",
        "check_requires_y_none",
        # Methods and attributes that the estimator does not have: weights, decision_function, partial_fit, n_iter_.
        "check_classifiers_one_label_sample_weights",
        "check_decision_proba_consistency",
        "check_estimators_partial_fit_n_features",
        "check_non_transformer_estimators_n_iter",
    }


def test_predicting_and_fitting_keep_the_estimator(paths: list[Path], labels: list[str]) -> None:
    classifier = EmotionClassifier(settings=FAST)
    parameters = classifier.get_params()
    with pytest.raises(NotFittedError):
        classifier.predict(paths)
    with pytest.raises(NotFittedError):
        classifier.save_model("model")
    assert classifier.fit(paths, labels, groups=ARTISTS) is classifier
    assert classifier.get_params() == parameters
    before = vars(classifier).copy()
    classifier.predict(paths[:2])
    assert vars(classifier).keys() == before.keys()
    assert all(vars(classifier)[name] is value for name, value in before.items())


def test_order_and_subsets_change_no_prediction(fitted: EmotionClassifier, paths: list[Path]) -> None:
    table = fitted.predict_proba(paths[:4])
    assert np.array_equal(fitted.predict_proba(paths[:4][::-1]), table[::-1])
    assert np.array_equal(np.concatenate([fitted.predict_proba([path]) for path in paths[:4]]), table)
