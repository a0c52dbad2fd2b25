"""The whole way from a checkpoint to a model's files: which steps there are, and what they leave."""

from __future__ import annotations

import logging
import re
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.convert import steps
from appliance.convert.calibration import find_pictures, spread
from appliance.convert.description import describe
from appliance.convert.environments import EXPORT, TFLITE, ensure, locked
from appliance.convert.journal import Journal, Show, log_news
from appliance.convert.steps import Job, work_folder
from appliance.download import sha256_of
from appliance.durable import write_file
from appliance.errors import ConvertError

log = logging.getLogger(__name__)

STRIDE: Final = 32
"""The input's sides are multiples of the network's largest stride."""
STEPS: Final = 4


def convert(
    checkpoint: Path,
    size_wh: tuple[int, int],
    calibration: Path,
    out: Path,
    name: str | None = None,
    show: Show = log_news,
) -> Path:
    """Convert a checkpoint to an int8 raw-head TFLite for one input size (pixels, multiples of 32).

    `calibration` is a folder of photographs. Writes `out/NAME.tflite` and the sidecar `out/NAME.json`; NAME
    is `CHECKPOINT-SIZE` unless given. Returns the path of the model. What lies between and the logs stay in
    `work_folder(...)`, and steps that would give the same again are not done again. The first time, the two
    environments are installed: minutes.

    Raises `ConvertError`, which names the step, and the log where there is one; `LossTooGreat` if the model
    that comes out would say something else than the checkpoint.
    """
    started = time.monotonic()
    _check_checkpoint(checkpoint)
    width, height = size_wh
    if min(size_wh) < STRIDE or width % STRIDE or height % STRIDE:
        raise ConvertError(f"prepare: the size {width}x{height} is not made of multiples of {STRIDE}")
    name = name or f"{checkpoint.stem}-{width if width == height else f'{width}x{height}'}"
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConvertError(f"prepare: {name!r} is no name for a file: letters, digits, '.', '_' and '-' only")
    photographs = tuple(spread(find_pictures(calibration)))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConvertError(f"prepare: the folder {out} cannot be made: {error.strerror}") from error

    export_python, tflite_python = ensure(EXPORT), ensure(TFLITE)
    work = work_folder(checkpoint, size_wh)
    with _working_in(work):
        journal = Journal(work, show, of=STEPS)
        sha256 = sha256_of(checkpoint)
        job = Job(checkpoint, sha256, size_wh, photographs, work, export_python, tflite_python, journal)
        steps.calibrate(job)
        exported = steps.export(job)
        quantised = steps.quantise(job)
        checked = steps.check_all(job, exported["bins"])
        flatbuffer = job.int8_model.read_bytes()

    description = describe(name, job, calibration.resolve().name, exported, quantised, checked, flatbuffer)
    path = out / f"{name}.tflite"
    _write(path.with_suffix(".json"), description)
    _write(path, flatbuffer)
    log.info("convert: wrote %s, %.1f MB, in %.1f s", path, len(flatbuffer) / 1e6, time.monotonic() - started)
    return path


@contextmanager
def _working_in(work: Path) -> Iterator[None]:
    """Have the folder for this process alone."""
    with locked(work):
        try:
            work.mkdir(exist_ok=True)
        except OSError as error:
            raise ConvertError(f"prepare: {work} cannot be made: {error.strerror}") from error
        yield


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
