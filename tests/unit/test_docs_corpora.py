"""The new corpus of docs/corpora.md is a module that works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from layouts import put, rows

from emoseg.corpora import CorpusOptions

PAGE = Path(__file__).parents[2] / "docs" / "corpora.md"


def test_the_module_of_the_page_loads_its_layout(tmp_path: Path) -> None:
    [code] = re.findall(r"```python\n(\"\"\"MySet.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module: dict[str, Any] = {}
    exec(code, module)
    table = [("a", 6, 5, "x"), ("b", "2,5", 5, "y"), ("c", 8, 4, "z"), ("d", 1, 1, "z")]
    put(tmp_path / "ratings.csv", rows(["id", "valence", "arousal", "singer"], table, delimiter=";").encode())
    for song in "abe":
        put(tmp_path / "audio" / f"{song}.wav")
    corpus = module["load_myset"](tmp_path, CorpusOptions())
    assert {song.id: (song.label, song.artist) for song in corpus.songs} == {"a": ("Q1", "x"), "b": ("Q2", "y")}
    told = "\n".join(problem.message for problem in corpus.problems)
    assert "row 4, song c: valence: 8 lies outside the scale from 1 to 7" in told
    assert "1 of 3 annotated songs have no audio and are left out (d)" in told
    assert "e.wav: has no annotation and is left out" in told
    assert "annotates 3 of the 300 published songs; 297 are missing" in told
