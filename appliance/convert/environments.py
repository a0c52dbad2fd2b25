"""The two environments that a conversion runs in, made from lock files and kept in the user's cache.

Neither can be the appliance's own: TensorFlow 2.19 and onnx2tf hold numpy and protobuf back, and
ultralytics is AGPL. Each lies in the cache as `envs/<name>-<hash of lock and Python version>`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.convert.processes import run_logged
from appliance.errors import ConvertError

log = logging.getLogger(__name__)

PYTHONS: Final = ("3.11", "3.12")
"""Versions that every pinned package has a wheel for, best first."""
LOCKS: Final = Path(__file__).resolve().parents[2] / "requirements"
READY: Final = "ready"
"""A file that the environment gets last: one that lacks it was interrupted, and is made again."""
INSTALL_TIMEOUT_S: Final = 3600.0
"""A CUDA build of torch is gigabytes."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What is installed where."""

    name: str
    lock: str
    """File name in `requirements/`."""
    with_dependencies: tuple[str, ...] = ()
    """Packages of the lock whose dependencies may go beyond it."""
    placeholders: tuple[tuple[str, str], ...] = ()
    """Name and version of packages that are asked for their version only: metadata without code."""


EXPORT: Final = Environment("export", "export.txt", ("torch",), (("torchvision", "0.28.0"),))
TFLITE: Final = Environment("tflite", "tflite.txt")


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/segmentation-appliance`, or the same under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segmentation-appliance"


def find_python(versions: Sequence[str] = PYTHONS) -> tuple[Path, str]:
    """A Python of one of these minor versions that can make environments, and its full version.

    This one is tried first, then every `pythonX.Y` on PATH. Raises `ConvertError` if there is none.
    """
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    for version in versions:
        for python in (
            Path(sys.executable),
            *(folder / f"python{version}" for folder in folders),
        ):
            found = _version_of(python) if python.is_file() else None
            if found is not None and found.startswith(f"{version}."):
                return python, found
    wanted = " or ".join(versions)
    raise ConvertError(
        f"prepare: converting needs Python {wanted} with its venv module, and none is on PATH; "
        "install one, or convert on another machine"
    )


def _version_of(python: Path) -> str | None:
    """The full version, or None if this Python does not run (as some of pyenv) or cannot make a venv."""
    code = "import ensurepip, platform, venv; print(platform.python_version())"
    try:
        answer = subprocess.run(
            [python, "-I", "-c", code], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def ensure(environment: Environment) -> Path:
    """The environment's Python; makes the environment first if it is not there.

    Raises `ConvertError` if there is no suitable Python, no lock file, or an installation fails.
    """
    lock = LOCKS / environment.lock
    try:
        pins = lock.read_bytes()
    except OSError as error:
        raise ConvertError(
            f"prepare: {lock} cannot be read; converting works from a checkout of the project"
        ) from error
    base, version = find_python()
    recipe = json.dumps([version, environment.with_dependencies, environment.placeholders]).encode()
    key = hashlib.sha256(pins + recipe).hexdigest()[:12]
    folder = cache_folder() / "envs" / f"{environment.name}-{key}"
    python = folder / "bin" / "python"
    with locked(folder):
        if not ((folder / READY).exists() and python.exists()):
            _make(environment, base, folder, lock)
    return python


def _make(environment: Environment, base: Path, folder: Path, lock: Path) -> None:
    """Make it from nothing, over whatever an interrupted attempt left."""
    log.info("prepare: installing %s from %s into %s", environment.name, lock.name, folder)
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    log_file = folder.with_suffix(".log")
    log_file.unlink(missing_ok=True)
    step = f"prepare {environment.name}"
    run_logged(step, [base, "-I", "-m", "venv", folder], log_file, folder.parent, INSTALL_TIMEOUT_S)
    python = folder / "bin" / "python"
    for name, version in environment.placeholders:
        _put_placeholder(python, name, version)
    pip: list[str | Path] = [python, "-I", "-m", "pip", "install", "--disable-pip-version-check"]
    installs: list[list[str | Path]] = [["--no-deps", "-r", lock]]
    if environment.with_dependencies:
        installs.insert(0, ["-c", lock, *environment.with_dependencies])
    for arguments in installs:
        run_logged(step, [*pip, *arguments], log_file, folder.parent, INSTALL_TIMEOUT_S)
    (folder / READY).touch()
    log.info("prepare: installed %s in %.1f s", environment.name, time.monotonic() - started)


def _put_placeholder(python: Path, name: str, version: str) -> None:
    """Let `importlib.metadata` know a package that is not there."""
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` for this process alone; another one that wants it waits, and says so. Makes its parent.

    Raises `ConvertError` if the parent cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.with_name(f"{path.name}.lock").open("w")
    except OSError as error:
        raise ConvertError(
            f"prepare: {path.parent} cannot be written: {error.strerror}; "
            "set XDG_CACHE_HOME to a folder that can"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that works on %s", path)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
