"""Which ops of a model would run on an Edge TPU.

Every op is held against `operators`. Of those that can run there, the compiler takes one part of the graph:
cutting works as in TFLite's own partition_helper, which goes through the ops in their order and puts into a
part all of one kind whose inputs are there; the first part of mappable ops is compiled, all later ones run on
the CPU ("More than one subgraph is not supported").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.convert.edgetpu.model import Model, Operator, parse
from appliance.convert.edgetpu.operators import LIMITS, Use, computed_shape, refusal, too_new
from appliance.errors import NotForEdgeTpu
from appliance.invoke import runtime

ON_CHIP_BYTES: Final = 8 * 2**20
"""An Edge TPU's memory, "roughly 8 MB" by https://coral.ai/docs/edgetpu/compiler/; its program needs some."""
COMPILED: Final = "edgetpu-custom-op"
"""What a compiled model has in place of the ops that were mapped."""
_LATER: Final = "behind an op that runs on the CPU"
_OUTSIDE: Final = "left to the CPU by the compiler"


@dataclass(frozen=True, slots=True)
class OpLine:
    """All ops of a kind that go to the same place for the same reason."""

    name: str
    version: int
    count: int
    on_edge_tpu: bool
    reason: str | None
    """Why not, or None."""


@dataclass(frozen=True, slots=True)
class CpuOp:
    """An op that would run on the CPU."""

    name: str
    version: int
    reason: str
    output: str
    """The name of what it gives."""
    output_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GraphReport:
    """What of a model would run where."""

    compiled: bool
    """Whether the model is compiled already; then all its mapped ops together are one."""
    lines: tuple[OpLine, ...]
    first_on_cpu: CpuOp | None
    refused: str | None
    """Why the compiler would refuse the model as a whole, or None."""
    weight_bytes: int | None
    """What the Edge TPU has to hold; None in a compiled model, where they are packed with the program."""
    notes: tuple[str, ...]
    """What decides as well, but cannot be seen from here."""

    @property
    def edge_tpu(self) -> int:
        """How many ops would run on the Edge TPU; 1 for all of a compiled model's."""
        return sum(line.count for line in self.lines if line.on_edge_tpu)

    @property
    def cpu(self) -> int:
        """How many would run on the CPU."""
        return sum(line.count for line in self.lines if not line.on_edge_tpu)

    @property
    def streamed_bytes(self) -> int | None:
        """What does not fit and so is sent again at each invoke, at least."""
        return None if self.weight_bytes is None else max(0, self.weight_bytes - ON_CHIP_BYTES)

    @property
    def all_mapped(self) -> bool:
        """Whether nothing is known that would keep an op from the Edge TPU."""
        return self.refused is None and self.cpu == 0


def check(path: Path) -> GraphReport:
    """What of the model in a file would run on an Edge TPU.

    Raises `ModelMissing`, `NotAModel`; `NotForEdgeTpu` for a model that no op of could: of floating-point
    numbers, or with shapes that are known at run time only; `ModelError` where ai-edge-litert is missing.
    """
    return check_content(runtime.read(path), str(path))


def check_content(content: bytes, name: str) -> GraphReport:
    """The same for a file's bytes, which errors call `name`. Raises as `check`, but no `ModelMissing`."""
    model = parse(content, name)
    uses = [_use(model, operator) for operator in model.operators]
    if any(operator.custom and operator.name == COMPILED for operator in model.operators):
        reasons = [
            None if use.operator.custom and use.operator.name == COMPILED else _OUTSIDE for use in uses
        ]
        return _report(model, uses, reasons, compiled=True)
    _refuse_hopeless(uses, name)
    refusals = [refusal(use) for use in uses]
    mapped = _first_part([reason is None for reason in refusals], model)
    reasons = [None if index in mapped else reason or _LATER for index, reason in enumerate(refusals)]
    return _report(model, uses, reasons, compiled=False)


