"""How far an int8 model is from the float one on pictures: the same anchors' scores, boxes and masks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf  # type: ignore[import-untyped]
from numpy.typing import NDArray

from .compare import Detections, Outputs, Shortfall, arrange, detect, shortfall, with_a_score


@dataclass(frozen=True, slots=True, eq=False)
class _Reference:
    anchors: list[NDArray[np.intp]]
    detections: list[Detections]


class Judge:
    """Compares int8 models with one float model."""

    def __init__(self, content: bytes, pictures: Sequence[Any]) -> None:
        """`pictures` are (H, W, 3) uint8."""
        self._pictures = pictures
        self._references = []
        for outputs in self._run(content):
            anchors = [with_a_score(level.logits) for level in outputs.levels]
            self._references.append(_Reference(anchors, detect(outputs, anchors)))

    def __call__(self, content: bytes) -> Shortfall:
        """What an int8 model loses against the float one."""
        pairs = []
        for reference, outputs in zip(self._references, self._run(content), strict=True):
            found = detect(outputs, reference.anchors, reference.detections)
            pairs += list(zip(reference.detections, found, strict=True))
        return shortfall(pairs)

    def _run(self, content: bytes) -> Iterator[Outputs]:
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=len(os.sched_getaffinity(0)))
        interpreter.allocate_tensors()
        (entry,) = interpreter.get_input_details()
        for picture in self._pictures:
            whole = entry["dtype"] == np.int8
            values = (picture.astype(np.int16) - 128).astype(np.int8) if whole else picture / np.float32(255)
            interpreter.set_tensor(entry["index"], values[np.newaxis])
            interpreter.invoke()
            outputs = []
            for details in interpreter.get_output_details():
                stored = interpreter.get_tensor(details["index"])[0].astype(np.float32)
                scale, zero_point = details["quantization"]
                outputs.append((stored - zero_point) * np.float32(scale) if scale else stored)
            yield arrange(outputs)
