"""A real X server, a real window manager, and a hand on the mouse and the keys."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import Image, ImageGrab

SCREEN_WH = (1920, 1080)


@contextmanager
def desktop(screen_wh: tuple[int, int] = SCREEN_WH) -> Iterator[str]:
    """Xvfb with openbox on a free display; its name, such as ":7". Fails where a program is missing."""
    missing = [program for program in ("Xvfb", "openbox", "xdotool") if shutil.which(program) is None]
    assert not missing, f"install {', '.join(missing)} (Debian: xvfb, openbox, xdotool)"
    read_end, write_end = os.pipe()
    screen = f"{screen_wh[0]}x{screen_wh[1]}x24"
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), "-screen", "0", screen, "-nolisten", "tcp", "-noreset"],
        pass_fds=[write_end],
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    manager: subprocess.Popen[bytes] | None = None
    try:
        with os.fdopen(read_end) as pipe:
            display = f":{pipe.readline().strip()}"  # written once the server takes connections
        assert display != ":", "Xvfb did not start"
        manager = subprocess.Popen(
            ["openbox", "--sm-disable"], env={**os.environ, "DISPLAY": display}, stderr=subprocess.DEVNULL
        )
        eventually(lambda: xdotool(display, "get_desktop") is not None, "openbox did not start")
        yield display
    finally:
        for process in (manager, server):
            if process is not None:
                process.terminate()
                process.wait(5)


def xdotool(display: str, *arguments: str | int) -> str | None:
    """Run xdotool; what it printed, or None if it failed."""
    done = subprocess.run(
        ["xdotool", *map(str, arguments)],
        env={**os.environ, "DISPLAY": display},
        capture_output=True,
        check=False,
        text=True,
        timeout=10,
    )
    return done.stdout if done.returncode == 0 else None


def screenshot(display: str) -> Image.Image:
    """What the screen shows, RGB."""
    return ImageGrab.grab(xdisplay=display).convert("RGB")


def eventually(holds: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Wait until something holds."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)
