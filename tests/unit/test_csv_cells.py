"""Text in CSV tables is never a formula."""

from __future__ import annotations

import pytest

from emoseg.system.csv_cells import csv_cell


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(start: str) -> None:
    assert csv_cell(f'{start}HYPERLINK("a")') == f'\'{start}HYPERLINK("a")'
    assert csv_cell(start) == f"'{start}"


@pytest.mark.parametrize("text", ["", "a.mp3", "'quoted'", " =1", "1-2=3", "ö\n=1"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert csv_cell(text) == text
