"""Whether each form of a network still says what the one before it says: torch, ONNX, float and int8 TFLite.

Measured on real pictures, at the anchors that become detections. A form that differs too much stops the
conversion, and the output or the layer that is to blame is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.convert.check import layers
from appliance.convert.check.losses import Losses, compare
from appliance.convert.check.predictions import Float32s, Predictions, from_fused, read
from appliance.data import PLAIN_BINS, Layout, ModelSpec, Tensor, TensorSpec
from appliance.errors import LossTooGreat
from appliance.invoke import runtime
from appliance.layouts import EndToEnd, Fused, arrange

Pictures = NDArray[np.uint8]
"""(N, H, W, 3), letterboxed, red first."""
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a form may lose; see `Losses`."""

    score: float
    box: float
    coefficient: float
    mask: float


SAME: Final = Bounds(score=0.001, box=0.002, coefficient=0.005, mask=0.01)
"""Between two float forms, which only round differently."""
INT8: Final = Bounds(score=0.10, box=0.08, coefficient=0.20, mask=0.12)
"""About three times what YOLOv8n-seg at 512 loses on photographs: 0.035, 0.017, 0.050, 0.022."""


def same(
    stage: str, true: Sequence[Predictions], found: Sequence[Predictions], wh: tuple[int, int]
) -> Losses:
    """Compare two float forms. Raises `LossTooGreat`, which begins with `stage`."""
    losses, by_stride = compare(list(zip(true, found, strict=True)), wh)
    if (problem := _problem(losses, by_stride, SAME)) is not None:
        raise LossTooGreat(f"check: {stage}: {problem}")
    return losses


def quantised(
    float_model: Path,
    int8_model: Path,
    pictures: Pictures,
    bins: Sequence[float] = PLAIN_BINS,
    layers_file: Path | None = None,
) -> tuple[Losses, dict[int, Losses]]:
    """Compare an int8 model with the float one that it was made of. All in all, and by stride.

    Both what it finds and its layers, one by one on the first picture, are compared; a table of the layers is
    written to `layers_file`. Raises `LossTooGreat`, which names the output that loses most, and the first
    layer that goes wrong, if any stands out.
    """
    true, _ = run_tflite(float_model, pictures, bins)
    found, spec = run_tflite(int8_model, pictures, bins)
    losses, by_stride = compare(list(zip(true, found, strict=True)), spec.input_wh)
    # A network that finds nothing says nothing that could be bounded; its layers are looked at all the same.
    problem = None if losses.faint else _problem(losses, by_stride, INT8)
    shared = _shared_scale(spec)
    compared = list(layers.compare_layers(float_model.read_bytes(), int8_model.read_bytes(), pictures[0]))
    if layers_file is not None:
        layers_file.write_text(layers.table(compared))
    guilty = layers.blame(compared, outputs_too=problem is not None)
    reasons = [problem] if problem else []
    if shared is not None and (problem or losses.faint):
        reasons.append(shared)
    elif guilty is not None:
        reasons.append(f"first wrong is {guilty}")
    elif problem:
        reasons.append("no single layer stands out")
    if reasons:
        where = f" (all layers: {layers_file})" if layers_file is not None else ""
        raise LossTooGreat(
            f"check: the int8 model says something else than the float one: {'; '.join(reasons)}{where}"
        )
    return losses, by_stride


def run_tflite(model: Path, pictures: Pictures, bins: Sequence[float]) -> tuple[list[Predictions], ModelSpec]:
    """What a TFLite model says about pictures. Raises `ModelError`."""
    content = runtime.read(model)
    interpreter = runtime.load(model, content, threads=2)
    spec = _spec(interpreter, bins)
    indices = [int(details["index"]) for details in interpreter.get_output_details()]
    entry = int(interpreter.get_input_details()[0]["index"])
    said = []
    for picture in pictures:
        tensor = _as_input(picture, spec)
        interpreter.set_tensor(entry, tensor)
        interpreter.invoke()
        outputs = [
            output.dequantise(interpreter.get_tensor(index))
            for output, index in zip(spec.outputs, indices, strict=True)
        ]
        said.append(read(spec, outputs))
    return said, spec


