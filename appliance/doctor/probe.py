"""What may crash, hang or fail to be imported, one function each, in a process of its own.

Started as `python -m appliance.doctor.probe NAME ARGUMENTS`; prints one JSON object. "error" in it is what
the user is to know; a traceback and an exit code other than 0 are what nobody expected.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import statistics
import sys
import time
from pathlib import Path

from appliance.errors import ApplianceError

_RUNS = 10
_LOAD_S, _RUN_S = 30.0, 10.0


def version(module: str, distribution: str) -> dict[str, object]:
    """Import a module; the version of what brought it."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    imported = importlib.import_module(module)
    try:
        found = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        found = str(getattr(imported, "__version__", "unknown version"))
    return {"version": found}


def sdl() -> dict[str, object]:
    """pygame, the SDL in it, and whether it has what the screen is drawn with."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    return {
        "version": pygame.version.ver,
        "sdl": ".".join(map(str, pygame.get_sdl_version())),
        "has_window": hasattr(pygame, "Window"),
    }


def cameras() -> dict[str, object]:
    """The cameras that libcamera finds."""
    from appliance.capture.picamera_library import cameras

    found = [{"name": str(camera), "where": camera.location or camera.identifier} for camera in cameras()]
    return {"version": importlib.metadata.version("picamera2"), "cameras": found}


def model(path: str) -> dict[str, object]:
    """A model and its sibling, and what they take and give."""
    from appliance.invoke.pairs import check_twins, find_pair, locate
    from appliance.invoke.runtime import read_spec

    pair = find_pair(locate(Path(path)))
    files = {"plain": pair.plain, "compiled": pair.compiled}
    specs = {kind: read_spec(file.path, file.content) for kind, file in files.items() if file is not None}
    if len(specs) == 2:
        check_twins(specs["plain"], specs["compiled"], pair)
    spec = next(iter(specs.values()))
    return {
        "name": spec.name,
        "demo": spec.demo,
        "layout": spec.layout.value,
        "input_wh": list(spec.input_wh),
        **{kind: None if file is None else str(file.path) for kind, file in files.items()},
    }


def cpu(path: str) -> dict[str, object]:
    """Run a plain model on the CPU."""
    import numpy as np

    from appliance.invoke.tflite import TfliteBackend

    backend = TfliteBackend(Path(path))
    tensor = np.zeros(backend.spec.input.shape, backend.spec.input.dtype)
    backend.invoke(tensor)
    took_ms = [backend.invoke(tensor).took_ms for _ in range(3)]
    return {"name": backend.name, "invoke_ms": round(statistics.median(took_ms), 1)}


def edge_tpu(path: str, device: str, option: str) -> dict[str, object]:
    """Run a compiled model on an Edge TPU, in the worker process that the appliance uses."""
    import numpy as np

    from appliance.invoke.blocks import Blocks, nbytes
    from appliance.invoke.jobs import EdgeTpuJob, Failure, Trouble
    from appliance.invoke.library import find_library
    from appliance.invoke.process import WorkerFailed, WorkerProcess
    from appliance.invoke.runtime import read, read_spec

    spec = read_spec(Path(path), read(Path(path)))
    job = EdgeTpuJob(path, str(find_library()), device, option)
    inputs = Blocks(nbytes([spec.input]), 2)
    tensor = np.zeros(spec.input.shape, spec.input.dtype)
    start_s = time.monotonic()
    worker = WorkerProcess(job, spec, inputs, 2)
    took_ms: list[float] = []
    try:
        worker.wait_ready(_LOAD_S, lambda: False)
        load_s = time.monotonic() - start_s
        for _ in range(_RUNS):
            worker.start(tensor)
            made = worker.finish(_RUN_S, lambda: False)
            if made is None:
                raise WorkerFailed(Failure(Trouble.LOST, f"a run has not ended after {_RUN_S:g} s"))
            took_ms.append(made.took_ms)
    except WorkerFailed as failed:
        trouble = Trouble.LOST if took_ms else Trouble.CRASHED
        failure = failed.failure or Failure(trouble, worker.last_words())
        return {"error": failure.words, "trouble": failure.trouble.value}
    finally:
        worker.close()
        inputs.close()
    return {
        "load_s": round(load_s, 2),
        "invoke_ms": round(statistics.median(took_ms), 1),
        "slowest_ms": round(max(took_ms), 1),
    }


def pycoral() -> dict[str, object]:
    """The Edge TPUs that pycoral lists, where a working one is installed."""
    listing = importlib.import_module("pycoral.utils.edgetpu")
    return {"devices": [str(device.get("type", device)) for device in listing.list_edge_tpus()]}


_PROBES = {function.__name__: function for function in (version, sdl, cameras, model, cpu, edge_tpu, pycoral)}


def main(name: str, *arguments: str) -> int:
    """Run one; returns the exit code."""
    try:
        found = _PROBES[name](*arguments)
    except (ApplianceError, ImportError) as error:
        found = {"error": str(error), "missing": isinstance(error, ModuleNotFoundError)}
    sys.stdout.write(f"\n{json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
