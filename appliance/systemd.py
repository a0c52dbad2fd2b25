"""What systemd is told, and how it wants the log. Nothing happens unless systemd started the program.

The protocol (sd_notify(3)) is a datagram of a few words, so it is written here: that is less than a package
to install, which has no wheels, and asking whether it is there.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

_log = logging.getLogger(__name__)

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Log levels with those of sd-daemon(3), from the highest down; 7 below."""


def notify(words: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send assignments such as "READY=1", one a line, if there is a NOTIFY_SOCKET."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract names
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_systemd:
            to_systemd.settimeout(1.0)
            to_systemd.sendto(words.encode(), address)
    except OSError as error:  # the picture is worth more than the report
        _log.debug("cannot tell systemd %s: %s", words, error)


def is_service(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether systemd started the program, and waits for it to be ready."""
    return "NOTIFY_SOCKET" in environment


def status(words: str) -> None:
    """Set the line that `systemctl status` shows."""
    notify(f"STATUS={' '.join(words.split())}")


class Service:
    """Tells systemd how the program does. For one thread: the one that shows the pictures."""

    def __init__(
        self, stuck: Callable[[], Sequence[str]], environment: Mapping[str, str] = os.environ
    ) -> None:
        """`stuck` names the stages that do not get on."""
        self._stuck = stuck
        # WATCHDOG_PID is not looked at: under a kiosk compositor it is the compositor's.
        watchdog_us = environment.get("WATCHDOG_USEC", "")
        self._every_s = int(watchdog_us) / 1e6 / 4 if watchdog_us.isdecimal() else None
        self._due_s = 0.0
        self._ready = False
        self._blamed: tuple[str, ...] = ()

    def presenting(self) -> None:
        """A picture or a notice is being shown. Call it in the loop that shows them, and nowhere else.

        The first call says that the service is ready. Each feeds the watchdog when that is due, unless a
        stage is stuck.
        """
        if not self._ready:
            self._ready = True
            notify("READY=1")
        now_s = time.monotonic()
        if self._every_s is None or now_s < self._due_s:
            return
        self._due_s = now_s + self._every_s
        stuck = tuple(self._stuck())
        if not stuck:
            notify("WATCHDOG=1")
        elif stuck != self._blamed:
            words = f"stuck: {', '.join(stuck)}; the watchdog will end it"
            _log.error("%s", words)
            status(words)
        self._blamed = stuck

    def status(self, words: str) -> None:
        """Set the line that `systemctl status` shows, unless it names what is stuck."""
        if not self._blamed:
            status(words)

    def stopping(self) -> None:
        """The end has begun."""
        notify("STOPPING=1")


def stderr_is_journal(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written to standard error goes to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        there = os.fstat(2)
    except OSError:  # closed
        return False
    return environment.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


class JournalFormatter(logging.Formatter):
    """Puts the priority before each line, as in `<4>`: the journal knows levels, and colours warnings."""

    def format(self, record: logging.LogRecord) -> str:
        """As in `logging.Formatter`."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())
