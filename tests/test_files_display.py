from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from appliance import overlay
from appliance.data import Frame, Layer, Segmentation
from appliance.display import Hud, View
from appliance.display import files as files_module
from appliance.display.files import FilesDisplay
from appliance.display.null import NullDisplay
from appliance.errors import OutputNotWritable
from appliance.geometry import Letterbox
from appliance.masks import full_mask

HUD = Hud(readout=("8.1 masks/s", "30 pictures/s"))


def layer(index: int, size_wh: tuple[int, int] = (320, 180), name: str = "", noisy: bool = False) -> Layer:
    """A disc that moves with the index."""
    width, height = size_wh
    x, y = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    levels = 128 + 20 * (9 - np.hypot(x - 20 - index % 20, y - 32))
    rgb = np.full((height, width, 3), (90, 120, 150), np.uint8)
    if noisy:
        rgb = np.random.default_rng(index).integers(0, 255, (height, width, 3), np.uint8)
    segmentation = Segmentation(
        Frame(index, index * 100_000_000, rgb, name),
        Letterbox.fit(size_wh, (256, 256)),
        np.array([[0, 0, width, height]], np.float32),
        np.array([0.9], np.float32),
        levels.clip(0, 255).astype(np.uint8)[None],
        np.array([3]),
    )
    return overlay.draw(segmentation, None, size_wh)


def paired_view(shown: Layer) -> View:
    return View(shown.segmentation.frame, shown, HUD)


def lines(display: FilesDisplay) -> list[dict[str, object]]:
    return [json.loads(line) for line in (display.folder / "instances.jsonl").read_text().splitlines()]


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_photographs(tmp_path: Path) -> None:
    display = FilesDisplay(tmp_path / "new" / "out", paired=True)
    assert not display.interactive
    assert display.layer_wh((4000, 3000)) == (4000, 3000)
    display.open()
    shown = [
        layer(0, name="a.png"),
        layer(1, (200, 201), name="b.jpg"),
        layer(2, name="a.jpg"),
        layer(3, name="c"),
    ]
    for one in shown:
        display.show(View(one.segmentation.frame, None, HUD))  # not complete yet: left out
        display.show(paired_view(one))
    assert display.poll() == []
    display.close()
    display.close()
    assert sorted(path.name for path in display.folder.iterdir()) == [
        "a.jpg",
        "a.jpg.jpg",
        "b.jpg",
        "c.jpg",
        "instances.jsonl",
        "video.mkv",
    ]
    assert len(pictures(display.folder / "video.mkv")) == 4
    for one, line in zip(shown, lines(display), strict=True):
        frame = one.segmentation.frame
        assert (line["index"], line["name"]) == (frame.index, frame.name)
        assert line["captured_ns"] == frame.captured_ns
        assert (line["width"], line["height"]) == frame.size_wh
        (instance,) = line["instances"]
        mask = full_mask(one.segmentation, 0)
        np.testing.assert_array_equal(rle.decode(instance["segmentation"]).astype(bool), mask)
    still = np.asarray(Image.open(display.folder / "b.jpg"))
    expected = overlay.flatten(shown[1].segmentation.frame.rgb, shown[1])
    assert still.shape == expected.shape
    assert np.abs(still.astype(int) - expected).mean() < 3


