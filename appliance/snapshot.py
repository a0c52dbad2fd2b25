"""A snapshot: the picture, the picture with its masks, and the instances in COCO's format."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import cv2

from appliance import coco
from appliance.data import RgbImage, Segmentation, Selection
from appliance.durable import free_stem, write_file
from appliance.errors import OutputNotWritable
from appliance.overlay import draw, flatten


def save(
    folder: Path,
    segmentation: Segmentation,
    model: str,
    selection: Selection | None,
    only_selection: bool,
    now: datetime,
) -> list[Path]:
    """Save the picture that masks belong to, so that picture and masks agree, whatever was on the screen.

    The masks are drawn at the picture's size, like on the screen: see `overlay.draw`.

    Writes `snapshot-DATE-TIME-N.png`, the same with `-overlay`, and the same as `.json`; returns the
    three paths. Never overwrites anything, and each file is there whole or not at all. Raises
    `OutputNotWritable`, also if the disk is full, with nothing left behind.
    """
    frame = segmentation.frame
    picture = encode_png(frame.rgb)
    layer = draw(segmentation, selection, frame.size_wh, only_selection)
    overlay = encode_png(flatten(frame.rgb, layer))
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stem = free_stem(folder, "snapshot", now)
        picture_path = folder / f"{stem}.png"
        described = _describe(picture_path.name, segmentation, model, selection, now)
        for path, data in (
            (picture_path, picture),
            (folder / f"{stem}-overlay.png", overlay),
            (folder / f"{stem}.json", described),
        ):
            write_file(path, data)
            written.append(path)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise OutputNotWritable(f"cannot save into {folder} ({error.strerror}); nothing was saved") from error
    return written


def encode_png(rgb: RgbImage) -> bytes:
    """A picture (H, W, 3) uint8, red first, as PNG."""
    # The lowest compression: a tenth larger, several times as fast.
    ok, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert ok
    return encoded.tobytes()


def encode_jpeg(rgb: RgbImage) -> bytes:
    """A picture (H, W, 3) uint8, red first, as JPEG."""
    ok, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert ok
    return encoded.tobytes()


def _describe(
    picture_name: str, segmentation: Segmentation, model: str, selection: Selection | None, now: datetime
) -> bytes:
    """The JSON file: a COCO data set of one picture."""
    width, height = segmentation.frame.size_wh
    image_id = 1
    found = coco.instances(segmentation)
    in_sight = selection is not None and any(instance["id"] == selection.id for instance in found)
    dataset = {
        "info": {
            "description": "snapshot",
            "date_created": now.astimezone().isoformat(timespec="seconds"),
            "model": model,
            "selected_id": selection.id if selection is not None and in_sight else None,
        },
        "images": [{"id": image_id, "file_name": picture_name, "width": width, "height": height}],
        "categories": [{"id": coco.CATEGORY_ID, "name": "object"}],
        "annotations": [{**instance, "image_id": image_id, "iscrowd": 0} for instance in found],
    }
    return json.dumps(dataset, indent=1).encode()
