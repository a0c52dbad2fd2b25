"""Where libedgetpu is, and which one. Looks as the dynamic loader does, but loads nothing: a wrong build ends
the process that loads it.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import NoEdgeTpuLibrary

NAME = "libedgetpu.so.1"
_LDCONFIG = ("/sbin/ldconfig", "/usr/sbin/ldconfig")
"""By its path: the PATH of a user has no sbin on Debian."""
_PACKAGES = "libedgetpu*"
_THIS_PROGRAM = Path("/proc/self/exe")
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Package:
    """The Debian package that a library belongs to."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def outdated(self) -> bool:
        """Whether it is too old for today's runtimes, with which Google's build of 2021 ("16.0") crashes.

        Builds since 2024 name the TensorFlow that they are made for ("16.0TF2.19.1-1").
        """
        return "tf" not in self.version.lower()


def find_library(environment: Mapping[str, str] = os.environ) -> Path:
    """The library's path. Raises `NoEdgeTpuLibrary`, saying what to install."""
    folders = [Path(name) for name in environment.get("LD_LIBRARY_PATH", "").split(":") if name]
    usual = [Path("/usr/local/lib"), Path("/usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "")]
    places = (*(folder / NAME for folder in folders), *_cached(), *(folder / NAME for folder in usual))
    there = [path for path in places if path.is_file()]
    wanted = _machine(_THIS_PROGRAM)
    for path in there:
        if _machine(path) == wanted:
            return path
    if there:
        raise NoEdgeTpuLibrary(f"{there[0]} is no library for this machine: install libedgetpu1-std again")
    raise NoEdgeTpuLibrary(f"{NAME} is missing: install libedgetpu1-std")


def package_of(library: Path, environment: Mapping[str, str] = os.environ) -> Package | None:
    """The package that brought the library; None if none did, or if that cannot be known."""
    paths = {str(library), str(library.resolve())}  # the loader's cache says /lib, a package /usr/lib
    # Not "--search", which takes several times as long: it reads the file lists of all packages.
    for line in _ask_dpkg(environment, "--show", "--showformat=${binary:Package} ${Version}\n", _PACKAGES):
        name, _, version = line.partition(" ")
        if version and not paths.isdisjoint(_ask_dpkg(environment, "--listfiles", name)):
            return Package(name.partition(":")[0], version)
    return None


def _cached() -> list[Path]:
    """What the loader's cache says."""
    for command in _LDCONFIG:
        lines = (line.partition(" => ") for line in _lines([command, "-p"]))
        paths = [Path(path) for name, _, path in lines if name.split()[:1] == [NAME]]
        if paths:
            return paths
    return []


def _ask_dpkg(environment: Mapping[str, str], *arguments: str) -> list[str]:
    return _lines(["dpkg-query", *arguments], {**environment, "LC_ALL": "C.UTF-8"})


def _lines(command: list[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """What a program says; nothing if it is not there or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def _machine(path: Path) -> bytes:
    """Word size, byte order and processor of an ELF file, as bytes to compare; empty if it is none."""
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError:
        return b""
    return header[4:6] + header[18:20] if len(header) == 20 and header.startswith(b"\x7fELF") else b""
