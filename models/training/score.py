"""Score a TFLite model with the appliance's own preprocess, postprocess and click.

    python models/training/score.py models/demo.tflite [--photographs FOLDER] [--json FILE]
    python models/training/score.py --check --photographs FOLDER

Three measurements: mask AP on generated scenes whose photographs were held out of training; finding and
clicking objects on the scene that the appliance shows; and, if a folder is given, mask AP on photographs:
`images/NAME.jpg`, and `polygons/NAME.txt`, an instance a line: its class, then x y pairs in 0..1. One without
has no objects. `--check` only says whether they can all be read.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from photographs import held_out
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from appliance.capture.scene import Scene
from appliance.coco import instances
from appliance.config import Config
from appliance.data import Frame, RawOutputs, RgbImage, Segmentation
from appliance.errors import ApplianceError, SourceUnreadable
from appliance.evaluate.labels import read_polygons
from appliance.evaluate.masks_rle import decode
from appliance.evaluate.pictures import find_pictures
from appliance.invoke.tflite import TfliteBackend
from appliance.masks import full_mask
from appliance.postprocess import postprocess
from appliance.preprocess import Preprocessor
from appliance.prompts import pick

_AP_CONFIDENCE = 0.01
"""Average precision wants the doubtful instances too."""
_SLIVER = 0.001
"""Objects of which less than this part of the picture is visible are left out of the truth."""
_COUNTED = 0.01
"""Part of the picture from which on an object counts as one to be found."""
_FOUND_IOU = 0.7
_CLICKED_IOU = 0.5
"""A click is right if the instance it selects overlaps the clicked object by this."""


@dataclass(frozen=True)
class Pictured:
    """A picture and the exact masks of its objects, each (H, W) bool."""

    rgb: RgbImage
    masks: list[NDArray[np.bool_]]


class Segmenter:
    """The appliance's way from a picture to instances."""

    def __init__(self, model: Path) -> None:
        self._backend = TfliteBackend(model)
        self._preprocess = Preprocessor(self._backend.spec)
        self._nms_iou = Config().model.nms_iou

    def __call__(self, rgb: RgbImage, confidence: float) -> Segmentation:
        """All instances of a picture."""
        made = self._preprocess(Frame(0, 0, rgb))
        outputs = self._backend.invoke(made.tensor).tensors
        raw = RawOutputs(made.frame, made.letterbox, self._backend.spec, outputs)
        return postprocess(raw, confidence, self._nms_iou)


def _masks(labels: NDArray[np.uint8], smallest: float) -> list[NDArray[np.bool_]]:
    counts = np.bincount(labels.reshape(-1))
    return [labels == k for k in range(1, len(counts)) if counts[k] >= smallest * labels.size]


def held_out_scenes(count: int) -> Iterator[Pictured]:
    """One picture each of scenes with other seeds and other photographs than those trained on."""
    photographs = held_out()
    for seed in range(500_000, 500_000 + count):
        rgb, labels = Scene(seed, photographs=photographs).render(seed % 1000)
        yield Pictured(rgb, _masks(labels, _SLIVER))


def labelled_photographs(folder: Path) -> Iterator[Pictured]:
    """`images/` has the photographs, `polygons/` their objects, as `appliance evaluate` reads them.

    Raises `SourceMissing`, `SourceUnreadable`, `EvaluateError`.
    """
    pictures = find_pictures(folder / "images", None)
    sizes_hw = {picture.name: picture.size_hw for picture in pictures}
    polygons = read_polygons(folder / "polygons", sizes_hw)
    if not any(polygons.values()):
        raise SourceUnreadable(f"{folder / 'polygons'} has no objects on these photographs")
    for picture in pictures:
        yield Pictured(picture.rgb(), [decode(mask) for mask in polygons[picture.name]])


