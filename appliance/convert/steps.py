"""The steps of a conversion, in order: prepare, calibrate, export, quantise, describe."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from appliance.convert.calibration import find_pictures, load_pictures, spread
from appliance.convert.environments import EXPORT, TFLITE, cache_folder, ensure, locked, run_logged
from appliance.data import Layout
from appliance.errors import ConvertError

log = logging.getLogger(__name__)

HERE: Final = Path(__file__).resolve().parent
EXPORT_SCRIPT: Final = (HERE / "export_raw_head.py",)
INT8: Final = (
    "-c",
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('int8', run_name='__main__')",
    HERE,
)
"""The package `int8`, found in this folder alone: the appliance's own needs what is not installed there."""
STRIDE: Final = 32
"""The input's sides are multiples of the network's largest stride."""
STEP_TIMEOUT_S: Final = 3600.0
"""A Raspberry Pi is slow; this only ends what hangs."""
EXPORT_VARIABLES: Final = {
    # Only known classes are unpickled: a checkpoint is a program otherwise.
    "ULTRALYTICS_SAFE_LOAD": "1",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",
}
METHOD: Final = "least error behind the activation"
"""What sets the ranges of the int8 model; `docs/calibration.md` compares it with others."""
QUANTISE_VARIABLES: Final = {"TF_CPP_MIN_LOG_LEVEL": "1"}


def convert(
    checkpoint: Path, size_wh: tuple[int, int], calibration: Path, out: Path, name: str | None = None
) -> Path:
    """Convert a checkpoint to an int8 raw-head TFLite for one input size (pixels, multiples of 32).

    `calibration` is a folder of photographs. Writes `out/NAME.tflite` and the sidecar `out/NAME.json`; NAME
    is `CHECKPOINT-SIZE` unless given. Returns the path of the model. The float graph (`raw_head.onnx`,
    `float.tflite`) and the logs stay in `work_folder(...)`. The first time, the two environments are
    installed: minutes.

    Raises `ConvertError`, which names the step, and the log where there is one.
    """
    _check_checkpoint(checkpoint)
    width, height = size_wh
    if min(size_wh) < STRIDE or width % STRIDE or height % STRIDE:
        raise ConvertError(f"prepare: the size {width}x{height} is not made of multiples of {STRIDE}")
    name = name or f"{checkpoint.stem}-{width if width == height else f'{width}x{height}'}"
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConvertError(f"prepare: {name!r} is no name for a file: letters, digits, '.', '_' and '-' only")
    photographs = spread(find_pictures(calibration))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConvertError(f"prepare: the folder {out} cannot be made: {error.strerror}") from error

    started = time.monotonic()
    export_python, tflite_python = ensure(EXPORT), ensure(TFLITE)
    work = work_folder(checkpoint, size_wh)
    with locked(work):
        work.mkdir(exist_ok=True)
        pictures, onnx, model = work / "pictures.npy", work / "raw_head.onnx", work / "int8.tflite"
        with _timed("calibrate", f"{len(photographs)} photographs"):
            np.save(pictures, load_pictures(photographs, size_wh))
        with _timed("export", f"{checkpoint.name} to a raw-head ONNX at {width}x{height}"):
            source = ("--checkpoint", checkpoint.resolve(), "--size", str(width), str(height))
            variables = {**EXPORT_VARIABLES, "YOLO_CONFIG_DIR": str(work)}
            exported = _run(
                "export", export_python, EXPORT_SCRIPT, (*source, "--onnx", onnx), work, variables
            )
        with _timed("quantise", "to int8 TFLite"):
            paths = (
                "--onnx",
                onnx,
                "--pictures",
                pictures,
                "--float",
                work / "float.tflite",
                "--tflite",
                model,
            )
            quantised = _run("quantise", tflite_python, INT8, paths, work, QUANTISE_VARIABLES)
        pictures.unlink()
        flatbuffer = model.read_bytes()

    sidecar = {
        "name": name,
        "layout": Layout.RAW_HEAD.value,
        "input_wh": [width, height],
        "classes": exported["classes"],
        "input": quantised["input"],
        "outputs": quantised["outputs"],
        "bins": exported["bins"],
        "calibration": {
            "folder": calibration.resolve().name,
            "pictures": len(photographs),
            "method": METHOD,
        },
        "tools": {**exported["tools"], **quantised["tools"]},
        "licence": exported["licence"],
        "sha256": hashlib.sha256(flatbuffer).hexdigest(),
        "checkpoint": {
            "name": checkpoint.name,
            "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        },
    }
    path = out / f"{name}.tflite"
    _write_whole(out / f"{name}.json", (json.dumps(sidecar, indent=2, ensure_ascii=False) + "\n").encode())
    _write_whole(path, flatbuffer)
    log.info("convert: wrote %s, %.1f MB, in %.1f s", path, len(flatbuffer) / 1e6, time.monotonic() - started)
    return path


def work_folder(checkpoint: Path, size_wh: tuple[int, int]) -> Path:
    """Where the intermediate files and logs of a conversion lie; may be deleted."""
    key = hashlib.sha256(str(checkpoint.resolve()).encode()).hexdigest()[:8]
    return cache_folder() / "convert" / f"{checkpoint.stem}-{size_wh[0]}x{size_wh[1]}-{key}"


def _check_checkpoint(checkpoint: Path) -> None:
    """Tell what no .pt is before anything is installed."""
    if not checkpoint.is_file():
        raise ConvertError(f"export: there is no file {checkpoint}; give a checkpoint (.pt)")
    if checkpoint.suffix != ".pt" or not zipfile.is_zipfile(checkpoint):
        raise ConvertError(
            f"export: {checkpoint} is no checkpoint; give the .pt of a YOLO -seg or FastSAM model"
        )


def _run(
    step: str,
    python: Path,
    program: Sequence[str | Path],
    arguments: Sequence[str | Path],
    work: Path,
    variables: dict[str, str],
) -> dict[str, Any]:
    """Run one of this folder's programs in an environment; returns the facts that it wrote."""
    facts, log_file = work / f"{step}.json", work / f"{step}.log"
    facts.unlink(missing_ok=True)
    log_file.unlink(missing_ok=True)
    # -I: neither this process' PYTHONPATH nor the modules beside the script get in.
    command = [python, "-I", *program, *arguments, "--facts", facts]
    run_logged(step, command, log_file, work, STEP_TIMEOUT_S, variables)
    found: dict[str, Any] = json.loads(facts.read_bytes())
    return found


@contextmanager
def _timed(step: str, what: str) -> Iterator[None]:
    """Log the beginning of a step, and its end with the time it took."""
    log.info("%s: %s", step, what)
    started = time.monotonic()
    yield
    log.info("%s: done in %.1f s", step, time.monotonic() - started)


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, never a part."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise ConvertError(f"describe: {path} cannot be written: {error.strerror}") from error