def _use(model: Model, operator: Operator) -> Use:
    return Use(
        operator,
        tuple(None if index is None else model.tensors[index] for index in operator.inputs),
        tuple(model.tensors[index] for index in operator.outputs),
    )


def _refuse_hopeless(uses: Sequence[Use], name: str) -> None:
    """Raise `NotForEdgeTpu` for a model that no op of can run there."""
    outputs = [tensor for use in uses for tensor in use.outputs]
    if not any(tensor.quantised and tensor.dtype in ("INT8", "UINT8") for tensor in outputs):
        raise NotForEdgeTpu(
            f"{name} works on {outputs[0].dtype if outputs else 'no'} numbers; an Edge TPU needs a "
            "full-integer model: make one with `appliance convert`"
        )
    for use in uses:
        open_tensor = computed_shape(use)
        if open_tensor is not None:
            raise NotForEdgeTpu(
                f"{name}: the shape of {open_tensor.name!r} ({use.operator.name}) is known at run time only; "
                "an Edge TPU needs fixed shapes: export the model with a fixed input size and without NMS"
            )


def _first_part(mappable: Sequence[bool], model: Model) -> set[int]:
    """The indices of the ops in the first part that can be compiled."""
    makers = {tensor: index for index, operator in enumerate(model.operators) for tensor in operator.outputs}
    needs = [
        {makers[tensor] for tensor in operator.inputs if tensor is not None and tensor in makers}
        for operator in model.operators
    ]
    done: set[int] = set()
    waiting = list(range(len(model.operators)))
    while waiting:
        part: set[int] = set()
        kind: bool | None = None
        for index in waiting:
            if needs[index] <= done | part and kind in (None, mappable[index]):
                kind = mappable[index]
                part.add(index)
        if kind or not part:  # an empty part: ops that wait for each other
            return part
        done |= part
        waiting = [index for index in waiting if index not in part]
    return set()


def _report(
    model: Model, uses: Sequence[Use], reasons: Sequence[str | None], *, compiled: bool
) -> GraphReport:
    groups = Counter(
        (use.operator.name, use.operator.version, reason) for use, reason in zip(uses, reasons, strict=True)
    )
    lines = tuple(
        OpLine(name, version, count, reason is None, reason)
        for (name, version, reason), count in sorted(
            groups.items(), key=lambda group: (group[0][2] is not None, group[0][0], group[0][1])
        )
    )
    first = next(
        (_cpu_op(use, reason) for use, reason in zip(uses, reasons, strict=True) if reason is not None),
        None,
    )
    mapped = [use for use, reason in zip(uses, reasons, strict=True) if reason is None]
    weights = {
        tensor.buffer: len(tensor.data)
        for use in mapped
        for tensor in use.inputs
        if tensor is not None and tensor.data is not None
    }
    return GraphReport(
        compiled=compiled,
        lines=lines,
        first_on_cpu=first,
        refused=None if compiled else _refused(model, uses),
        weight_bytes=None if compiled else sum(weights.values()),
        notes=() if compiled else _notes(mapped),
    )


def _cpu_op(use: Use, reason: str) -> CpuOp:
    name, shape = (use.outputs[0].name, use.outputs[0].shape) if use.outputs else ("", ())
    return CpuOp(use.operator.name, use.operator.version, reason, name, shape)


def _refused(model: Model, uses: Sequence[Use]) -> str | None:
    if model.graphs > 1:
        return f"it has {model.graphs} graphs (control flow), and the compiler takes one"
    if model.weights_outside:
        return "its weights lie behind the flatbuffer, where the compiler of 2021 does not look"
    newest = sorted({f"{use.operator.name} {use.operator.version}" for use in uses if too_new(use)})
    if newest:
        return f"versions of ops that are newer than the compiler: {', '.join(newest)}"
    return None


def _notes(mapped: Sequence[Use]) -> tuple[str, ...]:
    found = sorted({use.operator.name for use in mapped})
    return tuple(f"{name}: {LIMITS[name].note}" for name in found if LIMITS[name].note is not None)
