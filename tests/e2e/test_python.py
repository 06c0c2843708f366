"""The Python interface: sources of every form, many recordings, pickling, threads, and bad input."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from made import RATE, make_songs, tone

import emoseg
from emoseg.analysis.analyzer import Analyzer
from emoseg.audio.reader import read
from emoseg.audio.sources import opened
from emoseg.corpora.base import Corpus
from emoseg.types import Analysis, AnalysisFailure, Recording


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_songs(tmp_path_factory.mktemp("songs"), 4)


@pytest.fixture(scope="module")
def analyzer(model: Path) -> Analyzer:
    return Analyzer(model)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the temporary files of a test a folder of their own, which must be empty afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def same(found: Analysis | AnalysisFailure, expected: Analysis, *, path: str | None = None) -> None:
    assert isinstance(found, Analysis), found
    assert found.path == (path or expected.path)
    assert (found.song, found.segments, found.spans) == (expected.song, expected.segments, expected.spans)
    assert np.array_equal(found.peaks, expected.peaks)


def mp3_with_odd_header(samples: np.ndarray[Any, Any]) -> bytes:
    """Return an mp3 with two ID3 tags before it, the second of them damaged, as a careless tagger leaves them."""
    sink = io.BytesIO()
    soundfile.write(sink, samples, RATE, format="MP3")
    sound = sink.getvalue()
    empty = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 0]) + bytes(256)
    odd = b"ID3\x03\x00\x00" + bytes([0, 0, 1, 0]) + b"TIT2\x00\x00\x7f\xff\x00\x00" + bytes(118)
    return empty + odd + sound


# --- sources ---------------------------------------------------------------------------------------------------------


def test_every_form_of_a_file_gives_the_same_analysis(analyzer: Analyzer, songs: list[Path], temporary: Path) -> None:
    expected = analyzer.analyze(songs[0])
    content = songs[0].read_bytes()
    same(analyzer.analyze(str(songs[0])), expected)
    for form in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
        same(analyzer.analyze(form), expected, path="<file>" if isinstance(form, io.BytesIO) else "<bytes>")
    with songs[0].open("rb") as file:
        same(analyzer.analyze(file), expected)
        assert not file.closed


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg"])
def test_bytes_are_read_like_a_file_of_their_format(
    analyzer: Analyzer, tmp_path: Path, temporary: Path, suffix: str
) -> None:
    file = tmp_path / f"a.{suffix}"
    soundfile.write(file, tone(1), RATE)
    same(analyzer.analyze(file.read_bytes()), analyzer.analyze(file), path="<bytes>")


def test_mp3_with_odd_headers_reads_the_same_from_a_path_and_from_bytes(
    analyzer: Analyzer, tmp_path: Path, temporary: Path
) -> None:
    content = mp3_with_odd_header(tone(2))
    file = tmp_path / "odd.mp3"
    file.write_bytes(content)
    expected = analyzer.analyze(file)
    same(analyzer.analyze(content), expected, path="<bytes>")
    same(analyzer.analyze(io.BytesIO(content)), expected, path="<file>")


def test_every_form_of_samples_gives_the_same_analysis(analyzer: Analyzer) -> None:
    torch = pytest.importorskip("torch")
    samples = tone(3)
    expected = analyzer.analyze(Recording(samples, RATE))
    stereo = np.stack([samples, samples], axis=1)
    for form in (samples, samples.astype(np.float64), samples.tolist(), tuple(samples.tolist()), stereo):
        same(analyzer.analyze(form, sample_rate_hz=RATE), expected)
    same(analyzer.analyze(torch.from_numpy(samples), sample_rate_hz=RATE), expected)
    whole = np.round(samples * 2**15).astype(np.int16)
    same(
        analyzer.analyze(whole, sample_rate_hz=RATE),
        analyzer.analyze(whole.astype(np.float32) / 2**15, sample_rate_hz=RATE),
    )


def test_what_a_killed_process_left_is_removed(analyzer: Analyzer, songs: list[Path], temporary: Path) -> None:
    left = temporary / ".emoseg-0123456789abcdef.tmp"
    left.mkdir()
    (left / "recording.mp3").write_bytes(b"sound")
    analyzer.analyze(songs[0].read_bytes())
    assert not left.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_nobody_else_may_read_the_temporary_file(temporary: Path) -> None:
    with opened(b"some sound") as file:
        assert isinstance(file, str)
        assert Path(file).stat().st_mode & 0o077 == 0
        assert Path(file).read_bytes() == b"some sound"


def test_a_damaged_file_object_is_named_as_its_user_knows_it(analyzer: Analyzer, temporary: Path) -> None:
    damaged = io.BytesIO(b"this is no sound" * 100)
    damaged.name = "mine.mp3"
    with pytest.raises(emoseg.AudioError, match=r"^mine\.mp3: cannot be decoded") as caught:
        analyzer.analyze(damaged)
    assert str(temporary) not in str(caught.value)
    assert ".emoseg-" not in str(caught.value)


class _Broken(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise OSError("the drive is gone")


def _tensor_with_gradient() -> Any:
    torch = pytest.importorskip("torch")
    return torch.zeros(RATE, requires_grad=True)


@pytest.mark.parametrize(
    ("source", "rate", "message"),
    [
        (np.zeros(0, np.float32), RATE, r"<array>: holds no sound: it has no samples"),
        ([], RATE, r"<array>: holds no sound: it has no samples"),
        (np.zeros((0, 2)), RATE, r"<array>: holds no sound: it has no samples"),
        (np.zeros((3, 0)), RATE, r"<array>: samples of shape \(3, 0\) have no channel"),
        (np.zeros((2, 2, 2)), RATE, r"samples must have shape \(n,\) or \(n, C\), got \(2, 2, 2\)"),
        (np.zeros((2, RATE)), RATE, r"\(2, 22050\) is shape \(n, C\) the wrong way round: transpose it"),
        (np.array(0.5), RATE, r"samples must have shape \(n,\) or \(n, C\), got \(\)"),
        (np.full(RATE, np.nan), RATE, r"<array>: has a sample at 0\.000 s that is not a finite number"),
        (np.full(RATE, np.inf), RATE, r"<array>: has a sample at 0\.000 s that is not a finite number"),
        (np.full(RATE, 1e20), RATE, r"has a sample of 1e\+20 at 0\.000 s: full scale is 1"),
        (np.zeros(5 * RATE), RATE, r"<array>: is silent"),
        (np.zeros(RATE, complex), RATE, r"samples must be real numbers, got complex128"),
        (np.zeros(RATE, bool), RATE, r"samples must be real numbers, got bool"),
        ([None] * RATE, RATE, r"samples must be real numbers, got object"),
        ([[0.1], [0.1, 0.2]], RATE, r"a list that numpy cannot turn into an array"),
        ([0, 1, 2], RATE, r"a list of whole numbers: whole numbers without a type have no full scale"),
        (_tensor_with_gradient, RATE, r"a Tensor that numpy cannot turn into an array"),
        (np.zeros(RATE), None, r"an array of samples needs its sample rate"),
        (np.zeros(RATE), "fast", r"sample_rate_hz 'fast': must be a whole number"),
        (np.zeros(RATE), 0, r"sample_rate_hz must be above 0, got 0"),
        (np.zeros(RATE), 10**7, r"sample rate 10000000 Hz is outside"),
        ("song.mp3", RATE, r"sample_rate_hz 22050: is for an array of samples"),
        (b"RIFF", RATE, r"sample_rate_hz 22050: is for an array of samples"),
        (Recording(np.zeros(RATE, np.float32), RATE), RATE, r"sample_rate_hz 22050: is for an array of samples"),
        (Recording(np.zeros((RATE, 2), np.float32), RATE), None, r"samples must be mono, of shape \(n,\)"),
        (b"", None, r"<bytes>: is an empty file"),
        (io.BytesIO(), None, r"<file>: is an empty file"),
        (io.StringIO("text"), None, r"<file>: read\(\) returns str, not bytes: open the file in binary mode"),
        (_Broken, None, r"<file>: cannot be read: the drive is gone"),
        (["a.mp3", "b.mp3"], None, r"a recording is one source, not a list of texts: for several use analyze_many"),
        (None, None, r"a recording is a path, .* not NoneType"),
        (7, None, r"a recording is a path, .* not int"),
        ({"a": 1}, None, r"a recording is a path, .* not dict"),
        ("no such file.mp3", None, r"no such file\.mp3: no such file"),
        ("", None, r"no such file|is a folder"),
        ("a\0b.mp3", None, r"no such file"),
    ],
)
def test_a_bad_source_is_refused_with_its_value_and_the_rule(
    analyzer: Analyzer, temporary: Path, source: Any, rate: Any, message: str
) -> None:
    made = source() if callable(source) else source
    with pytest.raises(emoseg.EmosegError, match=message):
        analyzer.analyze(made, sample_rate_hz=rate)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": 5}, r"model 5: must be a model folder or the name of a bundled model"),
        ({"model": "no such model"}, r"no such model"),
        ({"hop_s": 0.0}, r"hop 0\.0 s: must be above 0\.05 and at most 60 s"),
        ({"hop_s": float("nan")}, r"hop nan s: must be above 0\.05"),
        ({"hop_s": "fast"}, r"hop 'fast' s: must be above 0\.05"),
    ],
)
def test_bad_settings_are_refused_with_their_value_and_the_rule(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(emoseg.EmosegError, match=message):
        emoseg.analyze(np.zeros(RATE), sample_rate_hz=RATE, **settings)


def _train(corpus: Any, **settings: Any) -> object:
    return emoseg.train(corpus, "model", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corpus": "folder:my-songs"}, "corpus 'folder:my-songs': must be a Corpus, which load_corpus returns"),
        ({"config": {"method": "mixup"}}, "config {'method': 'mixup'}: must be a TrainConfig"),
        ({"workers": 0}, "workers 0: must be a whole number, at least 1"),
        ({"seed": -1}, "seed -1: must be a whole number, at least 0"),
        ({"seed": 0.5}, "seed 0.5: must be a whole number, at least 0"),
    ],
)
def test_bad_arguments_of_training_and_evaluation_are_refused(settings: dict[str, Any], message: str) -> None:
    pytest.importorskip("torch")
    space = emoseg.Analyzer().model.space
    given = {"corpus": Corpus("none", Path(), space, ()), **settings}
    calls: list[Callable[..., object]] = [_train] if "seed" in settings else [_train, emoseg.evaluate]
    for call in calls:
        with pytest.raises(emoseg.ConfigError, match=re.escape(message)):
            call(**given)


@pytest.mark.parametrize("spec", ["my-songs", "folder:", 7, None])
def test_a_bad_corpus_is_refused(spec: Any) -> None:
    with pytest.raises(emoseg.CorpusError, match="must be NAME:PATH with NAME one of 4q"):
        emoseg.load_corpus(spec)


@pytest.mark.parametrize("batch", [0, -1, 1.5, "all"])
def test_a_bad_batch_is_refused(analyzer: Analyzer, batch: Any) -> None:
    with pytest.raises(emoseg.ConfigError, match="must be a whole number of segments, at least 1"):
        analyzer.analyze(tone(1), sample_rate_hz=RATE, batch=batch)


def test_analyze_takes_what_an_analyzer_takes(model: Path, songs: list[Path]) -> None:
    found = emoseg.analyze(songs[1], model=model, hop_s=1.0)
    same(found, Analyzer(model, hop_s=1.0).analyze(songs[1]))
    same(
        emoseg.analyze(tone(1), model=model, sample_rate_hz=RATE), Analyzer(model).analyze(tone(1), sample_rate_hz=RATE)
    )


# --- excerpts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset_s", "duration_s"), [(0.0, 3.5), (2.0, None), (1.25, 4.0), (3.0, 100.0)])
def test_an_excerpt_is_analysed_as_a_recording_of_its_own(
    analyzer: Analyzer, songs: list[Path], offset_s: float, duration_s: float | None
) -> None:
    whole = read(songs[1], sample_rate_hz=analyzer.segment.sample_rate_hz)
    first = round(offset_s * whole.sample_rate_hz)
    end = None if duration_s is None else first + round(duration_s * whole.sample_rate_hz)
    part = Recording(whole.samples[first:end], whole.sample_rate_hz)
    found = analyzer.analyze(songs[1], offset_s=offset_s, duration_s=duration_s)
    same(found, analyzer.analyze(part), path=found.path)
    assert found.duration_s == pytest.approx(min(7.0 - offset_s, duration_s or 100), abs=0.1)


def test_an_excerpt_is_named_and_nothing_behind_it_matters(analyzer: Analyzer) -> None:
    samples = np.concatenate([tone(1, seconds=10), np.full(RATE, np.nan, np.float32)])
    found = analyzer.analyze(samples, sample_rate_hz=RATE, offset_s=1, duration_s=5)
    assert found.path == "<array>#t=1,6"
    assert analyzer.analyze(tone(1), sample_rate_hz=RATE, offset_s=2.5).path == "<array>#t=2.5"
    with pytest.raises(emoseg.AudioError, match="not a finite number"):
        analyzer.analyze(samples, sample_rate_hz=RATE, offset_s=1)


@pytest.mark.parametrize(
    ("excerpt", "message"),
    [
        ({"offset_s": -1}, "offset_s -1: must be a number of seconds, at least 0"),
        ({"offset_s": float("nan")}, "offset_s nan: must be a number of seconds"),
        ({"offset_s": "1:30"}, "offset_s '1:30': must be a number of seconds"),
        ({"duration_s": 0}, "duration_s 0: must be a number of seconds above 0, or None"),
        ({"duration_s": float("inf")}, "duration_s inf: must be a number of seconds above 0"),
        ({"offset_s": 100.0}, "<array>: holds no sound after 100 s: it has no samples"),
        ({"duration_s": 0.5}, "<array>: lasts 0.5 s, shorter than the minimum"),
    ],
)
def test_a_bad_excerpt_is_refused(model: Path, excerpt: dict[str, Any], message: str) -> None:
    with pytest.raises(emoseg.EmosegError, match=message):
        emoseg.analyze(tone(1), model=model, sample_rate_hz=RATE, **excerpt)


# --- many ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_many_recordings_come_in_order_with_failures_between_them(
    analyzer: Analyzer, songs: list[Path], model: Path, workers: int
) -> None:
    with songs[2].open("rb") as file:
        sources: list[Any] = [
            songs[1],
            "missing.mp3",
            file,
            songs[0].read_bytes(),
            tone(1),
            None,
            io.StringIO("a"),
            songs[3],
        ]
        steps: list[tuple[int, int]] = []
        results = list(
            emoseg.analyze_many(
                sources,
                model=model,
                workers=workers,
                sample_rate_hz=RATE,
                on_progress=lambda done, total: steps.append((done, total)),
            )
        )
    assert steps == [(i, 8) for i in range(1, 9)]
    for index, song in ((0, 1), (2, 2), (7, 3)):
        same(results[index], analyzer.analyze(songs[song]))
    same(results[3], analyzer.analyze(songs[0]), path="<bytes>")
    same(results[4], analyzer.analyze(tone(1), sample_rate_hz=RATE))
    failures = [result for result in results if isinstance(result, AnalysisFailure)]
    assert [(f.path, f.error_type) for f in failures] == [
        ("missing.mp3", "missing"),
        ("<array>", "ConfigError"),
        ("<file>", "ConfigError"),
    ]
    assert "not NoneType" in failures[1].message


def test_results_stream_while_later_recordings_wait(model: Path, songs: list[Path]) -> None:
    asked: list[int] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(id(self))
            return super().read(size)

    files = [Watched(song.read_bytes()) for song in songs]
    results = emoseg.analyze_many(files, model=model)
    assert asked == []
    next(results)
    assert set(asked) == {id(files[0])}
    results.close()


def test_a_folder_stands_for_its_recordings(model: Path, songs: list[Path]) -> None:
    results = list(emoseg.analyze_many(songs[0].parents[2], model=model))
    assert [result.path for result in results] == [str(song) for song in sorted(songs)]


def test_an_analyzer_may_be_used_for_many(model: Path, songs: list[Path]) -> None:
    fine = Analyzer(model, hop_s=0.5)
    [found] = emoseg.analyze_many([songs[0]], model=fine, workers=2)
    same(found, fine.analyze(songs[0]))
    assert list(emoseg.analyze_many([], model=fine, workers=2)) == []


@pytest.mark.parametrize(
    ("sources", "settings", "message"),
    [
        ([], {"workers": 0}, "workers 0: must be a whole number, at least 1"),
        ([], {"workers": 2.5}, "workers 2.5: must be a whole number"),
        ([], {"workers": True}, "workers True: must be a whole number"),
        (7, {}, "sources must be a list of recordings or a folder, not int"),
        (b"RIFF", {}, "sources must be a list of recordings or a folder, not bytes"),
        (__file__, {}, "is one recording: use analyze, or give a list or a folder"),
        ("no such folder", {}, "no such folder: no such folder"),
        ([], {"model": "no such model"}, "no such model"),
    ],
)
def test_bad_arguments_for_many_are_refused_at_once(
    model: Path, sources: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(emoseg.EmosegError, match=message):
        emoseg.analyze_many(sources, **{"model": model, **settings})


class Deadly(os.PathLike[str]):
    """A path that ends the process that asks for it a second time, as a crash in a decoder would."""

    def __fspath__(self) -> str:
        if multiprocessing.parent_process() is not None:
            os._exit(9)
        return "deadly.mp3"


def test_a_recording_that_ends_its_process_is_a_failure(
    model: Path, songs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from emoseg.analysis import many

    monkeypatch.setattr(many, "portable", lambda source: source)
    results = list(emoseg.analyze_many([songs[0], Deadly(), songs[1], songs[2]], model=model, workers=2))
    assert [isinstance(result, Analysis) for result in results] == [True, False, True, True]
    assert results[1] == AnalysisFailure("deadly.mp3", "crashed", "deadly.mp3: ended its process twice (status 9)")


# --- threads and processes -------------------------------------------------------------------------------------------


def test_a_pickled_analyzer_gives_the_same_analyses(model: Path, songs: list[Path]) -> None:
    for original in (Analyzer(model, hop_s=0.7), Analyzer(model)):
        original.analyze(songs[0])  # has a session by now
        copy = pickle.loads(pickle.dumps(original))
        assert copy.segment == original.segment
        same(copy.analyze(songs[0]), original.analyze(songs[0]))
    assert repr(pickle.loads(pickle.dumps(Analyzer()))) == repr(Analyzer()) == "Analyzer('4q')"


def test_threads_share_an_analyzer(analyzer: Analyzer, model: Path, songs: list[Path]) -> None:
    fresh = Analyzer(model)  # whose session is made by the threads
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(fresh.analyze, songs * 3))
    for result, song in zip(results, songs * 3, strict=True):
        same(result, analyzer.analyze(song))


@pytest.mark.parametrize("method", [m for m in ("spawn", "fork") if m in multiprocessing.get_all_start_methods()])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_processes_of_every_kind_take_an_analyzer(analyzer: Analyzer, songs: list[Path], method: str) -> None:
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.map(analyzer.analyze, songs)
    for result, song in zip(results, songs, strict=True):
        same(result, analyzer.analyze(song))
