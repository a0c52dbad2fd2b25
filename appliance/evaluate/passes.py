"""What a model says of each picture: its masks, and its second looks at prompts. Kept on the disk.

A picture's answers are found again by everything that they depend on: the model and what its description
says, the picture, the prompts, the backend, and the code that makes them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from appliance import geometry, layouts, masks, postprocess, preprocess, prompts, refine
from appliance.capture import photographs
from appliance.convert.environments import cache_folder
from appliance.data import Frame, RawOutputs, Segmentation
from appliance.durable import write_file
from appliance.errors import EvaluateError
from appliance.evaluate import masks_rle
from appliance.evaluate.masks_rle import Box, Point, Rle, encode
from appliance.evaluate.matching import Wanted
from appliance.evaluate.pictures import Picture
from appliance.evaluate.reference import CONFIDENCE, NMS_IOU, Progress, Scored
from appliance.invoke import Backend, edgetpu, runtime, sidecar, tflite
from appliance.invoke.choice import choose_backend
from appliance.invoke.pairs import ModelFile, find_pair, find_plain
from appliance.invoke.runtime import read, read_spec
from appliance.notices import Notices

LEAST_CONFIDENCE: Final = 0.05
"""Masks are kept from here on, so that a threshold can be chosen afterwards."""
LOOK_KINDS: Final = ("point", "box", "point_box")
LOOKS: Final = ("guided", "second_look_one", "second_look")
"""The first pass alone, chosen by the prompt; with one run more; with up to two."""

BackendName = Literal["cpu", "edgetpu"]
_CODE: Final = (
    *(geometry, layouts, masks, masks_rle, photographs, postprocess, preprocess, prompts, refine),
    *(edgetpu, runtime, sidecar, tflite),
)
_RUNTIMES: Final = ("ai-edge-litert", "tflite-runtime")
"""Packages whose kernels a model may run on: those of another version round otherwise."""


@dataclass(frozen=True, slots=True)
class Look:
    """The answers to one prompt, by `LOOKS`; None where there is none."""

    rles: tuple[Rle | None, ...]
    extra_invokes: int
    """That the last of them took."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one picture."""

    masks: list[Scored]
    """At `LEAST_CONFIDENCE` and more, best score first."""
    looks: list[dict[str, Look]]
    """By prompt, in the order asked, and then by `LOOK_KINDS`."""


class Segmenter:
    """The appliance's way from a picture to raw outputs."""

    def __init__(self, path: Path, backend: BackendName) -> None:
        """Raises `ModelError`, `EdgeTpuError`."""
        self.backend: Backend = choose_backend(path, backend, "auto", live=False)
        self.preprocess = preprocess.Preprocessor(self.backend.spec, self.backend.lease)
        self.backend.open(Notices(), lambda name: None, threading.Event())

    def __call__(self, frame: Frame) -> RawOutputs:
        """Run the model on a picture. Raises `EvaluateError` if the device went away."""
        ready = self.preprocess(frame)
        self.backend.start(ready.tensor)
        made = self.backend.finish()
        if made is None:
            raise EvaluateError("the device went away; start again, and it goes on from here")
        return RawOutputs(ready.frame, ready.letterbox, made.spec, made.tensors)


def answer_all(
    model: Path,
    backend: BackendName,
    pictures: Sequence[Picture],
    asked: Mapping[str, Sequence[Wanted]],
    progress: Progress,
) -> dict[str, Answers]:
    """A model's answers on every picture; `asked` are the prompts for second looks, by picture.

    Raises `ModelError`, `EdgeTpuError`, `SourceUnreadable`; `EvaluateError` if they cannot be kept.
    """
    folder = cache_folder() / "evaluate" / f"{model.stem}-{_key(model, backend)}"
    segment: Segmenter | None = None
    found: dict[str, Answers] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures):
            wants = asked.get(picture.name, ())
            wanted = repr([(want.box_xyxy, want.point_xy) for want in wants])
            key = hashlib.sha256(f"{picture.sha256} {wanted}".encode()).hexdigest()[:24]
            kept = folder / f"{key}.json"
            if segment is None and not kept.exists():
                segment = Segmenter(model, backend)  # which may say something, before the progress does
            progress(model.name, number, len(pictures))
            if segment is None or kept.exists():
                found[picture.name] = _read(kept)
                continue
            answers = answer(segment, Frame(number, 0, picture.rgb(), picture.name), wants)
            write_file(kept, _written(answers))
            found[picture.name] = answers
    except OSError as error:
        raise EvaluateError(
            f"{folder} cannot be written: {error.strerror}; set XDG_CACHE_HOME to a folder that can"
        ) from error
    finally:
        if segment is not None:
            segment.backend.close()
    progress(model.name, len(pictures), len(pictures))
    return found


