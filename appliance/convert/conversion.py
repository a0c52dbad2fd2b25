"""The whole way from a checkpoint to a model's files: which steps there are, and what they leave."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance import bundle
from appliance.convert import for_edge_tpu, steps
from appliance.convert.calibration import find_pictures, spread
from appliance.convert.description import describe, describe_compiled, describe_float
from appliance.convert.edgetpu import compiler, ladder
from appliance.convert.environments import EXPORT, TFLITE, ensure, locked
from appliance.convert.fetch import fetch, published
from appliance.convert.journal import Facts, Journal, News, Show, Tick, log_news, told
from appliance.convert.steps import Job, work_folder
from appliance.download import sha256_of
from appliance.durable import write_file
from appliance.errors import ApplianceError, ConvertError

log = logging.getLogger(__name__)

STRIDE: Final = 32
"""The input's sides are multiples of the network's largest stride."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion has left."""

    model: Path
    """The plain int8 model; its description lies beside it."""
    compiled: Path | None
    """The one for the Edge TPU, if there is a compiler."""
    elsewhere: compiler.Elsewhere | None
    """How to compile it on another machine, if there is none."""
    bundle: Path
    operators: str
    """A table of what would run where."""


@dataclass(frozen=True, slots=True)
class _Made:
    """The steps' results, for one size."""

    name: str
    job: Job
    exported: Facts
    quantised: Facts
    checked: Facts
    graph: Facts
    compiled: Facts | None


def get_checkpoint(name: str, show: Show = log_news) -> Path:
    """A checkpoint that is known by name. Raises `ConvertError`."""

    def do(tick: Tick) -> Path:
        return fetch(name, lambda done, of: tick(done / of if of else None))

    return told(News("fetch", published(name).wanted.url), show, do)


def convert(
    checkpoint: Path,
    size_wh: tuple[int, int] | None,
    calibration: Path,
    out: Path,
    name: str | None = None,
    show: Show = log_news,
) -> Converted:
    """Convert a checkpoint to an int8 raw-head TFLite for one input size (pixels, multiples of 32).

    Without a size, the largest of `ladder.SIZES` that `edgetpu_compiler` maps. `calibration` is a folder of
    photographs. Writes into `out`: `NAME.tflite`, its description `NAME.json`, the same two for
    `NAME_edgetpu` if there is a compiler, or else `NAME.compile.sh`, and the bundle `NAME.tar`. NAME is
    `CHECKPOINT-SIZE` unless given. What lies between and the logs stay in `work_folder(...)`, and steps that
    would give the same again are not done again. The first time, two environments are installed: minutes.

    Raises `ConvertError`, which names the step, and the log where there is one; of its kinds, `LossTooGreat`
    if the model would say something else than the checkpoint, `CompilerFailed` and `TooLittleMapped`.
    """
    _check_checkpoint(checkpoint)
    if size_wh is not None and (min(size_wh) < STRIDE or any(side % STRIDE for side in size_wh)):
        raise ConvertError(f"prepare: the size {_text(size_wh)} is not made of multiples of {STRIDE}")
    if name is not None and not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ConvertError(f"prepare: {name!r} is no name for a file: letters, digits, '.', '_' and '-' only")
    photographs = _chosen(calibration)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConvertError(f"prepare: the folder {out} cannot be made: {error.strerror}") from error
    if not os.access(out, os.W_OK | os.X_OK):  # better said now than after minutes
        raise ConvertError(f"prepare: {out} cannot be written to: name another folder with --out")
    pythons = _prepare(show)

    def attempt(size_wh: tuple[int, int]) -> Converted:
        with _working_on(checkpoint, size_wh, photographs, pythons, show) as job:
            made = _make(name or _name(job), job)
            return told(News("describe", str(out)), show, lambda tick: _leave(made, calibration, out))

    if size_wh is not None:
        return attempt(size_wh)
    sizes = ladder.sizes(compiler.installed())
    return ladder.largest(lambda side: attempt((side, side)), sizes)


def quantise(checkpoint: Path, size_wh: tuple[int, int], calibration: Path, show: Show = log_news) -> None:
    """Only leave the float and the int8 TFLite in `work_folder(...)`; nothing is checked or compiled.

    Raises `ConvertError`.
    """
    _check_checkpoint(checkpoint)
    photographs = _chosen(calibration)
    with _working_on(checkpoint, size_wh, photographs, _prepare(show), show) as job:
        _quantise(_name(job), job)


