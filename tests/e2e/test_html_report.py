"""The HTML report in a real browser: its script runs, and mouse and keyboard move through the song."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoseg.emotion import QUADRANTS, EmotionSpace
from emoseg.types import Analysis, SegmentEmotion, SongEmotion, Span
from emoseg.writers import write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on PATH"),
    pytest.mark.skipif(os.name != "posix", reason="drives chromium over inherited file descriptors"),
]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1100,1500",
    "--remote-debugging-pipe",
)
# DevTools reads file descriptor 3 and writes 4; this puts the two given first there, by way of numbers above both.
LAUNCH = """
import fcntl, os, sys
high = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]]
os.dup2(high[0], 3)
os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def make_analysis(path: Path, space: EmotionSpace = QUADRANTS) -> Analysis:
    """Twenty segments over a minute, five of each of the first four labels in turn."""
    segments, spans = [], []
    for i in range(20):
        p = np.full(len(space.labels), 0.2 / (len(space.labels) - 1))
        p[i // 5] = 0.8
        valence, arousal = (space.derived(p, axis) for axis in ("valence", "arousal"))
        place = [None if a is None else float(a) for a in (valence, arousal)]
        segments.append(SegmentEmotion(3.0 * i, 3.0 * i + 3, space.labels[i // 5], tuple(p), place[0], place[1]))
    for i in range(4):
        spans.append(Span(15.0 * i, 15.0 * i + 15, space.labels[i]))
    first = segments[0]
    song = SongEmotion(first.label, first.probabilities, 0.8, first.valence, first.arousal)
    peaks = np.stack([-np.linspace(0, 1, 800), np.linspace(0, 1, 800)], axis=1).astype(np.float32)
    return Analysis(str(path), 60.0, "tiny", "1", space, song, tuple(segments), tuple(spans), peaks)


class Browser:
    """Chromium, spoken to over its DevTools pipe: JSON messages ended by a zero byte."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(to_read), str(to_write), *command],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._id, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._id += 1
        message = {"id": self._id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._id:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def wait(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._read, 1 << 16)
            assert data, "the browser ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, page: Path) -> None:
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=page.as_uri())
        self.wait("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def key(self, key: str) -> None:
        text = {"text": " "} if key == " " else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def mouse(self, kind: str, fraction: float, *, selector: str = ".row .plot") -> None:
        box = self.value(
            f"(() => {{const b = document.querySelector('{selector}').getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]})()"
        )
        x, y = box[0] + fraction * box[2], box[1] + box[3] / 2
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def problems(self) -> list[Any]:
        """Console errors, exceptions, and requests for anything but the page and what is inside it."""
        self.value("new Promise((done) => setTimeout(done, 50))")
        found: list[Any] = []
        for event in self.events:
            params = event.get("params", {})
            found += [params] if event.get("method") == "Runtime.exceptionThrown" else []
            found += [params] if event.get("method") == "Log.entryAdded" else []
            url = params.get("request", {}).get("url", "file:")
            found += [] if url.startswith(("file:", "data:")) else [url]
        return found

    def close(self) -> None:
        self._session = ""
        self.call("Browser.close")
        self._process.wait(timeout=20)
        os.close(self._write)
        os.close(self._read)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    recording = folder / "a & b <i>.wav"
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(bytes([128]) * 8000 * 60)
    return write(make_analysis(recording), folder, format="html")


def test_script_runs_and_draws_every_segment(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.value("({...document.body.dataset})") | {"audio": ""} == {
        "ready": "1",
        "segments": "20",
        "labels": "4",
        "audio": "",
    }
    assert browser.value("document.querySelectorAll('.span').length") == 4
    assert browser.value("document.querySelectorAll('.dots circle').length") == 20
    assert browser.value("document.querySelector('h1').textContent") == "a & b <i>.wav"
    assert browser.problems() == []


def test_recording_plays_and_the_playhead_follows(browser: Browser, report: Path) -> None:
    browser.open(report)
    loaded = "new Promise((done) => { if (audio.readyState) done(); else audio.onloadedmetadata = () => done(); })"
    assert browser.value(f"{loaded}.then(() => audio.duration)") == 60
    browser.key(" ")
    moved = (
        "new Promise((done) => { setTimeout(() => done(false), 8000);"
        "audio.ontimeupdate = () => { if (audio.currentTime > 0.2) done(true); }; })"
    )
    assert browser.value(moved) is True
    assert browser.value("document.body.classList.contains('playing')") is True
    assert browser.value("Number(document.getElementById('plots').getAttribute('aria-valuenow'))") > 0
    browser.key(" ")
    assert browser.value("document.getElementById('audio').paused") is True
    assert browser.problems() == []


def test_click_and_keys_move_the_playhead(browser: Browser, report: Path) -> None:
    browser.open(report)
    now = "Number(document.getElementById('plots').getAttribute('aria-valuenow'))"
    browser.mouse("mousePressed", 0.6)
    browser.mouse("mouseReleased", 0.6)
    assert browser.value(now) == pytest.approx(36, abs=0.1)
    assert browser.value("document.getElementById('mood').textContent") == "Q3 sad/gloomy"
    browser.key("ArrowRight")
    assert browser.value(now) == pytest.approx(41, abs=0.1)
    browser.value("document.getElementById('play').focus()")
    browser.key("ArrowLeft")
    browser.key("ArrowRight")
    assert browser.value(now) == pytest.approx(41, abs=0.1)
    browser.value("document.getElementById('plots').focus()")
    browser.key("Home")
    browser.key("ArrowLeft")
    assert browser.value(now) == 0
    assert browser.value("document.getElementById('mood').textContent") == "Q1 happy/excited"
    browser.value("document.querySelectorAll('[data-t]')[3].click()")
    assert browser.value(now) == 45
    assert browser.value("document.getElementById('mood').textContent") == "Q4 calm/content"
    # Q4 at 0.8: valence 0.733 is right of the middle at 170, arousal -0.733 below it.
    place = browser.value("['cx', 'cy'].map((name) => Number(document.getElementById('here').getAttribute(name)))")
    assert place == pytest.approx([170 + 140 * 0.733, 170 + 140 * 0.733], abs=0.1)


def test_tooltip_tells_time_and_probabilities(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.value("document.getElementById('tip').hidden") is True
    browser.mouse("mouseMoved", 0.32, selector=".wave")
    text = browser.value("document.getElementById('tip').innerText")
    assert " ".join(text.split()) == (
        "0:19.2 · segment 0:18.0–0:21.0 Q2 angry/tense 80% Q1 happy/excited 7% Q3 sad/gloomy 7% Q4 calm/content 7% "
        "valence −0.73 arousal +0.73"
    )


@pytest.mark.parametrize("width", [400, 1100])
def test_nothing_is_wider_than_the_window(browser: Browser, report: Path, width: int) -> None:
    browser.open(report)
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.querySelector('.row.ribbon .plot').offsetHeight") == 30


def test_hostile_names_run_nothing(browser: Browser, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=document.body.dataset.hit=1>"
    labels = (hostile, "</script><script>document.body.dataset.hit=2</script>", "c", "d")
    bare = EmotionSpace.from_labels(labels)
    analysis = replace(make_analysis(tmp_path / f"{hostile}.mp3", bare), model_name=hostile)
    browser.open(write(analysis, tmp_path, format="html"))
    browser.mouse("mouseMoved", 0.3)
    assert browser.value("document.body.dataset.hit") is None
    assert browser.value("document.body.dataset.ready") == "1"
    assert browser.problems() == []


def test_page_reads_without_script(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.events.clear()
    browser.call("Page.reload")
    browser.wait("Page.loadEventFired")
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    html = browser.call("DOM.getOuterHTML", nodeId=root)["outerHTML"]
    assert "data-ready" not in html
    assert html.count("<tr class=") == 4
    assert 'class="wave"' in html
    assert "<audio" in html
