"""How long the network alone takes: torch at 1024 and 512, float and int8 TFLite at 512, in turn.

Whatever else the machine does meanwhile then slows all of them alike. All have the same number of threads on
the same cores.
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from appliance.convert.conversion import quantise
from appliance.convert.environments import EXPORT, cache_folder, ensure, locked
from appliance.convert.journal import Facts, Journal, News, Tick, digest_of_files, log_news
from appliance.convert.processes import run_logged
from appliance.convert.steps import EXPORT_VARIABLES, checkpoint_sha256, work_folder
from appliance.download import sha256_of
from appliance.errors import ConvertError
from appliance.invoke.tflite import TfliteBackend, default_threads

SIZE_WH: Final = (512, 512)
ROUNDS: Final = 15
WARM_UP: Final = 2
TORCH_SCRIPT: Final = Path(__file__).resolve().with_name("torch_runs.py")
RANDOM_SCRIPT: Final = Path(__file__).resolve().with_name("random_fastsam.py")
PHOTOGRAPHS: Final = Path(__file__).resolve().parents[1] / "capture" / "photos"
_LONGEST_RUN_S: Final = 300.0
"""Loading included; this only ends what hangs."""
_LONGEST_MAKING_S: Final = 600.0
_BETWEEN_S: Final = 0.03
"""Threads of the one before spin for a while before they sleep."""

Run = Callable[[], float]
"""Runs a network once, and returns the milliseconds that it took."""


@dataclass(frozen=True, slots=True)
class InvokeFigures:
    """What `appliance bench invoke` prints: medians of single runs, and how many times as fast int8 is."""

    torch_1024_ms: float
    torch_512_ms: float
    float_512_ms: float
    int8_512_ms: float
    ratio_to_torch_1024: float


def converted(checkpoint: Path) -> tuple[Path, Path]:
    """The float and the int8 TFLite that a conversion of this checkpoint at 512 has left.

    Raises `ConvertError` if there is no checkpoint, or it was not converted on this machine as it is now.
    """
    if not checkpoint.is_file():
        raise ConvertError(f"bench: there is no file {checkpoint}; give a checkpoint (.pt)")
    work = work_folder(checkpoint, SIZE_WH)
    models = work / "float.tflite", work / "int8.tflite"
    come_from = checkpoint_sha256(work) if all(model.is_file() for model in models) else None
    if come_from is None or come_from != sha256_of(checkpoint):
        what = (
            "was not converted here yet" if come_from is None else "has changed since it was converted here"
        )
        raise ConvertError(
            f"bench: {checkpoint} {what}; first: appliance convert "
            f"--checkpoint {checkpoint} --size {SIZE_WH[0]} --calibration PHOTOGRAPHS"
        )
    return models


def random_fastsam(scale: str = "s") -> Path:
    """A converted checkpoint of FastSAM-s's architecture with random weights, made the first time: minutes.

    What the converter would do otherwise by now is done again. Scale "n" makes a third of it, for tests.
    Raises `ConvertError`.
    """
    folder = cache_folder() / "bench"
    checkpoint = folder / f"random-yolov8{scale}-seg.pt"
    with locked(folder / "making"):
        python = ensure(EXPORT)

        def make(tick: Tick) -> Facts:
            command: list[str | Path] = [python, "-I", RANDOM_SCRIPT, "--scale", scale]
            command += ["--photographs", PHOTOGRAPHS, "--checkpoint", checkpoint]
            log_file = folder / "making.log"
            run_logged("bench", command, log_file, folder, _LONGEST_MAKING_S, EXPORT_VARIABLES, tick)
            return {}

        made_of = {
            "code": digest_of_files([RANDOM_SCRIPT]),
            "photographs": digest_of_files(sorted(PHOTOGRAPHS.glob("*.jpg"))),
            "environment": python.parents[1].name,
        }
        Journal(folder, _show).step(f"random {scale}", "random weights", made_of, (checkpoint,), make)
        quantise(checkpoint, SIZE_WH, PHOTOGRAPHS, _show)  # what random weights say does not matter
    return checkpoint


def _show(news: News) -> None:
    """Only what takes its time."""
    if not news.kept:
        log_news(news)


def bench_invoke(checkpoint: Path, rounds: int = ROUNDS) -> InvokeFigures:
    """Run all four in turn. The first time, the export environment is installed: minutes.

    Raises `ConvertError` if the checkpoint was not converted, the environment cannot be made or torch fails;
    `ModelError` if a TFLite model cannot be used.
    """
    float_model, int8_model = converted(checkpoint)
    threads = default_threads()
    with _on_cores(threads), _torch(checkpoint, threads) as torch:
        runs: list[Run] = [
            lambda: torch(1024),
            lambda: torch(512),
            _tflite(float_model, threads),
            _tflite(int8_model, threads),
        ]
        taken_ms = _in_turn(runs, rounds)
    torch_1024, torch_512, float_512, int8_512 = (statistics.median(times_ms) for times_ms in taken_ms)
    return InvokeFigures(
        torch_1024_ms=round(torch_1024, 2),
        torch_512_ms=round(torch_512, 2),
        float_512_ms=round(float_512, 2),
        int8_512_ms=round(int8_512, 2),
        ratio_to_torch_1024=round(torch_1024 / int8_512, 3),
    )


def _in_turn(runs: list[Run], rounds: int) -> list[list[float]]:
    """Of each the times of its runs, after the first few."""
    taken_ms: list[list[float]] = [[] for _ in runs]
    for number in range(WARM_UP + rounds):
        for run, times_ms in zip(runs, taken_ms, strict=True):
            time.sleep(_BETWEEN_S)
            took_ms = run()
            if number >= WARM_UP:
                times_ms.append(took_ms)
    return taken_ms


def _tflite(path: Path, threads: int) -> Run:
    backend = TfliteBackend(path, threads)
    spec = backend.spec.input
    content = np.random.default_rng(0).random(spec.shape, np.float32)
    tensor = backend.lease()
    tensor[...] = content if spec.dtype.kind == "f" else content * 255 + np.iinfo(spec.dtype).min
    return lambda: backend.invoke(tensor).took_ms


@contextmanager
def _on_cores(count: int) -> Iterator[None]:
    """Keep this process, and those that it starts, to that many of its cores."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _torch(checkpoint: Path, threads: int) -> Iterator[Callable[[int], float]]:
    """A process that runs the checkpoint with torch, given the side of the input in pixels."""
    python = ensure(EXPORT)
    command: list[str | Path] = [python, "-I", TORCH_SCRIPT, "--checkpoint", checkpoint.resolve()]
    command += ["--threads", str(threads)]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **EXPORT_VARIABLES, "YOLO_CONFIG_DIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def run(side_px: int) -> float:
            with suppress(BrokenPipeError):  # if it has ended, its answer is none
                asked.write(f"{side_px}\n")
                asked.flush()
            if not select.select([answers], [], [], _LONGEST_RUN_S)[0]:
                raise ConvertError(f"bench: torch at {side_px} took more than {_LONGEST_RUN_S:.0f} s")
            answer = answers.readline()
            if not answer:
                process.wait()
                log.seek(0)
                said = [line.strip() for line in log if line.strip()]
                raise ConvertError(
                    f"bench: torch cannot run {checkpoint}: {said[-1] if said else 'it ended'}"
                )
            return float(answer)

        try:
            yield run
        finally:
            process.kill()
            process.wait()
            answers.close()
            with suppress(BrokenPipeError):  # something may still be on its way
                asked.close()
