"""Which layer of an int8 model is to blame: each tensor that the float model has too, compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.convert.check.intermediate import Float32s, Run

OWN_LIMIT: Final = 0.3
"""Of the error that a tensor's own range and steps make, as a part of what it says. Good models have 0.1."""
JUMP_LIMIT: Final = 0.3
"""Of the error that has come together up to a tensor, if it is three times that of the operator's inputs."""
CUT_LIMIT: Final = 0.05
"""Of the values that a range leaves out: more, and that is the reason."""
LEAST_SPREAD: Final = 0.2
"""Of what a tensor says, as a part of its size: some are almost constant."""
NOTICED: Final = 0.05
"""A value counts as left out if that makes a difference of this part of the spread."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator's output in both models."""

    number: int
    """Of the operator, from 1."""
    of: int
    kind: str
    name: str
    shape: tuple[int, ...]
    is_output: bool
    """Of the model: its range need not hold what anchors without a score say."""
    error: float
    """Root mean square difference, as a part of the float tensor's spread."""
    before: float
    """The same of the operator's inputs, the worst of them."""
    own: float
    """What the tensor's range and steps alone make of the float values."""
    cut: float
    """Part of the float values that the range leaves out."""

    @property
    def guilty(self) -> bool:
        """Whether this operator makes things worse, and a lot."""
        return self.own > OWN_LIMIT or (self.error > JUMP_LIMIT and self.error > 3 * self.before)

    def __str__(self) -> str:
        sides = " x ".join(map(str, self.shape))
        where = f"operator {self.number} of {self.of} ({self.kind}, {sides}, {self.name})"
        if self.own > OWN_LIMIT and self.cut > CUT_LIMIT:
            return f"{where}: its range cuts off {self.cut:.0%} of its values"
        if self.own > OWN_LIMIT:
            return f"{where}: its steps are too coarse"
        return f"{where}: its weights or scales are wrong" if self.guilty else where


def compare_layers(real: bytes, quantised: bytes, picture: NDArray[np.uint8]) -> Iterator[Layer]:
    """All operators of the int8 model whose output the float model has too, in the order in which they run.

    `picture` is (H, W, 3) uint8. Tensors are told by their names, which quantising keeps.
    """
    true_run, run = Run(real, picture), Run(quantised, picture)
    known = {true_run.names[operator.output]: operator.output for operator in true_run.operators}
    scales = run.channel_scales()
    errors: dict[int, float] = {}
    for number, operator in enumerate(run.operators, 1):
        tensor = operator.output
        before = max((errors.get(one, 0.0) for one in operator.inputs), default=0.0)
        if (name := run.names[tensor]) not in known:
            errors[tensor] = before
            continue
        view, scale = run.view_of(tensor), scales.get(tensor, np.float32(1))
        true = true_run.values(known[name])
        said = view.of(true)
        spread = max(float(said.std()), LEAST_SPREAD * _rms(said), view.least_spread)
        errors[tensor] = _rms(view.of(run.values(tensor) / scale) - said) / spread
        alone = run.restore(tensor, run.store(tensor, true * scale)) / scale
        inside = np.clip(true * scale, *run.range_of(tensor)) / scale
        yield Layer(
            number,
            len(run.operators),
            operator.kind,
            run.name_of(tensor),
            true.shape[1:],
            tensor in run.outputs,
            errors[tensor],
            before,
            _rms(view.of(alone) - said) / spread,
            float(np.mean(np.abs(view.of(inside) - said) > NOTICED * spread)),
        )


def blame(layers: Sequence[Layer], outputs_too: bool) -> Layer | None:
    """The first layer that is guilty, if any stands out."""
    return next((one for one in layers if one.guilty and (outputs_too or not one.is_output)), None)


def table(layers: Sequence[Layer]) -> str:
    """All layers, for a file."""
    lines = [f"{'operator':>8}  {'error':>7}  {'before':>7}  {'own':>7}  {'cut off':>7}  what"]
    for layer in layers:
        mark = "  <- here" if layer.guilty else ""
        lines.append(
            f"{layer.number:8}  {layer.error:7.3f}  {layer.before:7.3f}  {layer.own:7.3f}  {layer.cut:7.1%}  "
            f"{layer.kind} {layer.name}{mark}"
        )
    return "\n".join(lines) + "\n"


def _rms(values: Float32s) -> float:
    return float(np.sqrt(np.square(values).mean()))
