"""systemd's end of the socket on which the program tells how it does, and the program at the other end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_NO_SCREEN = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR", "NOTIFY_SOCKET")


class Listener:
    """systemd's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._unread: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def listen(self, seconds: float) -> list[str]:
        """What comes in this time."""
        end_s, heard = time.monotonic() + seconds, []
        while (left_s := end_s - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            try:
                heard.append(self._socket.recv(4096).decode())
            except TimeoutError:
                break
        self.heard += heard
        return heard

    def wait_for(self, start: str, seconds: float = 30) -> str:
        """The next message that begins so."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._unread = self._unread or self.listen(0.2)
            while self._unread:
                if (words := self._unread.pop(0)).startswith(start):
                    return words
        raise AssertionError(f"no {start} within {seconds} s, but {self.heard}")

    def close(self) -> None:
        self._socket.close()


@contextmanager
def program(
    *command: str | Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The program by itself: without a screen, unless the environment has one."""
    clean = {name: value for name, value in os.environ.items() if name not in _NO_SCREEN}
    with subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean, **(environment or {})},
    ) as process:
        try:
            yield process
        finally:
            process.kill()
