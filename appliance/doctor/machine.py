"""The machine that is looked at: its files, its commands, and what its configuration wants of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_COMMAND_S = 10.0
_PROBE_S = 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration asks for, with the defaults of `config.yaml`."""

    source: str = "scene"
    camera_number: int | None = None
    model: Path | None = None
    """None if the configuration cannot be read."""
    backend: str = "auto"
    device: str = "auto"
    display: str = "screen"
    output: Path | None = None


class ProbeFailed(Exception):
    """A probe died, or took too long; says how."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where to look. Other values than the defaults are for tests."""

    wanted: Wanted = field(default_factory=Wanted)
    root: Path = Path("/")
    """Above `proc`, `sys`, `etc` and `dev`."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    """For commands too."""
    _probed: dict[tuple[str, ...], dict[str, object] | ProbeFailed] = field(default_factory=dict, repr=False)
    """What probes found: several checks may ask for the same one."""

    def text(self, path: str) -> str:
        """A file under the root, stripped; empty if it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip("\0 \t\r\n")
        except OSError:
            return ""

    def number(self, path: str) -> int | None:
        """A number of the device tree (32 bits, big-endian), or None."""
        try:
            content = (self.root / path).read_bytes()
        except OSError:
            return None
        return int.from_bytes(content, "big") if len(content) == 4 else None

    def entries(self, folder: str, pattern: str = "*") -> list[Path]:
        """What lies in a folder under the root, sorted; nothing if it cannot be read."""
        try:
            return sorted((self.root / folder).glob(pattern))
        except OSError:
            return []

    def ask(self, *command: str) -> str | None:
        """What a command prints; None if it is not there, fails or takes too long."""
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_COMMAND_S,
                check=True,
                env={**self.environment, "LC_ALL": "C.UTF-8"},
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    def probe(self, name: str, *arguments: str, timeout_s: float = _PROBE_S) -> dict[str, object]:
        """Run a function of `appliance.doctor.probe` in a process of its own, once; what it found.

        Raises `ProbeFailed` if that process dies, or does not end in time.
        """
        key = (name, *arguments)
        if key not in self._probed:
            try:
                self._probed[key] = self._run_probe(key, timeout_s)
            except ProbeFailed as failed:
                self._probed[key] = failed
        found = self._probed[key]
        if isinstance(found, ProbeFailed):
            raise found
        return found

    def _run_probe(self, arguments: tuple[str, ...], timeout_s: float) -> dict[str, object]:
        command = [sys.executable, "-m", "appliance.doctor.probe", *arguments]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
                env=self.environment,
            )
        except subprocess.TimeoutExpired:
            raise ProbeFailed(f"no answer within {timeout_s:g} s") from None
        except OSError as error:
            raise ProbeFailed(f"no process can be started ({error.strerror})") from error
        try:
            found = json.loads(done.stdout.strip().rpartition("\n")[2])
        except ValueError:
            found = None
        if done.returncode == 0 and isinstance(found, dict):
            return found
        said = (done.stderr.strip().splitlines() or [""])[-1].strip()
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        raise ProbeFailed(f"it ended with {how}" + (f": {said}" if said else ""))

    @property
    def board(self) -> str:
        """Which Raspberry Pi it is; empty if it is none."""
        model = self.text("proc/device-tree/model")
        return model if model.startswith("Raspberry Pi") else ""
