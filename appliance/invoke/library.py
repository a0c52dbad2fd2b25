"""Where libedgetpu is. Looks as the dynamic loader does; loads nothing: a wrong build ends a process."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from appliance.errors import NoEdgeTpuLibrary

NAME = "libedgetpu.so.1"
_LDCONFIG = ("/sbin/ldconfig", "/usr/sbin/ldconfig")
"""By its path: the PATH of a user has no sbin on Debian."""


def find_library(environment: Mapping[str, str] = os.environ) -> Path:
    """The library's path. Raises `NoEdgeTpuLibrary`, saying what to install."""
    folders = [Path(name) for name in environment.get("LD_LIBRARY_PATH", "").split(":") if name]
    usual = [Path("/usr/local/lib"), Path("/usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "")]
    for path in (*(folder / NAME for folder in folders), *_cached(), *(folder / NAME for folder in usual)):
        if path.is_file():
            return path
    raise NoEdgeTpuLibrary(f"{NAME} is missing: install libedgetpu1-std")


def _cached() -> list[Path]:
    """What the loader's cache says."""
    for command in _LDCONFIG:
        try:
            done = subprocess.run([command, "-p"], capture_output=True, text=True, timeout=5, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        lines = (line.partition(" => ") for line in done.stdout.splitlines())
        return [Path(path) for name, _, path in lines if name.split()[:1] == [NAME]]
    return []
