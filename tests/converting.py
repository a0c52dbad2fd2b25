"""What tests of the conversion share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.convert.environments import cache_folder


def new_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything that is kept made anew, in `folder`, but the environments."""
    installed = cache_folder() / "envs"
    installed.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    cache_folder().mkdir(parents=True)
    (cache_folder() / "envs").symlink_to(installed)


def wait_until(condition: Callable[[], bool]) -> None:
    """20 s at most."""
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def wait_for_the_end(*processes: int) -> None:
    """Of processes, by their numbers."""
    wait_until(lambda: not any(_runs(process) for process in processes))


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