def average_precision(segment: Segmenter, pictures: Iterable[Pictured]) -> dict[str, float]:
    """COCO's mask AP, one class for all, and the mean over the objects of the best IoU of an instance."""
    truth: list[dict[str, object]] = []
    found: list[dict[str, object]] = []
    images: list[dict[str, object]] = []
    best: list[float] = []
    for number, picture in enumerate(pictures, start=1):
        height, width = picture.rgb.shape[:2]
        images.append({"id": number, "height": height, "width": width})
        ours = [
            {"image_id": number, "category_id": 1, "score": i["score"], "segmentation": i["segmentation"]}
            for i in instances(segment(picture.rgb, _AP_CONFIDENCE))
        ]
        encoded = [rle.encode(np.asfortranarray(mask.view(np.uint8))) for mask in picture.masks]
        truth += [
            {"id": len(truth) + i, "image_id": number, "category_id": 1, "iscrowd": 0,
             "area": int(mask.sum()), "segmentation": code}
            for i, (mask, code) in enumerate(zip(picture.masks, encoded, strict=True), start=1)
        ]  # fmt: skip
        confident = [i["segmentation"] for i in ours if i["score"] >= Config().model.confidence]
        if encoded:
            overlaps = (
                rle.iou(confident, encoded, [0] * len(encoded)) if confident else np.zeros((1, len(encoded)))
            )
            best += np.asarray(overlaps).max(axis=0).tolist()
        found += ours
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": truth, "categories": [{"id": 1, "name": "object"}]}
        coco.createIndex()
        scored = COCOeval(coco, coco.loadRes(found), "segm")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return {
        "pictures": len(images),
        "objects": len(truth),
        "mask_map50": round(float(scored.stats[1]), 4),
        "mask_map50_95": round(float(scored.stats[0]), 4),
        "mean_best_iou": round(float(np.mean(best)), 4),
    }


def finding_and_clicking(
    segment: Segmenter, scene: Scene, indices: Sequence[int], clicks: int
) -> dict[str, float]:
    """Objects over 1 % of the picture: how many are found, and what clicks at random in them select."""
    rng = np.random.default_rng(0)
    visible = found = clicked = right = clicked_found = right_found = instances_shown = 0
    for index in indices:
        rgb, labels = scene.render(index)
        segmentation = segment(rgb, Config().model.confidence)
        instances_shown += len(segmentation)
        ours = [full_mask(segmentation, i) for i in range(len(segmentation))]
        for mask in _masks(labels, _COUNTED):
            overlaps = np.array([(mask & our).sum() / (mask | our).sum() for our in ours] or [0.0])
            is_found = overlaps.max() >= _FOUND_IOU
            visible += 1
            found += is_found
            rows, columns = np.nonzero(mask)
            for at in rng.integers(len(rows), size=clicks):
                selected = pick(segmentation, (columns[at] + 0.5, rows[at] + 0.5))
                is_right = selected is not None and overlaps[selected] >= _CLICKED_IOU
                clicked += 1
                right += is_right
                clicked_found += is_found
                right_found += is_right and is_found
    return {
        "pictures": len(indices),
        "objects": visible,
        "found_iou_0.7": round(found / visible, 4),
        "click_right_on_found": round(right_found / max(1, clicked_found), 4),
        "click_right_on_any": round(right / clicked, 4),
        "instances_per_picture": round(instances_shown / len(indices), 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Score a TFLite model.")
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--photographs", type=Path, help="a folder with images/ and polygons/")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=300, help="of the live scene")
    parser.add_argument("--every", type=int, default=1, help="take only every n-th of them")
    parser.add_argument("--seed", type=int, default=Config().scene.seed, help="of the live scene")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--check", action="store_true", help="only read the photographs of the folder")
    options = parser.parse_args()
    if options.check and options.photographs:
        try:
            objects = [len(pictured.masks) for pictured in labelled_photographs(options.photographs)]
        except ApplianceError as error:
            raise SystemExit(f"score: {error}") from error
        print(f"{len(objects)} photographs, {sum(objects)} objects")
        return
    if options.check or options.model is None:
        parser.error("give a model, or --check and --photographs")
    segment = Segmenter(options.model)
    figures = {
        "held_out_scenes": average_precision(segment, held_out_scenes(options.scenes)),
        "live_scene": finding_and_clicking(
            segment, Scene(options.seed), range(0, options.pictures, options.every), clicks=5
        ),
    }
    if options.photographs:
        figures["photographs"] = average_precision(segment, labelled_photographs(options.photographs))
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