def file_that_runs(model: Path, backend: BackendName) -> ModelFile:
    """The model itself, or its twin for the Edge TPU or for the CPU. Raises `ModelError`."""
    twin = find_plain(model) if backend == "cpu" else find_pair(model).compiled
    return twin or ModelFile(model, read(model))


def _key(model: Path, backend: BackendName) -> str:
    """What tells a model's answers from those of another, of the same with other bins, and of other code."""
    code = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in _CODE]
    code.append(Path(__file__).read_text(encoding="utf-8"))
    file = file_that_runs(model, backend)
    described = repr(read_spec(file.path, file.content))
    runtimes = [_version(package) for package in _RUNTIMES]
    settings = json.dumps([code, runtimes, backend, CONFIDENCE, NMS_IOU, LEAST_CONFIDENCE, described])
    return hashlib.sha256(file.content + settings.encode()).hexdigest()[:16]


def _version(package: str) -> str | None:
    """Of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def answer(segment: Callable[[Frame], RawOutputs], frame: Frame, asked: Sequence[Wanted]) -> Answers:
    """A model's answers on one picture."""
    first = segment(frame)
    everything = postprocess.postprocess(first, LEAST_CONFIDENCE, NMS_IOU)
    scored = [
        Scored(encode(masks.full_mask(everything, i)), round(float(everything.scores[i]), 5))
        for i in range(len(everything))
    ]
    confident = postprocess.postprocess(first, CONFIDENCE, NMS_IOU)
    on_crops: dict[refine.Crop, RawOutputs] = {}  # prompts with the same box look at the same crops
    looks = []
    for want in asked:
        prompts_by_kind: dict[str, tuple[Box | None, Point | None]] = {
            "point": (None, want.point_xy),
            "box": (want.box_xyxy, None),
            "point_box": (want.box_xyxy, want.point_xy),
        }
        looks.append(
            {
                kind: _look(segment, first, confident, box, point, on_crops)
                for kind, (box, point) in prompts_by_kind.items()
            }
        )
        on_crops.clear()
    return Answers(scored, looks)


def _look(
    segment: Callable[[Frame], RawOutputs],
    first: RawOutputs,
    confident: Segmentation,
    box: Box | None,
    point: Point | None,
    on_crops: dict[refine.Crop, RawOutputs],
) -> Look:
    instance = None
    if box is None and point is not None:
        picked = prompts.pick(confident, point)
        if picked is not None:
            left, top, right, bottom = confident.boxes_xyxy[picked].tolist()
            instance = left, top, right, bottom
    target = refine.aim(box, point, first, instance)
    if target is None:
        return Look((None,) * len(LOOKS), 0)
    evidence = [refine.gather(target, first)]
    answers = [_mask(refine.merge(target, evidence), first.frame)]
    crops = refine.crops(first.frame.size_wh, target.box_xyxy, first.letterbox.input_wh)
    for crop in crops:
        if crop not in on_crops:
            on_crops[crop] = segment(refine.cut(first.frame, crop))
        evidence.append(refine.gather(target, on_crops[crop], crop))
        answers.append(_mask(refine.merge(target, evidence), first.frame))
    answers += answers[-1:] * (len(LOOKS) - len(answers))
    return Look(tuple(answers), len(crops))


def _mask(refined: refine.Refined | None, frame: Frame) -> Rle | None:
    if refined is None:
        return None
    x0, y0, x1, y1 = refined.roi_xyxy
    full = np.zeros(frame.rgb.shape[:2], np.bool_)
    full[y0:y1, x0:x1] = refined.mask > 0
    return encode(full)


def _written(answers: Answers) -> bytes:
    def text(rle: Rle | None) -> str | None:
        return None if rle is None else rle.counts

    size = [answers.masks[0].rle.height, answers.masks[0].rle.width] if answers.masks else None
    for look in (look for looks in answers.looks for look in looks.values()):
        size = size or next(([rle.height, rle.width] for rle in look.rles if rle is not None), None)
    return json.dumps(
        {
            "size": size,
            "masks": [[scored.score, scored.rle.counts] for scored in answers.masks],
            "looks": [
                {kind: [look.extra_invokes, *map(text, look.rles)] for kind, look in looks.items()}
                for looks in answers.looks
            ],
        }
    ).encode()


def _read(path: Path) -> Answers:
    content: dict[str, Any] = json.loads(path.read_bytes())
    height, width = content["size"] or (0, 0)

    def rle(counts: str | None) -> Rle | None:
        return None if counts is None else Rle(height, width, counts)

    scored = [Scored(Rle(height, width, counts), score) for score, counts in content["masks"]]
    looks = [
        {kind: Look(tuple(map(rle, texts)), invokes) for kind, (invokes, *texts) in kinds.items()}
        for kinds in content["looks"]
    ]
    return Answers(scored, looks)
