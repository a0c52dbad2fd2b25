"""The steps of a conversion for one input size: calibrate, export, quantise, check."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from appliance.convert import check
from appliance.convert.calibration import load_pictures
from appliance.convert.environments import cache_folder
from appliance.convert.journal import Facts, Journal, Tick, digest_of_files
from appliance.convert.processes import run_logged
from appliance.errors import ConvertError

HERE: Final = Path(__file__).resolve().parent
EXPORT_SCRIPT: Final = HERE / "export_raw_head.py"
RUN_ONNX_SCRIPT: Final = HERE / "run_onnx.py"
INT8: Final = (
    "-c",
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('int8', run_name='__main__')",
    HERE,
)
"""The package `int8`, found in this folder alone: the appliance's own needs what is not installed there."""
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
CHECKED_PICTURES: Final = 4
"""Of the calibration pictures; enough for about a hundred objects."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is converted, and with what."""

    checkpoint: Path
    checkpoint_sha256: str
    size_wh: tuple[int, int]
    photographs: tuple[Path, ...]
    work: Path
    """The folder for whatever is in between, and for logs."""
    export_python: Path
    """Of an environment whose folder is named after all that is in it; so is the other one."""
    tflite_python: Path
    journal: Journal

    @property
    def float_model(self) -> Path:
        """The float TFLite."""
        return self.work / "float.tflite"

    @property
    def int8_model(self) -> Path:
        """The int8 TFLite, plain."""
        return self.work / "int8.tflite"

    @property
    def onnx(self) -> Path:
        """The raw-head ONNX."""
        return self.work / "raw_head.onnx"

    @property
    def pictures(self) -> Path:
        """The calibration pictures, (N, H, W, 3) uint8."""
        return self.work / "pictures.npy"

    @property
    def check_pictures(self) -> Path:
        """Some of them."""
        return self.work / "check.npy"

    @property
    def torch_said(self) -> Path:
        """What the checkpoint says about `check_pictures`."""
        return self.work / "torch.npz"


def work_folder(checkpoint: Path, size_wh: tuple[int, int]) -> Path:
    """Where the intermediate files and logs of a conversion lie; may be deleted."""
    key = hashlib.sha256(str(checkpoint.resolve()).encode()).hexdigest()[:8]
    return cache_folder() / "convert" / f"{checkpoint.stem}-{size_wh[0]}x{size_wh[1]}-{key}"


