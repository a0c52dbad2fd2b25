from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO

from appliance import overlay, snapshot
from appliance.data import Frame, Segmentation, Selection
from appliance.errors import OutputNotWritable
from appliance.geometry import Letterbox
from appliance.masks import full_mask

NOW = datetime(2025, 3, 9, 14, 5, 6)


def found() -> Segmentation:
    """Two discs over noise, which PNG cannot make small."""
    rng = np.random.default_rng(1)
    picture_wh = (321, 181)
    rgb = rng.integers(0, 255, (picture_wh[1], picture_wh[0], 3), np.uint8)
    x, y = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    levels = [
        (128 + 20 * (radius - np.hypot(x - cx, y - cy))).clip(0, 255).astype(np.uint8)
        for cx, cy, radius in ((20, 32, 8), (44, 30, 10))
    ]
    return Segmentation(
        Frame(3, 0, rgb),
        Letterbox.fit(picture_wh, (256, 256)),
        np.array([[40, 40, 160, 150], [150, 20, 300, 150]], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.array(levels),
        np.array([4, 9]),
    )


def test_picture_overlay_and_masks_agree(tmp_path: Path) -> None:
    shown = found()
    picture, with_masks, described = snapshot.save(
        tmp_path / "new", shown, "m.tflite", Selection(9, (0, 0)), False, NOW
    )
    assert picture.name == "snapshot-20250309-140506-1.png"
    assert with_masks.name == "snapshot-20250309-140506-1-overlay.png"
    assert described.name == "snapshot-20250309-140506-1.json"
    rgb = shown.frame.rgb
    np.testing.assert_array_equal(cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB), rgb)
    np.testing.assert_array_equal(
        cv2.cvtColor(cv2.imread(str(with_masks)), cv2.COLOR_BGR2RGB),
        overlay.flatten(rgb, overlay.draw(shown, Selection(9, (0, 0)), (321, 181))),
    )
    data = json.loads(described.read_text())
    assert data["info"]["model"] == "m.tflite"
    assert data["info"]["selected_id"] == 9
    assert data["images"] == [{"id": 1, "file_name": picture.name, "width": 321, "height": 181}]
    for i, annotation in enumerate(data["annotations"]):
        np.testing.assert_array_equal(
            rle.decode(annotation["segmentation"]).astype(bool), full_mask(shown, i)
        )


def test_pycocotools_reads_it(tmp_path: Path) -> None:
    paths = snapshot.save(tmp_path, found(), "m", None, False, NOW)
    data = COCO(str(paths[2]))
    assert data.getAnnIds(imgIds=[1], catIds=[1]) == [4, 9]
    assert data.annToMask(data.anns[9]).sum() == data.anns[9]["area"] > 1000


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    first = snapshot.save(tmp_path, found(), "m", None, False, NOW)
    first[0].unlink()  # the name is still taken by the other two
    second = snapshot.save(tmp_path, found(), "m", Selection(77, (0, 0)), False, NOW)
    assert [path.name for path in second] == [
        "snapshot-20250309-140506-2.png",
        "snapshot-20250309-140506-2-overlay.png",
        "snapshot-20250309-140506-2.json",
    ]
    assert json.loads(second[2].read_text())["info"]["selected_id"] is None
    assert len(list(tmp_path.iterdir())) == 5


def test_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputNotWritable, match="nothing was saved") as caught:
            snapshot.save(folder, found(), "m", None, False, NOW)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", ["64k", "256k"])
def test_disk_full_leaves_nothing(small_disk: Callable[[str], Path], size: str) -> None:
    disk = small_disk(size)
    with pytest.raises(OutputNotWritable, match="No space left on device"):
        snapshot.save(disk, found(), "m", None, False, NOW)
    assert list(disk.iterdir()) == []
