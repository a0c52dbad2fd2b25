"""A model for the CPU and the same one compiled for the Edge TPU: given one of them, the other is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from appliance.data import ModelSpec
from appliance.errors import ModelError, ModelMissing, NotCompiled, SeveralModels
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


def locate(path: Path) -> Path:
    """The file that a path means: itself, or the one model of a folder, whose twin does not count.

    A link to a folder is followed now: it may lead elsewhere later, and this model is still the same.
    Raises `ModelMissing`, `SeveralModels`; `ModelError` for a sidecar that cannot be read.
    """
    if not path.is_dir():
        return path
    files = sorted(path.resolve().glob("[!.]*.tflite"))
    if not files:
        raise ModelMissing(f"there is no model in the folder {path}: put a .tflite file into it, or name one")
    twins = set()
    for file in files:
        sidecar = read_sidecar(file)
        if sidecar.plain in files:
            twins.add(file)
        twins.add(sidecar.edge_tpu or file.with_name(f"{file.stem}{_SUFFIX}.tflite"))
    models = [file for file in files if file not in twins] or files
    if len(models) > 1:
        names = ", ".join(file.name for file in models)
        raise SeveralModels(f"the folder {path} holds several models ({names}): name one of these files")
    return models[0]


def find_pair(path: Path) -> ModelPair:
    """A model and its sibling: the one that its sidecar names, or that is named as the compiler does.

    Raises `ModelMissing`, `NotAModel`; `NotCompiled`, `ModelError` if the sibling is not what it should be.
    """
    model = ModelFile(path, runtime.read(path))
    if runtime.is_compiled(model.content):
        return ModelPair(_plain_of(model), model)
    return ModelPair(model, _compiled_of(model))


def find_plain(path: Path) -> ModelFile | None:
    """What the CPU can run: a model, or the one that it was compiled from. A compiled one is not looked for.

    Raises as `find_pair`.
    """
    model = ModelFile(path, runtime.read(path))
    return _plain_of(model) if runtime.is_compiled(model.content) else model


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


def _plain_of(model: ModelFile) -> ModelFile | None:
    path, named = model.path, read_sidecar(model.path).plain
    usual = path.with_name(path.name.replace(f"{_SUFFIX}.tflite", ".tflite"))
    plain = _sibling(path, named, usual)
    if plain is not None and runtime.is_compiled(plain.content):
        raise ModelError(f"{plain.path} should be what {path} was compiled from, but is compiled itself")
    return plain


def _compiled_of(model: ModelFile) -> ModelFile | None:
    path = model.path
    if path.stem.endswith(_SUFFIX):
        raise NotCompiled(
            f"{path} has no part that is compiled for the Edge TPU: the compiler found nothing that it could "
            "map, see its log"
        )
    named = read_sidecar(path).edge_tpu
    compiled = _sibling(path, named, path.with_name(f"{path.stem}{_SUFFIX}.tflite"))
    if compiled is not None and not runtime.is_compiled(compiled.content):
        raise NotCompiled(f"{compiled.path} has no part for the Edge TPU: compile {path} again")
    return compiled


def _sibling(path: Path, named: Path | None, usual: Path) -> ModelFile | None:
    sibling = named or usual
    if sibling == path or not (named or usual.is_file()):
        return None
    try:
        return ModelFile(sibling, runtime.read(sibling))
    except ModelMissing as missing:
        if named is None:
            raise
        raise ModelMissing(f"{missing}, or correct {path.with_suffix('.json')}, which names it") from missing
