"""The float reference: its masks at 1024 and at the models' own sizes, made from a checkpoint or read.

A file of masks is JSON: `checkpoint` (name, sha256), `settings`, `machine`, `peak_memory_bytes`, and `sizes`:
per "WIDTHxHEIGHT" a list of pictures with `name`, `sha256`, `size` (height, width), `invoke_ms` and
`instances`, each `score` and `segmentation`, COCO's compressed RLE. With one, neither torch nor the
checkpoint is needed.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.convert.environments import EXPORT, cache_folder, ensure, locked
from appliance.convert.processes import NotStarted, reason, run
from appliance.convert.steps import EXPORT_VARIABLES
from appliance.durable import write_file
from appliance.errors import EvaluateError
from appliance.evaluate.masks_rle import Rle, from_run_lengths
from appliance.evaluate.pictures import Picture

PAPER_WH: Final = (1024, 1024)
"""What the FastSAM-on-Edge-TPU paper takes as its reference."""
CONFIDENCE: Final = 0.25
NMS_IOU: Final = 0.7
SETTINGS: Final = {
    "by": "Ultralytics predict; boxes at the border as FastSAM; pixels whose centres are in the box",
    "conf": CONFIDENCE,
    "iou": NMS_IOU,
    "agnostic_nms": True,
    "max_det": 300,
    "retina_masks": True,
    "rect": False,
}
SCRIPT: Final = Path(__file__).resolve().parent / "ultralytics_masks.py"
_LONGEST_SILENCE_S: Final = 900.0
"""A picture takes seconds; this only ends what hangs."""

Wh = tuple[int, int]
Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A mask and its score."""

    rle: Rle
    score: float


@dataclass(frozen=True, slots=True)
class ReferenceRun:
    """The reference at one size."""

    masks: dict[str, list[Scored]]
    """By picture, best score first."""
    invoke_ms: list[float]


@dataclass(frozen=True, slots=True)
class Reference:
    """The float model's masks."""

    name: str
    sha256: str
    machine: str
    """Where it ran: times of other machines are not to be compared."""
    peak_memory_bytes: int
    runs: dict[Wh, ReferenceRun]


def machine_name() -> str:
    """What tells this machine from another kind."""
    return f"{platform.machine()}, {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for key in ("Model", "model name"):  # a Raspberry Pi's own name, otherwise the processor's
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return platform.processor() or "unknown processor"


def make_reference(
    checkpoint: Path, sizes_wh: Sequence[Wh], pictures: Sequence[Picture], progress: Progress
) -> Reference:
    """Run the checkpoint at every size; what was made before is taken from the cache.

    Raises `EvaluateError` if there is no checkpoint or it cannot be run, `ConvertError` if the environment
    cannot be made.
    """
    try:
        sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    except OSError as error:
        raise EvaluateError(f"the checkpoint {checkpoint} cannot be read: {error.strerror}") from error
    runs, peak = {}, 0
    for size_wh in sizes_wh:
        lines, memory = _run(checkpoint, sha256, size_wh, pictures, progress)
        _check_sizes(lines, pictures)
        peak = max(peak, memory)
        masks = {
            line["name"]: [
                Scored(from_run_lengths(tuple(line["size"]), instance["counts"]), instance["score"])
                for instance in line["instances"]
            ]
            for line in lines
        }
        runs[size_wh] = ReferenceRun(masks, [line["invoke_ms"] for line in lines])
    return Reference(checkpoint.name, sha256, machine_name(), peak, runs)


def _run(
    checkpoint: Path, sha256: str, size_wh: Wh, pictures: Sequence[Picture], progress: Progress
) -> tuple[list[dict[str, Any]], int]:
    """The script's lines for these pictures, and its peak memory in bytes."""
    of = [(picture.name, picture.sha256) for picture in pictures]  # its lines are found again by name
    known = json.dumps([sha256, size_wh, SETTINGS, SCRIPT.read_text(), of])
    key = hashlib.sha256(known.encode()).hexdigest()[:16]
    what = f"{checkpoint.name} at {size_wh[0]}x{size_wh[1]}"
    folder = cache_folder() / "evaluate" / f"reference-{key}"
    with locked(folder), _said_of(folder):
        folder.mkdir(exist_ok=True)
        lines, memory, listed = folder / "lines.jsonl", folder / "memory", folder / "pictures.json"
        listed.write_text(json.dumps([str(picture.path.absolute()) for picture in pictures]))
        if not (memory.exists() and memory.read_text()):  # empty if the disk was full
            _cut_partial_line(lines)
            python = ensure(EXPORT)
            command: list[str | Path] = [
                python, "-I", SCRIPT, "--checkpoint", checkpoint.resolve(), "--size", *map(str, size_wh),
                "--pictures", listed, "--lines", lines, "--memory", memory,
            ]  # fmt: skip
            _watch(command, folder, lines, lambda done: progress(what, done, len(pictures)))
        return [json.loads(line) for line in lines.read_text().splitlines()], int(memory.read_text())


