"""Files that are there whole or not at all, even after a power cut."""

from __future__ import annotations

import contextlib
import os
from datetime import datetime
from pathlib import Path


def write_file(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, then rename it. Raises `OSError`, leaving nothing."""
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make sure that the names of new files in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def free_stem(folder: Path, kind: str, now: datetime) -> str:
    """`KIND-DATE-TIME-N` such that no file is called that, with whatever ending.

    N also helps when the clock was set back, as on a Pi at boot.
    """
    number = 1
    while any(folder.glob(f"{(stem := f'{kind}-{now:%Y%m%d-%H%M%S}-{number}')}[-.]*")):
        number += 1
    return stem
