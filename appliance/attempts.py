"""How often in a row the service has failed, so that its pauses grow; kept where a restart leaves it alone.

systemd counts too, but Debian 12's cannot let pauses grow, and none forgets failures of long ago.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

_log = logging.getLogger(__name__)

LONGEST_S = 60.0
RESTART_S = 2.0
"""What systemd waits itself: RestartSec in the unit."""
STEADY_S = 60.0
"""A service that ran for so long was fine: what comes then is a new trouble, with a short pause."""
_UNKNOWN = "it ended unexpectedly; see what was logged before"


class _Record(BaseModel):
    failures: int
    """Starts in a row, with the last, that are not known to have gone well."""
    began_s: float
    """When the last began, monotonic."""
    reason: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A start."""

    pause_s: float
    """To be waited before it, 0 to `LONGEST_S`."""
    reason: str
    """Why the one before failed; empty if there is no pause."""


class Attempts:
    """For one process at a time. Without a folder nothing is remembered, and no pause is made."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` must be lost when the machine starts anew: times of an earlier start mean nothing."""
        self._file = None if folder is None else folder / "attempts.json"
        self._record = _Record(failures=0, began_s=0.0, reason="")

    @classmethod
    def of_service(cls, environment: Mapping[str, str]) -> Attempts:
        """In what systemd made for the service, RuntimeDirectory in the unit, if anything."""
        folder = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        return cls(Path(folder) if folder else None)

    def begin(self) -> Attempt:
        """Count a start. It is taken for a failure until `forget` is called."""
        last, now_s = self._read(), time.monotonic()
        failures = 0 if now_s - last.began_s > STEADY_S else last.failures
        pause_s = max(0.0, min(LONGEST_S, 2.0**failures) - RESTART_S) if failures else 0.0
        self._write(_Record(failures=failures + 1, began_s=now_s + pause_s, reason=""))
        return Attempt(pause_s, (last.reason or _UNKNOWN) if pause_s else "")

    def failed(self, reason: str) -> None:
        """Say why the present start failed."""
        self._write(self._record.model_copy(update={"reason": reason}))

    def forget(self) -> None:
        """All is well, or will be: the next start needs no pause."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _read(self) -> _Record:
        try:
            text = "" if self._file is None else self._file.read_text()
            return _Record.model_validate_json(text)
        except (OSError, ValidationError):  # the first start, or a damaged file
            return self._record

    def _write(self, record: _Record) -> None:
        self._record = record
        if self._file is None:
            return
        try:
            self._file.write_text(json.dumps(record.model_dump()))
        except OSError as error:
            _log.debug("%s cannot be written: %s", self._file, error)