def _prepare(show: Show) -> tuple[Path, Path]:
    """The Pythons of the two environments."""
    return told(News("prepare", "the two environments"), show, lambda tick: (ensure(EXPORT), ensure(TFLITE)))


def _chosen(calibration: Path) -> tuple[Path, ...]:
    return tuple(spread(find_pictures(calibration)))


def _quantise(name: str, job: Job) -> tuple[Facts, Facts]:
    """Leave the float and the int8 model; what was found out at the export and at that."""
    steps.calibrate(job)
    exported = steps.export(job)
    quantised = steps.quantise(job)
    _write(job.float_model.with_suffix(".json"), describe_float(name, job, exported))
    return exported, quantised


def _make(name: str, job: Job) -> _Made:
    """Do what takes time."""
    exported, quantised = _quantise(name, job)
    checked = steps.check_all(job, exported["bins"])
    graph = for_edge_tpu.check_graph(job, name)
    compiled = for_edge_tpu.compile_model(job, name) if compiler.installed() else None
    return _Made(name, job, exported, quantised, checked, graph, compiled)


def _leave(made: _Made, calibration: Path, out: Path) -> Converted:
    """Write what the user gets."""
    name, folder = made.name, calibration.resolve().name
    model, compiled = out / f"{name}.tflite", out / f"{name}{compiler.SUFFIX}.tflite"
    plain_content = made.job.int8_model.read_bytes()
    content = describe(
        name, made.job, folder, made.exported, made.quantised, made.checked, made.graph, plain_content
    )
    if not (model.exists() and model.read_bytes() == plain_content):
        # What was compiled from another model of this name would pass for this one's twin.
        _remove(compiled, compiled.with_suffix(".json"))
    _write(model.with_suffix(".json"), content)
    _write(model, plain_content)
    elsewhere = None
    if made.compiled is not None:
        compiled_content = for_edge_tpu.compiled_path(made.job, name).read_bytes()
        _write(
            compiled.with_suffix(".json"), describe_compiled(content, name, made.compiled, compiled_content)
        )
        _write(compiled, compiled_content)
    else:
        found = compiler.compile_model(model, out)
        elsewhere = found if isinstance(found, compiler.Elsewhere) else None
    try:
        archive = bundle.write_bundle(model)
    except ApplianceError as error:
        raise ConvertError(f"bundle: {error}") from error
    return Converted(
        model, None if made.compiled is None else compiled, elsewhere, archive, str(made.graph["table"])
    )


def _name(job: Job) -> str:
    """Of a model that is given none."""
    return _safe(f"{job.checkpoint.stem}-{_text(job.size_wh)}")


def _safe(name: str) -> str:
    """A name that files of a bundle may have."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip("._-") or "model"


def _text(size_wh: tuple[int, int]) -> str:
    width, height = size_wh
    return f"{width}" if width == height else f"{width}x{height}"


@contextmanager
def _working_on(
    checkpoint: Path,
    size_wh: tuple[int, int],
    photographs: tuple[Path, ...],
    pythons: tuple[Path, Path],
    show: Show,
) -> Iterator[Job]:
    """Have the work folder for this process alone."""
    work = work_folder(checkpoint, size_wh)
    with locked(work):
        try:
            work.mkdir(exist_ok=True)
        except OSError as error:
            raise ConvertError(f"prepare: {work} cannot be made: {error.strerror}") from error
        sha256 = sha256_of(checkpoint)
        yield Job(checkpoint, sha256, size_wh, photographs, work, *pythons, Journal(work, show))


def _check_checkpoint(checkpoint: Path) -> None:
    """Tell what no .pt is before anything is installed."""
    if not checkpoint.is_file():
        raise ConvertError(f"export: there is no file {checkpoint}; give a checkpoint (.pt)")
    if checkpoint.suffix != ".pt" or not zipfile.is_zipfile(checkpoint):
        raise ConvertError(
            f"export: {checkpoint} is no checkpoint; give the .pt of a YOLO -seg or FastSAM model"
        )


def _write(path: Path, content: bytes) -> None:
    try:
        write_file(path, content)
    except OSError as error:
        raise ConvertError(f"describe: {path} cannot be written: {error.strerror}") from error


def _remove(*paths: Path) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ConvertError(f"describe: {path} cannot be removed: {error.strerror}") from error
