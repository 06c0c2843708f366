from __future__ import annotations

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoseg.emotion import QUADRANTS
from emoseg.errors import ConfigError, CorpusError
from emoseg.synthesis.corpus import write_corpus
from emoseg.synthesis.plan import SectionPlan, SongPlan, draw_artist, plan_song
from emoseg.synthesis.score import SCALES, Note, write_score
from emoseg.synthesis.sound import compose, render
from emoseg.types import Float32, Section

RATE = 22050


def plans(count: int, *, duration_s: float = 30.0) -> list[SongPlan]:
    return [
        plan_song(np.random.default_rng([5, i]), label=QUADRANTS.labels[i % 4], duration_s=duration_s)
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def sixty() -> list[SongPlan]:
    return plans(60)


@pytest.fixture(scope="module")
def songs() -> dict[str, list[Float32]]:
    return {
        label: [compose(np.random.default_rng([7, i]), label=label, duration_s=10)[0] for i in range(8)]
        for label in QUADRANTS.labels
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "corpus"
    write_corpus(out, songs=8, seed=3, duration_s=10, workers=1, quiet=True)
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def seconds_of(truth: tuple[Section, ...], label: str, start_s: float = 0.0, end_s: float = np.inf) -> float:
    return sum(max(0.0, min(end_s, s.end_s) - max(start_s, s.start_s)) for s in truth if s.label == label)


def wrong_segments(plan: SongPlan) -> list[bool]:
    result = []
    for start_s in np.arange(0, plan.duration_s, 3.0).tolist():
        most = max(QUADRANTS.labels, key=lambda label: seconds_of(plan.truth, label, start_s, start_s + 3))
        result.append(most != plan.label)
    return result


def all_sections(songs_planned: list[SongPlan], labels: tuple[str, ...]) -> list[SectionPlan]:
    return [s for plan in songs_planned for s in plan.sections if s.label in labels]


def spectral_centroid_hz(samples: Float32) -> float:
    magnitude = np.abs(np.fft.rfft(samples))
    return float(np.sum(np.fft.rfftfreq(len(samples), 1 / RATE) * magnitude) / np.sum(magnitude))


def rms_db(samples: Float32) -> float:
    return float(10 * np.log10(np.mean(np.square(samples))))


@pytest.mark.parametrize("duration_s", [8.0, 12.0, 30.0, 61.7])
def test_truth_covers_the_song_and_the_label_dominates(duration_s: float) -> None:
    for plan in plans(40, duration_s=duration_s):
        truth = plan.truth
        assert truth[0].start_s == 0
        assert truth[-1].end_s == duration_s
        assert all(a.end_s == b.start_s for a, b in pairwise(truth))
        assert all(a.label != b.label for a, b in pairwise(truth))
        assert all(s.end_s > s.start_s for s in truth)
        assert seconds_of(truth, plan.label) > 0.5 * duration_s


def test_sections_change_at_bar_lines_off_the_segment_grid(sixty: list[SongPlan]) -> None:
    changes = [s for plan in sixty for s in plan.sections[:-1]]
    bars = np.array([(s.end_s - s.start_s) / s.bar_s for s in changes])
    np.testing.assert_allclose(bars, np.round(bars), atol=1e-6)
    assert np.mean([abs(s.end_s / 3 - round(s.end_s / 3)) < 0.01 for s in changes]) < 0.1


def test_shares_of_wrong_labels() -> None:
    many = plans(400)
    assert 0.60 <= np.mean([len(plan.sections) > 1 for plan in many]) <= 0.74
    assert 0.19 <= np.mean([wrong_segments(plan) for plan in many]) <= 0.25
    # Sixty songs are enough to come near.
    assert 0.14 <= np.mean([wrong_segments(plan) for plan in many[:60]]) <= 0.30


def test_foreign_emotions_are_rather_neighbours_than_opposites() -> None:
    steps = [
        (QUADRANTS.index(s.label) - QUADRANTS.index(plan.label)) % 4
        for plan in plans(400)
        for s in plan.sections
        if s.label != plan.label
    ]
    share = np.bincount(steps, minlength=4) / len(steps)
    assert share[2] > 0.1
    assert share[1] > 1.4 * share[2]
    assert share[3] > 1.4 * share[2]


def test_cues_follow_the_quadrants(sixty: list[SongPlan]) -> None:
    def mean(name: str, *labels: str) -> float:
        return float(np.mean([getattr(s.cues, name) for s in all_sections(sixty, labels)]))

    assert mean("tempo_bpm", "Q1", "Q2") > 1.3 * mean("tempo_bpm", "Q3", "Q4")
    assert mean("is_major", "Q1", "Q4") > 0.7 > 0.3 > mean("is_major", "Q2", "Q3")
    assert mean("level_db", "Q2") > mean("level_db", "Q3") + 5
    assert mean("articulation", "Q3", "Q4") > mean("articulation", "Q1", "Q2") + 0.15
    assert mean("register_midi", "Q1") > mean("register_midi", "Q3") + 6
    assert mean("roughness", "Q2") > mean("roughness", "Q1", "Q3", "Q4") + 0.2
    assert mean("attack_s", "Q3") > 2 * mean("attack_s", "Q2")


def test_cues_overlap(sixty: list[SongPlan]) -> None:
    fast = [s.cues.tempo_bpm for s in all_sections(sixty, ("Q1", "Q2"))]
    slow = [s.cues.tempo_bpm for s in all_sections(sixty, ("Q3", "Q4"))]
    assert min(fast) < max(slow)
    assert any(s.cues.is_major for s in all_sections(sixty, ("Q2", "Q3")))
    assert any(not s.cues.is_major for s in all_sections(sixty, ("Q1", "Q4")))


def test_artist_leanings_move_the_cues() -> None:
    artist = draw_artist(np.random.default_rng(0))
    tempo = {
        lean: np.mean(
            [
                s.cues.tempo_bpm
                for i in range(10)
                for s in plan_song(
                    np.random.default_rng(i),
                    label="Q4",
                    artist=replace(artist, leanings={**artist.leanings, "tempo_bpm": lean}),
                ).sections
            ]
        )
        for lean in (-3.0, 3.0)
    }
    assert tempo[3.0] > 1.2 * tempo[-3.0]


def test_score_keeps_to_key_range_and_section() -> None:
    for plan in plans(8):
        score = write_score(np.random.default_rng(1), plan)
        for section, notes in zip(plan.sections, score, strict=True):
            assert notes
            assert min(n.start_s for n in notes) >= section.start_s
            assert max(n.start_s + n.duration_s for n in notes) <= section.end_s + 1e-9
            melody = {(n.midi - plan.tonic) % 12 for n in notes if n.part == "lead"}
            assert melody <= set(SCALES[section.cues.mode])
            tonal = [n.midi for n in notes if n.part in ("lead", "comp", "bass")]
            assert min(tonal) >= 18
            assert max(tonal) <= 110


def test_score_has_a_bar_of_harmony_per_bar() -> None:
    plan = next(p for p in plans(20) if len(p.sections) == 1)
    (notes,) = write_score(np.random.default_rng(1), plan)
    section = plan.sections[0]
    bars = {int((n.start_s + 0.06) / section.bar_s) for n in notes if n.part == "comp"}
    assert set(range(int(plan.duration_s / section.bar_s))) <= bars


def test_compose_depends_on_its_generator_alone() -> None:
    first, truth = compose(np.random.default_rng(4), label="Q1", duration_s=10)
    second, same_truth = compose(np.random.default_rng(4), label="Q1", duration_s=10)
    other, _ = compose(np.random.default_rng(5), label="Q1", duration_s=10)
    np.testing.assert_array_equal(first, second)
    assert truth == same_truth
    assert not np.array_equal(first, other)


def test_sound_is_sane(songs: dict[str, list[Float32]]) -> None:
    for samples in (s for group in songs.values() for s in group):
        assert samples.dtype == np.float32
        assert samples.shape == (10 * RATE,)
        assert np.all(np.isfinite(samples))
        assert np.max(np.abs(samples)) < 1
        assert -36 < rms_db(samples) < -10
        assert abs(float(np.mean(samples))) < 0.01
        # No stretch of a second is silent.
        assert all(rms_db(second) < 0 and rms_db(second) > -60 for second in samples.reshape(10, RATE))


def test_tense_is_brighter_and_louder_than_sad(songs: dict[str, list[Float32]]) -> None:
    centroid = {label: np.mean([spectral_centroid_hz(s) for s in group]) for label, group in songs.items()}
    level = {label: np.mean([rms_db(s) for s in group]) for label, group in songs.items()}
    assert centroid["Q2"] > 1.3 * centroid["Q3"]
    assert level["Q2"] > level["Q3"] + 2


@pytest.mark.parametrize("timbre", ["piano", "flute", "brass"])
def test_notes_sound_at_their_pitch(timbre: str) -> None:
    rng = np.random.default_rng(2)
    plan = next(p for p in plans(20, duration_s=8) if p.label == "Q4" and len(p.sections) == 1)
    plan = replace(
        plan,
        artist=replace(plan.artist, noise_db=-80, hum_hz=0.0, timbres={**plan.artist.timbres, "lead": timbre}),
        sections=(replace(plan.sections[0], cues=replace(plan.sections[0].cues, vibrato=0.0, roughness=0.0)),),
    )
    samples = render(rng, plan, ((Note("lead", 1.0, 5.0, 69, 0.8),),), RATE)
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    frequency_hz = np.fft.rfftfreq(len(samples), 1 / RATE)
    partial = np.maximum(np.round(frequency_hz / 440), 1)
    assert np.sum(power[np.abs(frequency_hz / (440 * partial) - 1) < 0.005]) > 0.9 * np.sum(power)
    # Nothing sounds before the note.
    assert rms_db(samples[: RATE - 1000]) < rms_db(samples[2 * RATE : 3 * RATE]) - 40


def test_sections_sound_at_their_level() -> None:
    plan = next(p for p in plans(40) if len(p.sections) == 2)
    first, second = plan.sections
    plan = replace(
        plan,
        sections=(
            replace(first, cues=replace(first.cues, level_db=-14.0)),
            replace(second, cues=replace(second.cues, level_db=-2.0)),
        ),
    )
    samples = render(np.random.default_rng(0), plan, write_score(np.random.default_rng(1), plan), RATE)
    change = round(first.end_s * RATE)
    assert rms_db(samples[change:]) - rms_db(samples[:change]) == pytest.approx(12, abs=2.5)


def test_other_sample_rate_has_the_same_truth() -> None:
    high, truth = compose(np.random.default_rng(9), label="Q1", duration_s=8)
    low, low_truth = compose(np.random.default_rng(9), label="Q1", duration_s=8, sample_rate_hz=8000)
    assert low.shape == (64000,)
    assert truth == low_truth
    assert len(high) == 8 * RATE
    assert np.all(np.isfinite(low))


def test_corpus_layout(corpus: Path) -> None:
    assert sorted(p.name for p in corpus.iterdir()) == ["audio", "songs.csv", "truth.csv"]
    assert [p.name for p in corpus.parent.iterdir()] == ["corpus"]
    table, truth = rows(corpus / "songs.csv"), rows(corpus / "truth.csv")
    assert list(table[0]) == ["path", "label", "artist"]
    assert list(truth[0]) == ["path", "start_s", "end_s", "label"]
    assert [r["path"] for r in table] == [f"audio/synth_{i:04d}.flac" for i in range(1, 9)]
    assert sorted(r["label"] for r in table) == ["Q1", "Q1", "Q2", "Q2", "Q3", "Q3", "Q4", "Q4"]
    assert sorted(r["artist"] for r in table) == ["artist_001"] * 4 + ["artist_002"] * 4
    for row in table:
        info = soundfile.info(corpus / row["path"])
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", RATE, 1)
        assert info.frames == 10 * RATE
        own = tuple(
            Section(float(t["start_s"]), float(t["end_s"]), t["label"]) for t in truth if t["path"] == row["path"]
        )
        assert own[0].start_s == 0
        assert own[-1].end_s == 10
        assert all(a.end_s == b.start_s for a, b in pairwise(own))
        assert seconds_of(own, row["label"]) > 5


def test_written_truth_is_the_truth_of_the_song(corpus: Path) -> None:
    row = rows(corpus / "songs.csv")[0]
    samples, rate = soundfile.read(corpus / row["path"], dtype="float32")
    artist = draw_artist(np.random.default_rng([3, 1, int(row["artist"][-3:]) - 1]))
    composed, truth = compose(np.random.default_rng([3, 2, 0]), label=row["label"], duration_s=10, artist=artist)
    assert rate == RATE
    np.testing.assert_allclose(samples, composed, atol=1 / 16384)
    written = [r for r in rows(corpus / "truth.csv") if r["path"] == row["path"]]
    assert [r["label"] for r in written] == [s.label for s in truth]
    np.testing.assert_allclose([float(r["end_s"]) for r in written], [s.end_s for s in truth], atol=1e-6)


def test_same_seed_same_bytes_whatever_the_workers(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()  # an empty folder is as good as none
    write_corpus(tmp_path / "again", songs=8, seed=3, duration_s=10, workers=2, quiet=True)
    assert contents(tmp_path / "again") == contents(corpus)


def test_other_seed_other_songs(corpus: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "other", songs=2, seed=4, duration_s=10, workers=1, quiet=True)
    ours, theirs = contents(corpus), contents(tmp_path / "other")
    assert ours["audio/synth_0001.flac"] != theirs["audio/synth_0001.flac"]


def test_labels_are_even_and_artists_lean(tmp_path: Path) -> None:
    write_corpus(tmp_path / "c", songs=42, seed=0, duration_s=8, workers=1, quiet=True)
    with (tmp_path / "c" / "songs.csv").open(encoding="utf-8", newline="") as file:
        songs = list(csv.DictReader(file))
    labels = [song["label"] for song in songs]
    assert sorted(labels.count(label) for label in QUADRANTS.labels) == [10, 10, 11, 11]
    artists = [f"artist_{i + 1:03d}" for i in range(11)]
    by_artist = [[song["label"] for song in songs if song["artist"] == artist] for artist in artists]
    assert [len(songs_of) for songs_of in by_artist] == [4] * 10 + [2]
    most = [max(songs_of.count(label) for label in QUADRANTS.labels) for songs_of in by_artist[:10]]
    assert np.mean(most) >= 2.5
    assert min(len(set(songs_of)) for songs_of in by_artist[:8]) >= 2


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(CorpusError, match=r"is not empty"):
        write_corpus(tmp_path, songs=1, duration_s=8, workers=1, quiet=True)
    with pytest.raises(CorpusError, match=r"mine\.txt: is a file"):
        write_corpus(tmp_path / "mine.txt", songs=1, duration_s=8, workers=1, quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("emoseg.synthesis.corpus.soundfile.write", full)
    with pytest.raises(CorpusError, match=r"corpus: cannot be written: No space left"):
        write_corpus(tmp_path / "corpus", songs=1, duration_s=8, workers=1, quiet=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"songs": 0}, "songs 0"),
        ({"seed": -1}, "seed -1"),
        ({"duration_s": 3.0}, r"duration_s 3\.0"),
        ({"duration_s": float("nan")}, "duration_s nan"),
        ({"workers": 0}, "workers 0"),
    ],
)
def test_corpus_settings_out_of_range(tmp_path: Path, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_corpus(tmp_path / "corpus", quiet=True, **settings)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_song_settings_out_of_range() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="label 'happy': a synthesised song is one of Q1, Q2, Q3, Q4"):
        compose(rng, label="happy")
    with pytest.raises(ConfigError, match=r"duration_s inf"):
        compose(rng, label="Q1", duration_s=float("inf"))
    with pytest.raises(ConfigError, match=r"sample_rate_hz 4000"):
        compose(rng, label="Q1", sample_rate_hz=4000)
