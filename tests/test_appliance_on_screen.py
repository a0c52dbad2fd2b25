"""The whole appliance in a real window: what its user sees, clicks and gets, on the live scene."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from desktop import SCREEN_WH, eventually, screenshot, xdotool
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from appliance.config import PROJECT_ROOT
from appliance.display.viewport import Viewport

PICTURE_WH = (1280, 720)


class Person:
    """Somebody in front of the appliance: eyes, a mouse, a keyboard, and the output folder."""

    def __init__(self, display: str, folder: Path, *arguments: str) -> None:
        self.display = display
        self.output = folder / "out"
        config = folder / "config.yaml"
        config.write_text(
            f"model: {{file: {PROJECT_ROOT / 'models' / 'demo.tflite'}}}\noutput: {self.output}\n"
        )
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "appliance", "run", "--config", str(config), *arguments], stderr=log
            )
        eventually(self._find_window, "no window", timeout_s=30)

    def _find_window(self) -> bool:
        found = (xdotool(self.display, "search", "--onlyvisible", "--pid", self.process.pid) or "").split()
        self.window = found[-1] if found else ""
        return bool(found)

    def _focus(self) -> None:
        # Looked for again: the first one that is found may be one that is replaced. Not with --sync: xdotool
        # then waits for a change, for ever if the window had the focus already.
        if self._find_window():
            xdotool(self.display, "windowfocus", self.window)

    def words(self) -> str:
        """All that the log says."""
        return self.log.read_text()

    def press(self, key: str, words: str) -> None:
        """Press a key until the appliance says that it did what it should; a press is lost now and then."""
        before = self.words().count(words)
        for _ in range(5):
            self._focus()
            xdotool(self.display, "key", key)
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                if self.words().count(words) > before:
                    return
                time.sleep(0.05)
        raise AssertionError(f"{key} was not answered with {words!r}: {self.words()}")

    def press_until_gone(self, key: str) -> float:
        """Press a key, again when the press was lost; the time of the press that ended the appliance."""
        for _ in range(4):
            self._focus()
            pressed = time.monotonic()
            xdotool(self.display, "key", key)
            while time.monotonic() - pressed < 3:
                if self.process.poll() is not None:
                    return pressed
                time.sleep(0.02)
        raise AssertionError(f"{key} did not end it: {self.words()}")

    def size(self) -> tuple[int, int]:
        """Width and height of the window."""
        lines = (xdotool(self.display, "getwindowgeometry", "--shell", self.window) or "").splitlines()
        values = dict(line.split("=") for line in lines)
        return int(values["WIDTH"]), int(values["HEIGHT"])

    def click(self, picture_xy: tuple[int, int]) -> None:
        """Click on a pixel of the picture."""
        x, y, shown_w, shown_h = Viewport(PICTURE_WH, self.size()).rect_xywh
        xdotool(
            self.display,
            *("mousemove", "--window", self.window),
            x + int((picture_xy[0] + 0.5) * shown_w / PICTURE_WH[0]),
            y + int((picture_xy[1] + 0.5) * shown_h / PICTURE_WH[1]),
            *("click", 1),
        )

    def snapshot(self) -> dict[str, Any]:
        """Save a snapshot; its JSON."""
        before = set(self.output.glob("*.json"))
        self.press("s", "saving a snapshot")
        eventually(lambda: len(set(self.output.glob("*.json")) - before) == 1, "no snapshot")
        (path,) = set(self.output.glob("*.json")) - before
        content: dict[str, Any] = json.loads(path.read_text())
        return content


@pytest.fixture
def person(xvfb: str, tmp_path: Path) -> Iterator[Person]:
    somebody = Person(xvfb, tmp_path, "--source", "scene", "--display", "screen")
    yield somebody
    somebody.process.kill()
    somebody.process.wait(10)


def _inside(annotation: dict[str, Any], others: list[dict[str, Any]]) -> tuple[int, int] | None:
    """The deepest pixel of an instance that no other one covers, away from the readout and the bar."""
    mask: NDArray[np.uint8] = coco_mask.decode(annotation["segmentation"])
    for other in others:
        mask &= 1 - coco_mask.decode(other["segmentation"])
    mask[:180, :520] = 0
    mask[600:] = 0
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return (int(x), int(y)) if depth[y, x] > 6 else None


@pytest.mark.timeout(120)
def test_click_freeze_snapshot_and_record(person: Person, tmp_path: Path) -> None:
    eventually(lambda: person.words().count("screen:") == 1, "the screen is not named in the log")
    time.sleep(2)
    person.press("space", "frozen")
    found = person.snapshot()["annotations"]
    assert len(found) >= 3

    # A click on a mask selects that very instance, exactly where it is shown, in a window and full screen.
    targets = [
        (one["id"], point)
        for one in found
        if (point := _inside(one, [other for other in found if other is not one])) is not None
    ][:3]
    assert len(targets) >= 2
    for identity, point in targets:
        before = person.words().count("picked out")
        person.click(point)
        eventually(
            lambda before=before: person.words().count("picked out") > before, "the click was not seen"
        )
        assert person.snapshot()["info"]["selected_id"] == identity
    person.press("f", "full screen")
    eventually(lambda: person.size() == SCREEN_WH, "not full screen")
    before = person.words().count("picked out")
    person.click(targets[0][1])
    eventually(lambda: person.words().count("picked out") > before, "the click was not seen")
    assert person.snapshot()["info"]["selected_id"] == targets[0][0]
    screenshot(person.display).save(tmp_path / "fullscreen.png")
    person.press("f", "in a window")

    # The snapshot's pictures are whole, and differ where the masks are.
    picture = cv2.imread(str(sorted(person.output.glob("*-1.png"))[0]))
    overlaid = cv2.imread(str(sorted(person.output.glob("*-1-overlay.png"))[0]))
    assert picture is not None
    assert overlaid is not None
    assert picture.shape == overlaid.shape == (720, 1280, 3)
    covered = np.zeros((720, 1280), bool)
    for one in found:
        covered |= coco_mask.decode(one["segmentation"]).astype(bool)
    changed = np.abs(picture.astype(int) - overlaid).max(axis=2) > 3
    assert changed[covered].mean() > 0.9

    person.press("c", "nothing picked out")
    assert person.snapshot()["info"]["selected_id"] is None
    person.press("space", "live again")
    person.press("m", "only the selection")
    person.press("m", "all masks")
    person.press("v", "recording")
    time.sleep(2)
    person.press("v", "saved")
    (recording,) = person.output.glob("recording-*.mkv")
    with av.open(str(recording)) as container:
        pictures = list(container.decode(video=0))
    assert len(pictures) >= 10
    assert (pictures[0].width, pictures[0].height) == PICTURE_WH


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["key", "signal", "window"])
def test_it_ends_cleanly_within_two_seconds(person: Person, how: str) -> None:
    time.sleep(1)
    asked = time.monotonic()
    if how == "signal":
        person.process.send_signal(signal.SIGTERM)
    elif how == "window":
        asked = person.press_until_gone("alt+F4")  # the window manager's own
    else:
        asked = person.press_until_gone("q")
    assert person.process.wait(5) == 0, person.words()
    assert time.monotonic() - asked < 2
    assert "Traceback" not in person.words()


@pytest.mark.timeout(60)
def test_a_photograph_stays_on_the_screen(xvfb: str, tmp_path: Path) -> None:
    photograph = tmp_path / "grey.png"
    cv2.imwrite(str(photograph), np.full((720, 1280, 3), (90, 60, 30), np.uint8))
    person = Person(xvfb, tmp_path, "--source", str(photograph), "--display", "screen")
    try:
        time.sleep(3)
        assert person.process.poll() is None
        person.press("f", "full screen")
        eventually(lambda: person.size() == SCREEN_WH, "not full screen")
        time.sleep(0.5)
        seen = screenshot(xvfb).getpixel((SCREEN_WH[0] * 3 // 4, SCREEN_WH[1] // 2))
        assert isinstance(seen, tuple)
        np.testing.assert_allclose(seen, (30, 60, 90), atol=4)
    finally:
        person.process.kill()
        person.process.wait(10)