@contextmanager
def _said_of(folder: Path) -> Iterator[None]:
    """Have an `OSError` be one of the folder: an `EvaluateError` that says what to do."""
    try:
        yield
    except BrokenPipeError:  # nobody reads how far it is
        raise
    except OSError as error:
        raise EvaluateError(
            f"the reference: in {folder}: {error.strerror or error}; "
            "make room there, or set XDG_CACHE_HOME to another folder"
        ) from error


def _check_sizes(lines: Sequence[dict[str, Any]], pictures: Sequence[Picture]) -> None:
    """Raise `EvaluateError` for a picture that another library turns otherwise: its masks would not fit."""
    sizes_hw = {line["name"]: tuple(line["size"]) for line in lines}
    for picture in pictures:
        if sizes_hw[picture.name] != picture.size_hw:
            raise EvaluateError(
                f"{picture.path} says in an unusual way how it is to be turned: save it anew, or take it out"
            )


def _cut_partial_line(path: Path) -> None:
    """Take away what an interrupted run left of a line."""
    if path.exists():
        whole, newline, _ = path.read_bytes().rpartition(b"\n")
        path.write_bytes(whole + newline)


def _watch(command: Sequence[str | Path], folder: Path, lines: Path, progress: Callable[[int], None]) -> None:
    """Run a command that writes lines, and say how many there are. Raises `EvaluateError`."""
    log = folder / "run.log"
    done, since_s = -1, time.monotonic()

    def look() -> None:
        nonlocal done, since_s
        now = lines.read_bytes().count(b"\n") if lines.exists() else 0
        if now != done:
            done, since_s = now, time.monotonic()
            progress(done)
        elif time.monotonic() - since_s > _LONGEST_SILENCE_S:
            raise EvaluateError(f"the reference hangs; its log is {log}")

    variables = {**EXPORT_VARIABLES, "YOLO_CONFIG_DIR": str(folder)}
    with log.open("wb") as output:
        try:
            code = run(command, folder, output, math.inf, look, variables)
        except NotStarted as error:
            raise EvaluateError(f"the reference: {error}") from error
    if code:
        raise EvaluateError(f"the reference: {reason(log, code)} (its log is {log})")
    look()  # at the last lines


def save_reference(reference: Reference, path: Path, pictures: Sequence[Picture]) -> None:
    """Write the masks, so that another machine can do without torch. Raises `OSError`."""
    sizes = {
        f"{width}x{height}": [
            {
                "name": picture.name,
                "sha256": picture.sha256,
                "size": list(picture.size_hw),
                "invoke_ms": ms,
                "instances": [
                    {
                        "score": scored.score,
                        "segmentation": {
                            "size": [scored.rle.height, scored.rle.width],
                            "counts": scored.rle.counts,
                        },
                    }
                    for scored in run.masks[picture.name]
                ],
            }
            for picture, ms in zip(pictures, run.invoke_ms, strict=True)
        ]
        for (width, height), run in reference.runs.items()
    }
    content = {
        "checkpoint": {"name": reference.name, "sha256": reference.sha256},
        "settings": SETTINGS,
        "machine": reference.machine,
        "peak_memory_bytes": reference.peak_memory_bytes,
        "sizes": sizes,
    }
    write_file(path, json.dumps(content).encode())


def load_reference(path: Path, sizes_wh: Sequence[Wh], pictures: Sequence[Picture]) -> Reference:
    """Read masks that were saved.

    Raises `EvaluateError` if the file is none, lacks a size or a picture, or is of other pictures.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs = {}
        for size_wh in sizes_wh:
            name = f"{size_wh[0]}x{size_wh[1]}"
            if name not in content["sizes"]:
                raise EvaluateError(
                    f"{path} has no masks at {name}; make it again, with these models and --reference"
                )
            by_name = {entry["name"]: entry for entry in content["sizes"][name]}
            for picture in pictures:
                if by_name.get(picture.name, {}).get("sha256") != picture.sha256:
                    raise EvaluateError(f"{path} has no masks of {picture.path}, or of another version of it")
            entries = [by_name[picture.name] for picture in pictures]
            runs[size_wh] = ReferenceRun(
                {
                    entry["name"]: [
                        Scored(_rle(one["segmentation"]), float(one["score"])) for one in entry["instances"]
                    ]
                    for entry in entries
                },
                [float(entry["invoke_ms"]) for entry in entries],
            )
        checkpoint = content["checkpoint"]
        return Reference(
            checkpoint["name"], checkpoint["sha256"], content["machine"], content["peak_memory_bytes"], runs
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluateError(f"{path} is no file of reference masks, as --report makes it: {error}") from error


def _rle(segmentation: dict[str, Any]) -> Rle:
    height, width = segmentation["size"]
    return Rle(int(height), int(width), str(segmentation["counts"]))
