"""The libraries that the appliance runs with: there, working, and fit for each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from appliance.doctor.checks import Check, CheckFunction, fail, ok, warn
from appliance.doctor.machine import Machine, ProbeFailed
from appliance.errors import NoEdgeTpuLibrary
from appliance.invoke.discovery import edge_tpus
from appliance.invoke.library import find_library, package_of

_AGAIN = "install the appliance again: sudo ./install.sh on a Raspberry Pi, scripts/environment elsewhere"
_NEEDED = (
    ("NumPy", "numpy", "numpy"),
    ("OpenCV", "cv2", "opencv-python-headless"),
    ("PyAV", "av", "av"),
    ("Pillow", "PIL.Image", "pillow"),
    ("pycocotools", "pycocotools.mask", "pycocotools"),
    ("pydantic", "pydantic", "pydantic"),
    ("PyYAML", "yaml", "PyYAML"),
)
_CURRENT = "16.0TF2.19.1 or later, https://github.com/feranick/libedgetpu/releases"


def _library(machine: Machine, name: str, module: str, distribution: str) -> Check:
    try:
        found = machine.probe("version", module, distribution)
    except ProbeFailed as failed:
        return fail(name, f"cannot be used: {failed}", _AGAIN)
    if "error" in found:
        return fail(name, f"cannot be used: {found['error']}", _AGAIN)
    return ok(name, str(found["version"]))


def _check_of(name: str, module: str, distribution: str) -> CheckFunction:
    check = partial(_library, name=name, module=module, distribution=distribution)
    check.__name__ = name  # type: ignore[attr-defined]
    return check


def tflite_runtime(machine: Machine) -> Check:
    """What runs models on the CPU, and the delegate of the Edge TPU."""
    name = "TFLite runtime"
    litert = _version(machine, "ai_edge_litert.interpreter", "ai-edge-litert")
    if litert.startswith("="):
        return ok(name, f"ai-edge-litert {litert[1:]}")
    old = _version(machine, "tflite_runtime.interpreter", "tflite-runtime")
    if not old.startswith("="):
        return fail(name, f"none can be used: ai-edge-litert: {litert}; tflite-runtime: {old}", _AGAIN)
    words = f"tflite-runtime {old[1:]} only"
    numpy = _version(machine, "numpy", "numpy")
    if not numpy.startswith("=1."):
        return fail(name, f"{words}, which is built for NumPy 1, beside NumPy {numpy[1:]}", _AGAIN)
    return warn(name, words, "install ai-edge-litert: it is three times as fast on the CPU")


def _version(machine: Machine, module: str, distribution: str) -> str:
    """The version after an "=", or why it cannot be used."""
    try:
        found = machine.probe("version", module, distribution)
    except ProbeFailed as failed:
        return str(failed)
    return str(found["error"]) if "error" in found else f"={found['version']}"


def screen_library(machine: Machine) -> Check:
    """The library pygame, and the SDL in it."""
    name = "pygame and SDL"
    make: Callable[[str, str, str], Check] = fail if machine.wanted.display == "screen" else warn
    try:
        found = machine.probe("sdl")
    except ProbeFailed as failed:
        return make(name, f"cannot be used: {failed}", _AGAIN)
    if "error" in found:
        return make(name, f"cannot be used: {found['error']}", _AGAIN)
    words = f"pygame {found['version']}, SDL {found['sdl']}"
    if not found["has_window"]:
        return make(name, f"{words}: too old", "install pygame-ce 2.5.2 or later, and remove pygame")
    return ok(name, words)


def libedgetpu(machine: Machine) -> Check:
    """The Edge TPU's library; one that crashes with today's runtimes is worse than none."""
    name = "libedgetpu"
    wanted, devices = machine.wanted.backend, edge_tpus(machine.root)
    try:
        library = find_library(machine.environment)
    except NoEdgeTpuLibrary as missing:
        advice = f"install libedgetpu1-std {_CURRENT}"
        if wanted == "cpu" or not (devices or wanted == "edgetpu"):
            return ok(name, f"{missing}; needed with an Edge TPU only")
        return fail(name, str(missing), advice)
    package = package_of(library, machine.environment)
    words = f"{library} ({package or 'of no package: its version is not known'})"
    if package is not None and package.outdated:
        words += ": this build crashes with today's runtimes"
        return fail(name, words, f"replace it by libedgetpu1-std {_CURRENT}")
    return ok(name, words)


CHECKS = (tflite_runtime, *(_check_of(*needed) for needed in _NEEDED), screen_library, libedgetpu)
