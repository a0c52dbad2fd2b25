"""A model for the CPU and the same one compiled for the Edge TPU: given one of them, the other is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from appliance.data import ModelSpec
from appliance.errors import ModelError, NotCompiled
from appliance.invoke import runtime
from appliance.invoke.sidecar import read_sidecar

_SUFFIX = "_edgetpu"
"""What edgetpu_compiler adds to a model's name."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model, read once."""

    path: Path
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ModelPair:
    """One of them may be missing."""

    plain: ModelFile | None
    compiled: ModelFile | None


def find_pair(path: Path) -> ModelPair:
    """A model and its sibling: the one that its sidecar names, or that is named as the compiler does.

    Raises `ModelMissing`, `NotAModel`; `NotCompiled`, `ModelError` if the sibling is not what it should be.
    """
    model = ModelFile(path, runtime.read(path))
    sidecar = read_sidecar(path)
    if runtime.is_compiled(model.content):
        named = sidecar.plain
        sibling = named or path.with_name(path.name.replace(f"{_SUFFIX}.tflite", ".tflite"))
        plain = _sibling(sibling, path, must_be=named is not None)
        if plain is not None and runtime.is_compiled(plain.content):
            raise ModelError(f"{plain.path} should be what {path} was compiled from, but is compiled itself")
        return ModelPair(plain, model)
    if path.stem.endswith(_SUFFIX):
        raise NotCompiled(
            f"{path} has no part that is compiled for the Edge TPU: the compiler found nothing that it could "
            "map, see its log"
        )
    named = sidecar.edge_tpu
    compiled = _sibling(named or path.with_name(f"{path.stem}{_SUFFIX}.tflite"), path, named is not None)
    if compiled is not None and not runtime.is_compiled(compiled.content):
        raise NotCompiled(f"{compiled.path} has no part for the Edge TPU: compile {path} again")
    return ModelPair(model, compiled)


def check_twins(plain: ModelSpec, compiled: ModelSpec, pair: ModelPair) -> None:
    """Raise `ModelError` unless both take the same input, so that one can stand in for the other."""
    same = (plain.input.shape, plain.input.dtype, plain.input.scale, plain.input.zero_point) == (
        compiled.input.shape,
        compiled.input.dtype,
        compiled.input.scale,
        compiled.input.zero_point,
    )
    if not same and pair.plain is not None and pair.compiled is not None:
        raise ModelError(
            f"{pair.compiled.path} was not compiled from {pair.plain.path}, since their inputs differ: "
            "compile it again"
        )


def _sibling(path: Path, of: Path, must_be: bool) -> ModelFile | None:
    if path == of or not (must_be or path.is_file()):
        return None
    return ModelFile(path, runtime.read(path))
