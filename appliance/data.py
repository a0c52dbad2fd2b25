"""What passes between the stages: frozen, and arrays that nobody writes to once they are handed on.

Frames of reference: *picture* pixels are those of the source; *input* pixels those of the model's
letterboxed input; *prototype* pixels those of its mask prototypes. All are continuous, from the top left (see
`geometry`). Times are `time.monotonic_ns()`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.geometry import Letterbox

RgbImage = NDArray[np.uint8]
"""(H, W, 3) uint8, red first."""
RgbaImage = NDArray[np.uint8]
"""(H, W, 4) uint8, red first, alpha not premultiplied."""
Tensor = NDArray[Any]
"""A model's input or output, in the dtype and layout of its `TensorSpec`."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture from a source."""

    index: int
    """Counts the pictures of the source from 0; drops leave gaps further down."""
    captured_ns: int
    """When the picture was taken. Of a file read as fast as possible: its place in the file's own time."""
    rgb: RgbImage
    name: str = ""
    """The file's name, for photographs."""
    small: RgbImage | None = None
    """The same picture, the whole of it, at a smaller size, where the camera makes one: for the model."""

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model, as the interpreter reports it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    """Quantisation: real = scale * (stored - zero_point); 0 for float tensors."""
    zero_point: int = 0

    @property
    def quantised(self) -> bool:
        """Whether the tensor holds int8 or uint8 steps."""
        return self.scale != 0.0

    def dequantise(self, stored: Tensor) -> NDArray[np.float32]:
        """Real values, float32, of the same shape."""
        if not self.quantised:
            return stored.astype(np.float32, copy=False)
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


class Layout(enum.Enum):
    """How a model arranges its outputs; told apart by their shapes alone."""

    RAW_HEAD = "raw head"
    """Per stride: box distributions (64), class logits (nc), mask coefficients (32); and the prototypes."""
    FUSED = "fused"
    """(1, 4 + nc + 32, A): centre, size, class scores, coefficients; and the prototypes."""
    END_TO_END = "end-to-end"
    """(1, 300, 38): corners, score, class, coefficients, NMS done; and the prototypes."""


PLAIN_BINS = tuple(float(number) for number in range(16))
"""The distances, in strides, that the bins of a box distribution stand for, as a network is trained."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a loaded model takes and gives."""

    name: str
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    layout: Layout
    demo: bool = False
    """Its sidecar says that it is there to show the appliance, not to be good."""
    bins: tuple[float, ...] = PLAIN_BINS
    """Of a raw head: the distances that its bins stand for; its checkpoint may have had others."""

    @property
    def nhwc(self) -> bool:
        """Whether the input is (1, H, W, 3) rather than (1, 3, H, W)."""
        return self.input.shape[3] == 3

    @property
    def input_wh(self) -> tuple[int, int]:
        """Width and height of the input in pixels."""
        shape = self.input.shape
        return (shape[2], shape[1]) if self.nhwc else (shape[3], shape[2])


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """A picture made ready for the model."""

    frame: Frame
    letterbox: Letterbox
    tensor: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """What one run of a model gave, still quantised."""

    spec: ModelSpec
    """Of the model that ran; a stand-in's quantisation is its own."""
    tensors: tuple[Tensor, ...]
    """In the order of `spec.outputs`."""
    took_ms: float
    """What the device took."""


@dataclass(frozen=True, slots=True, eq=False)
class RawOutputs:
    """What the model gave, still quantised."""

    frame: Frame
    letterbox: Letterbox
    spec: ModelSpec
    """Of the model that made them."""
    tensors: tuple[Tensor, ...]
    """In the order of `spec.outputs`."""


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """All instances found in one picture; N of them, best score first.

    A mask is kept at prototype resolution, as levels: 128 + 4 * logit, clipped to 0..255, so that the object
    is where the level, bilinearly interpolated, is at least 128, *and* inside the instance's box: `masks`
    turns that into pixels of any size.
    """

    frame: Frame
    letterbox: Letterbox
    boxes_xyxy: NDArray[np.float32]
    """(N, 4), picture pixels, clipped to the picture."""
    scores: NDArray[np.float32]
    """(N,), 0..1."""
    mask_levels: NDArray[np.uint8]
    """(N, h, w), prototype pixels; they cover the model's whole input, padding included."""
    ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(N,), the same from picture to picture for the same object; empty until `identity` has given them."""

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True)
class Selection:
    """The object that is picked out."""

    id: int
    """An id of `Segmentation.ids`; the object may be out of sight for a while."""
    point_xy: tuple[float, float]
    """Where it was clicked, picture pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The masks of one segmentation, drawn: to be laid over the picture, stretched to its rectangle."""

    segmentation: Segmentation
    rgba: RgbaImage
    """Any size with about the picture's aspect."""