def from_torch(outputs: Path, wh: tuple[int, int]) -> list[Predictions]:
    """What Ultralytics' own code says: `rows` (N, 4 + classes + 32, A) and `prototypes` (N, 32, h, w)."""
    with np.load(outputs) as saved:
        pairs = list(zip(saved["rows"], saved["prototypes"], strict=True))
    return [from_fused(rows.T, prototypes.transpose(1, 2, 0), wh) for rows, prototypes in pairs]


def from_onnx(outputs: Path, wh: tuple[int, int], bins: Sequence[float]) -> list[Predictions]:
    """What the raw-head ONNX says: each output by name, (N, channels, h, w)."""
    with np.load(outputs) as saved:
        named: dict[str, Float32s] = {name: saved[name] for name in saved.files}
    float32 = np.dtype(np.float32)
    entry = TensorSpec("images", (1, 3, wh[1], wh[0]), float32)
    specs = tuple(TensorSpec(name, (1, *values.shape[1:]), float32) for name, values in named.items())
    spec = ModelSpec("onnx", entry, specs, Layout.RAW_HEAD, bins=tuple(bins))
    count = len(next(iter(named.values())))
    return [read(spec, [values[i : i + 1] for values in named.values()]) for i in range(count)]


def as_json(losses: Losses) -> Json:
    """For the sidecar."""
    figures: Json = {"anchors": losses.anchors}
    if losses.faint:
        figures["sure_of_nothing"] = True
    return figures | {kind: round(value, 4) for kind, value in losses.kinds()}


def _spec(interpreter: runtime.Interpreter, bins: Sequence[float]) -> ModelSpec:
    (entry,) = map(runtime.tensor_spec, interpreter.get_input_details())
    outputs = tuple(map(runtime.tensor_spec, interpreter.get_output_details()))
    return ModelSpec("checked", entry, outputs, Layout.RAW_HEAD, bins=tuple(bins))


def _as_input(picture: NDArray[np.uint8], spec: ModelSpec) -> Tensor:
    real = picture[np.newaxis].astype(np.float32) / np.float32(255)
    if not spec.nhwc:
        real = np.ascontiguousarray(real.transpose(0, 3, 1, 2))
    if not spec.input.quantised:
        return real
    limits = np.iinfo(spec.input.dtype)
    stored = np.clip(np.rint(real / spec.input.scale) + spec.input.zero_point, limits.min, limits.max)
    tensor: Tensor = stored.astype(spec.input.dtype)
    return tensor


def _problem(losses: Losses, by_stride: dict[int, Losses], bounds: Bounds) -> str | None:
    """What is lost most, compared with what may be, if that is too much; and where it is worst."""
    limits = {kind: getattr(bounds, kind) for kind, _ in losses.kinds()}
    kind, value = max(losses.kinds(), key=lambda one: one[1] / limits[one[0]])
    if value <= limits[kind]:
        return None
    worst = max(by_stride, key=lambda stride: dict(by_stride[stride].kinds())[kind])
    meaning = {
        "score": f"scores are off by {value:.3f} on average",
        "box": f"boxes have an IoU of {1 - value:.3f} only",
        "coefficient": f"mask coefficients are off by {value:.1%} of their size",
        "mask": f"masks have an IoU of {1 - value:.3f} only",
    }[kind]
    limit = f"{limits[kind]:g}" if kind in ("score", "coefficient") else f"{1 - limits[kind]:g}"
    return f"{meaning} (limit {limit}), most at stride {worst}"


def _shared_scale(spec: ModelSpec) -> str | None:
    """If boxes, scores and coefficients share an output, and so a scale: that this is the reason."""
    match arrange(spec.input, spec.outputs):
        case Fused(predictions=index) | EndToEnd(detections=index):
            scale = spec.outputs[index].scale
            return (
                f"its boxes, scores and coefficients share one output and one scale of {scale:.3g}, "
                f"so that a score has {1 / scale:.2g} steps between 0 and 1: use a raw head"
            )
        case _:
            return None
