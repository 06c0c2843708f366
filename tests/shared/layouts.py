"""The folders that the authors of data sets hand out, in small, with generated sound."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from emoseg.corpora.loaders.fourq import ANNOTATIONS, METADATA
from emoseg.synthesis.corpus import write_corpus

QUADRANT_POINTS = {"Q1": (0.6, 0.6), "Q2": (-0.6, 0.6), "Q3": (-0.6, -0.6), "Q4": (0.6, -0.6)}
"""Valence and arousal in [-1, 1]."""

FOURQ = [(f"MT{i:010d}", f"Q{i % 4 + 1}", f"Artist {i // 2}") for i in range(16)]
SONGS = [(str(i + 2), f"Q{i % 4 + 1}") for i in range(16)]


def wav(seconds: float = 2.0, *, level: float = 0.1, rate: int = 8000, seed: int | None = None) -> bytes:
    """Return a tone, or with a seed noise of its own."""
    file = io.BytesIO()
    n = round(seconds * rate)
    samples = np.sin(2 * np.pi * 440 * np.arange(n) / rate)
    if seed is not None:
        samples = np.random.default_rng(seed).uniform(-1, 1, n)
    soundfile.write(file, level * samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def music(seconds: float, *, seed: int, rate: int = 8000) -> bytes:
    """Return a chord that is struck twice a second: every segment of it counts as music."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    root_hz = 110 * 2 ** (rng.integers(12) / 12)
    partials = [(root_hz * 2 ** (step / 12) * h, 1 / h) for step in (0, 4, 7) for h in range(1, 7)]
    sound = sum(a * np.sin(2 * np.pi * hz * t + rng.uniform(0, 2 * np.pi)) for hz, a in partials)
    sound *= 0.75 + 0.25 * np.exp(-3 * (t % 0.5))
    file = io.BytesIO()
    soundfile.write(file, 0.5 * sound / np.abs(sound).max(), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def put(path: Path, data: bytes | None = None) -> Path:
    """Write a file; without data, two seconds of noise that no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav(seed=zlib.crc32(os.fsencode(path))) if data is None else data)
    return path


def rows(header: Sequence[str], lines: Sequence[Sequence[object]], *, delimiter: str = ",", end: str = "\n") -> str:
    return "".join(delimiter.join(map(str, line)) + end for line in [header, *lines])


def make_fourq(
    root: Path, *, annotations: str | None = None, metadata: bytes | None = None, without: tuple[str, ...] = ()
) -> Path:
    """Write the official layout, with BOM and Windows line ends, and quoted metadata in Windows-1252."""
    for song, quadrant, _ in FOURQ:
        if song not in without:
            put(root / quadrant / f"{song}.mp3")
    lines = "\r\n".join(f"{song},{quadrant}" for song, quadrant, _ in FOURQ)
    (root / ANNOTATIONS).write_bytes((annotations or f"\ufeffSong,Quadrant\r\n{lines}\r\n").encode())
    quoted = "".join(f'"{song}","{artist}","A ""title"", long","{q}"\n' for song, q, artist in FOURQ)
    (root / METADATA).write_bytes(metadata or f'"Song","Artist","Title","Quadrant"\n{quoted}'.encode("cp1252"))
    return root


def make_folder(root: Path) -> Path:
    for i in range(8):
        put(root / ("happy", "sad")[i % 2] / f"album {i // 4}" / f"{i}.wav")
    return root


def make_csv(root: Path, text: bytes | None = None, *, files: int = 8) -> Path:
    for i in range(files):
        put(root / "audio" / f"{i}.wav")
    lines = "".join(f"audio/{i}.wav,{('happy', 'sad')[i % 2]},artist {i // 2}\n" for i in range(8))
    return put(root / "songs.csv", text if text is not None else f"path,label,artist\n{lines}".encode())


def make_synth(root: Path) -> Path:
    write_corpus(root / "synth", songs=20, seed=2, duration_s=8, workers=1, quiet=True)
    return root / "synth"


def make_pmemo(root: Path) -> Path:
    """Songs rated 0 to 1, arousal first; over time from 15.5 s, the last four moments in the opposite quadrant."""
    folder = root / "annotations"
    static, spread, dynamic = [], [], []
    for song, quadrant in SONGS:
        v, a = ((1 + x) / 2 for x in QUADRANT_POINTS[quadrant])
        static.append((song, a, v))
        spread.append((song, 0.1, 0.2))
        dynamic += [(song, 15.5 + i / 2, a if i < 20 else 1 - a, v if i < 20 else 1 - v) for i in range(24)]
        put(root / "chorus" / f"{song}.mp3")
    put(folder / "static_annotations.csv", rows(["musicId", "Arousal(mean)", "Valence(mean)"], static).encode())
    put(folder / "static_annotations_std.csv", rows(["musicId", "Arousal(std)", "Valence(std)"], spread).encode())
    header = ["musicId", "frameTime", "Arousal(mean)", "Valence(mean)"]
    put(folder / "dynamic_annotations.csv", rows(header, dynamic).encode())
    about = [(song, f"{song}.mp3", "t", f"artist {i // 2}", "", 2.0) for i, (song, _) in enumerate(SONGS)]
    header = ["musicId", "fileName", "title", "artist", "album", "duration"]
    put(root / "metadata.csv", rows(header, [*about, (99, "99.mp3", "t", "nobody", "", 14.0)]).encode())
    return root


def continuous(points: Sequence[float], moments: int = 61) -> str:
    header = ["song_id", *(f"sample_{15000 + 500 * i}ms" for i in range(moments))]
    return rows(header, [(song, *[x] * moments) for (song, _), x in zip(SONGS, points, strict=True)])


def make_emomusic(root: Path) -> Path:
    """Songs rated 1 to 9, over time -1 to 1; fields of songs_info hold stray tabs, as in the original."""
    folder = root / "annotations"
    points = [QUADRANT_POINTS[quadrant] for _, quadrant in SONGS]
    static = [(song, 5 + 4 * a, 0.8, 5 + 4 * v, 0.8) for (song, _), (v, a) in zip(SONGS, points, strict=True)]
    header = ["song_id", "mean_arousal", "std_arousal", "mean_valence", "std_valence"]
    put(folder / "static_annotations.csv", rows(header, static).encode())
    put(folder / "valence_cont_average.csv", continuous([v for v, _ in points]).encode())
    put(folder / "arousal_cont_average.csv", continuous([a for _, a in points]).encode())
    part = ["development"] * 12 + ["evaluation"] * 4
    info = "".join(
        f'{song},"\t{song}.mp3","Artist {i // 3}\t","\tTitle\t","\t0.48","\t1.33","\tBlues\t","\t{part[i]}"\n'
        for i, (song, _) in enumerate(SONGS)
    )
    header_line = '"song_id","file_name","Artist","Song title","start","end","Genre","Mediaeval 2013 set"\n'
    put(folder / "songs_info.csv", (header_line + info).encode())
    for song, _ in SONGS:
        put(root / "clips_45seconds" / f"{song}.mp3")
    return root


def make_deam(root: Path) -> Path:
    """Both tables of songs, with blanks in the headers; the second has columns of its own between."""
    averaged = root / "annotations" / "annotations averaged per song"
    ids = [str(i) for i in (*range(2, 14), *range(2001, 2005))]
    points = [QUADRANT_POINTS[f"Q{i % 4 + 1}"] for i in range(16)]
    static = [(song, 5 + 4 * v, 0.8, 5 + 4 * a, 0.8) for song, (v, a) in zip(ids, points, strict=True)]
    header = ["song_id", " valence_mean", " valence_std", " arousal_mean", " arousal_std"]
    table = averaged / "song_level" / "static_annotations_averaged_songs_1_2000.csv"
    put(table, rows(header, static[:12]).encode())
    extremes = [" valence_ max_mean", " valence_max_std"]
    whole = [(*line[:3], 8.9, 0.1, *line[3:]) for line in static[12:]]
    table = averaged / "song_level" / "static_annotations_averaged_songs_2000_2058.csv"
    put(table, rows([*header[:3], *extremes, *header[3:]], whole).encode())
    columns = ["song_id", "sample_15000ms", "sample_15500ms"]
    for axis in (0, 1):
        table = averaged / "dynamic (per second annotations)" / f"{('valence', 'arousal')[axis]}.csv"
        lines = [(song, p[axis], "" if i % 2 else p[axis]) for i, (song, p) in enumerate(zip(ids, points, strict=True))]
        put(table, rows(columns, lines).encode())
    for song in ids:
        put(root / "MEMD_audio" / f"{song}.mp3")
    text = "song_id,file_name,Artist,Song title,start,end,Genre\n"
    text += "".join(f"{song},{song}.mp3,artist {int(song) // 3},a title\n" for song in ids[:8])
    put(root / "metadata" / "metadata_2013.csv", text.encode())
    text = "Id,Artist,Track,Album,Genre\n" + "".join(f"{song},artist {song},t,a,g\n" for song in ids[8:12])
    put(root / "metadata" / "metadata_2014.csv", text.encode())
    text = "id,Filename,title,artist,album\n" + "".join(f"{s},{s}.mp3,one, two,artist {s},a\n" for s in ids[12:])
    put(root / "metadata" / "metadata_2015.csv", text.encode())
    return root


EMOPIA = [
    f"Q{quadrant}_video{song}-_{song}_{n}"
    for song in range(8)
    for n, quadrant in enumerate((1, song % 4 + 1, song % 4 + 1))
]
"""Clips of eight videos whose ids hold an underscore; the first clip of each is Q1, the others are of the video's."""


def make_emopia(root: Path) -> Path:
    for name in EMOPIA:
        put(root / f"{name}.flac")
    parts = {"train": EMOPIA[:12], "val": EMOPIA[12:18], "test": EMOPIA[18:]}
    for part, names in parts.items():
        put(root / f"{part}.csv", rows(["fname", "label"], [(name, name[:2]) for name in names]).encode())
    return root


def make_vgmidi(root: Path) -> Path:
    """Eight pieces of 8 measures in 16 s, three listeners; the last two measures lie in the opposite quadrant."""
    pieces, annotations = {}, {}
    for i in range(8):
        v, a = QUADRANT_POINTS[f"Q{i % 4 + 1}"]
        pieces[f"piece{i}"] = {"midi": f"Game_{i}.mid", "measures": 8, "duration": 16, "name": "x"}
        for listener, shift in enumerate((-0.1, 0.0, 0.1)):
            annotations[f"piece{i}_{listener}"] = {
                "valence": [v + shift] * 6 + [-v] * 2,
                "arousal": [a + shift] * 6 + [-a] * 2,
            }
        put(root / "audio" / f"Game_{i}.wav")
    data = {"pieces": pieces, "annotations": annotations}
    put(root / "labelled" / "annotations" / "vgmidi_raw_1.json", json.dumps(data).encode())
    return root


MOODS = ("happy", "dark", "sad", "calm")


def make_moodtheme(root: Path) -> Path:
    """Twelve tracks with one mood and one theme, in three parts; the header has one tag column, rows have several."""
    header = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\r\n"
    for p, part in enumerate(("train", "validation", "test")):
        text = header
        for i in range(4 * p, 4 * p + 4):
            tags = f"mood/theme---film\tmood/theme---{MOODS[i % 4]}"
            text += f"track_{i:07d}\tartist_{i // 2}\talbum_1\t{i:02d}/{i}.mp3\t100.0\t{tags}\r\n"
            put(root / "audio" / f"{i:02d}" / f"{i}.low.mp3")
        put(root / "data" / "splits" / "split-0" / f"autotagging_moodtheme-{part}.tsv", text.encode())
    return root


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "4q": make_fourq,
    "pmemo": make_pmemo,
    "emomusic": make_emomusic,
    "emopia": make_emopia,
    "vgmidi": make_vgmidi,
    "deam": make_deam,
    "mtg-moodtheme": make_moodtheme,
    "folder": make_folder,
    "csv": make_csv,
    "synth": make_synth,
}