def test_paired_loses_nothing(tmp_path: Path) -> None:
    display = FilesDisplay(tmp_path, paired=True)
    display.open()
    for index in range(40):
        display.show(paired_view(layer(index)))
    display.close()
    assert [line["index"] for line in lines(display)] == list(range(40))
    assert len(pictures(display.folder / "video.mkv")) == 40
    assert not (display.folder / "still.png").exists()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Holds up the writing of instances until it is set."""
    opened = threading.Event()
    describe = files_module.describe

    def slow(segmentation: Segmentation) -> str:
        opened.wait(10)
        return describe(segmentation)

    monkeypatch.setattr(files_module, "describe", slow)
    return opened


def test_it_is_busy_until_all_is_written(tmp_path: Path, gate: threading.Event) -> None:
    display = FilesDisplay(tmp_path, paired=True)
    display.open()
    assert not display.busy()
    display.show(paired_view(layer(0)))
    time.sleep(0.3)
    assert display.busy()
    gate.set()
    deadline_s = time.monotonic() + 10
    while display.busy() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert [line["index"] for line in lines(display)] == [0]
    assert not display.busy()
    display.close()


def test_live(tmp_path: Path) -> None:
    display = FilesDisplay(tmp_path, paired=False)
    display.open()
    frames = [Frame(index, index * 33_000_000, np.full((180, 320, 3), 60, np.uint8)) for index in range(12)]
    display.show(View(None, None, HUD))
    display.show(View(frames[0], None, HUD))
    for index in range(1, 12):
        masks = layer(index // 4 * 4)
        if index % 4 == 0:
            newest = masks
        display.show(View(frames[index], newest if index >= 4 else None, HUD))
        display.show(View(frames[index], newest if index >= 4 else None, HUD))
        time.sleep(0.02)
    display.close()
    assert [line["index"] for line in lines(display)] == [4, 8]
    assert len(pictures(display.folder / "video.mkv")) == 12
    still = np.asarray(Image.open(display.folder / "still.png"))
    assert still.shape == (180, 320, 3)
    assert (still[90, 60:200] != 60).any()  # masks
    assert (still[:40, :80] != 60).any()  # readout


def test_live_writing_never_holds_up_the_run(tmp_path: Path, gate: threading.Event) -> None:
    display = FilesDisplay(tmp_path, paired=False)
    display.open()
    views = [paired_view(layer(index)) for index in range(30)]
    start = time.monotonic()
    for view in views:
        display.show(view)
    assert time.monotonic() - start < 0.5
    gate.set()
    display.close()
    assert 4 <= len(lines(display)) <= 6


def test_every_run_has_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2025, 3, 9, 14, 5, 6)

    monkeypatch.setattr(files_module, "datetime", Clock)
    names = []
    for _ in range(3):
        display = FilesDisplay(tmp_path, paired=True)
        display.open()
        display.show(paired_view(layer(0)))
        display.close()
        names.append(display.folder.name)
    assert names == ["run-20250309-140506", "run-20250309-140506-2", "run-20250309-140506-3"]


def test_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/appliance")):
        display = FilesDisplay(folder, paired=True)
        with pytest.raises(OutputNotWritable, match="choose another output folder") as caught:
            display.open()
        assert "\n" not in str(caught.value)
        display.show(paired_view(layer(0)))
        display.close()


def test_a_run_without_pictures_leaves_no_folder(tmp_path: Path) -> None:
    display = FilesDisplay(tmp_path, paired=False)
    display.open()
    assert list(tmp_path.iterdir())
    display.show(View(None, None, HUD))
    display.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("paired", [True, False])
def test_disk_full(small_disk: Callable[[str], Path], paired: bool, caplog: pytest.LogCaptureFixture) -> None:
    display = FilesDisplay(small_disk("1m"), paired)
    display.open()
    for index in range(40):
        display.show(paired_view(layer(index, name=f"{index}.png", noisy=True)))
        if not paired:
            time.sleep(0.02)
    display.close()
    assert "No space left on device" in caplog.text
    assert len(caplog.records) < 8
    found = lines(display)  # each line is whole
    assert found
    assert len(pictures(display.folder / "video.mkv")) >= 1
    assert not list(display.folder.glob("*.part"))
    for still in display.folder.glob("*.jpg"):
        Image.open(still).load()


def test_a_large_photograph_makes_a_video_of_bounded_size(tmp_path: Path) -> None:
    display = FilesDisplay(tmp_path, paired=True)
    display.open()
    display.show(paired_view(layer(0, (3000, 1000), "wide.png")))
    display.close()
    assert pictures(display.folder / "video.mkv")[0].shape == (640, 1920, 3)
    assert Image.open(display.folder / "wide.jpg").size == (3000, 1000)


def test_null_draws_at_picture_size() -> None:
    display = NullDisplay()
    display.open()
    assert display.layer_wh((1281, 719)) == (1281, 719)
    display.show(replace(paired_view(layer(0)), frame=None))
    assert display.poll() == []
    assert not display.interactive
    display.close()