def checkpoint_sha256(work: Path) -> str | None:
    """Of the checkpoint that the models of a work folder come from; None if they are not whole."""
    try:
        if not (work / "quantise.record.json").exists():  # gone while they are made anew
            return None
        return str(json.loads((work / "float.json").read_bytes())["checkpoint"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def calibrate(job: Job) -> None:
    """Letterbox the photographs."""

    def do(tick: Tick) -> Facts:
        del tick
        pictures = load_pictures(list(job.photographs), job.size_wh)
        chosen = np.linspace(0, len(pictures) - 1, min(CHECKED_PICTURES, len(pictures))).astype(int)
        np.save(job.pictures, pictures)
        np.save(job.check_pictures, pictures[chosen])
        return {}

    made_of = {
        "photographs": _digest(job.photographs),
        "size": job.size_wh,
        "code": _code(HERE / "calibration.py", HERE.parent / "preprocess.py"),
        "checked": CHECKED_PICTURES,
    }
    what = f"{len(job.photographs)} photographs"
    job.journal.step("calibrate", what, made_of, (job.pictures, job.check_pictures), do)


def export(job: Job) -> Facts:
    """Checkpoint -> raw-head ONNX; returns `classes`, `bins`, `licence` and `tools`."""
    width, height = map(str, job.size_wh)
    arguments: tuple[str | Path, ...] = ("--checkpoint", job.checkpoint.resolve(), "--size", width, height)
    arguments += ("--pictures", job.check_pictures, "--said", job.torch_said, "--onnx", job.onnx)
    made_of = {
        "checkpoint": job.checkpoint_sha256,
        "size": job.size_wh,
        "pictures": _digest([job.check_pictures]),
        "environment": job.export_python.parents[1].name,
        "code": _code(EXPORT_SCRIPT),
    }
    variables = {**EXPORT_VARIABLES, "YOLO_CONFIG_DIR": str(job.work)}
    return job.journal.step(
        "export",
        f"{job.checkpoint.name} to a raw-head ONNX at {job.size_wh[0]}x{job.size_wh[1]}",
        made_of,
        (job.onnx, job.torch_said),
        lambda tick: run_script(
            job, "export", (job.export_python, "-I", EXPORT_SCRIPT), arguments, variables, tick
        ),
    )


def quantise(job: Job) -> Facts:
    """ONNX -> float and int8 TFLite; returns `input`, `outputs` and `tools`."""

    def do(tick: Tick) -> Facts:
        copy = job.work / "renamed.onnx"  # onnx2tf writes new names into the file that it reads
        shutil.copyfile(job.onnx, copy)
        arguments: tuple[str | Path, ...] = ("--onnx", copy, "--pictures", job.pictures)
        arguments += ("--float", job.float_model, "--tflite", job.int8_model)
        program = (job.tflite_python, "-I", *INT8)
        facts = run_script(job, "quantise", program, arguments, QUANTISE_VARIABLES, tick)
        copy.unlink()
        return facts

    made_of = {
        "onnx": _digest([job.onnx]),
        "pictures": _digest([job.pictures]),
        "environment": job.tflite_python.parents[1].name,
        "code": _code(*sorted((HERE / "int8").glob("*.py"))),
    }
    return job.journal.step("quantise", "to int8 TFLite", made_of, (job.float_model, job.int8_model), do)


def check_all(job: Job, bins: Sequence[float]) -> Facts:
    """Whether each form still says what the one before it says; returns `accuracy` and `tools`."""
    onnx_said, layers = job.work / "onnx.npz", job.work / "layers.txt"

    def do(tick: Tick) -> Facts:
        layers.unlink(missing_ok=True)
        arguments = ("--onnx", job.onnx, "--pictures", job.check_pictures, "--said", onnx_said)
        program = (job.tflite_python, "-I", RUN_ONNX_SCRIPT)
        facts = run_script(job, "check", program, arguments, {}, tick)
        pictures, wh = np.load(job.check_pictures), job.size_wh
        torch_says = check.from_torch(job.torch_said, wh)
        onnx_says = check.from_onnx(onnx_said, wh, bins)
        onnx_said.unlink()
        tick(0.4)
        float_says, _ = check.run_tflite(job.float_model, pictures, bins)
        exported = check.same("the ONNX says something else than the checkpoint", torch_says, onnx_says, wh)
        converted = check.same(
            "the float TFLite says something else than the ONNX", onnx_says, float_says, wh
        )
        tick(0.6)
        quantised, by_stride = check.quantised(job.float_model, job.int8_model, pictures, bins, layers)
        accuracy = {
            "pictures": len(pictures),
            "onnx_vs_torch": check.as_json(exported),
            "float_vs_onnx": check.as_json(converted),
            "int8_vs_float": check.as_json(quantised)
            | {"by_stride": {str(stride): check.as_json(losses) for stride, losses in by_stride.items()}},
        }
        return {"accuracy": accuracy, "tools": facts["tools"]}

    made_of = {
        "pictures": _digest([job.check_pictures]),
        "torch": _digest([job.torch_said]),
        "onnx": _digest([job.onnx]),
        "float": _digest([job.float_model]),
        "int8": _digest([job.int8_model]),
        "bins": list(bins),
        "environment": job.tflite_python.parents[1].name,
        "code": _code(*sorted((HERE / "check").glob("*.py")), RUN_ONNX_SCRIPT, HERE.parent / "layouts.py"),
    }
    return job.journal.step("check", "torch, ONNX, float and int8 against each other", made_of, (), do)


def run_script(
    job: Job,
    step: str,
    program: Sequence[str | Path],
    arguments: Sequence[str | Path],
    variables: dict[str, str],
    tick: Tick,
) -> Facts:
    """Run one of this folder's programs; returns the facts that it wrote. Raises `ConvertError`."""
    facts, log_file = job.work / f"{step}.json", job.work / f"{step}.log"
    facts.unlink(missing_ok=True)
    log_file.unlink(missing_ok=True)
    # -I among the programs' options: neither this process' PYTHONPATH nor the modules beside it get in.
    command = [*program, *arguments, "--facts", facts]
    run_logged(step, command, log_file, job.work, STEP_TIMEOUT_S, variables, tick)
    found: dict[str, Any] = json.loads(facts.read_bytes())
    return found


def _digest(paths: Sequence[Path]) -> str:
    """Of the content of files. Raises `ConvertError`."""
    try:
        return digest_of_files(paths)
    except OSError as error:
        raise ConvertError(f"calibrate: {error.filename} cannot be read: {error.strerror}") from error


def _code(*paths: Path) -> str:
    return _digest(paths)
