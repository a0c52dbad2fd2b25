"""A folder of varied photographs, for calibration, that grows from a source's pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import cv2

from appliance.capture.photographs import PhotographUnreadable, in_folder, read
from appliance.convert.calibration import SUFFIXES
from appliance.convert.variety import Variety
from appliance.data import Frame
from appliance.durable import write_file
from appliance.errors import OutputNotWritable

_log = logging.getLogger(__name__)

PAUSE_NS: Final = 1_000_000_000
"""In the source's own time, between two photographs: a set should not come from one moment."""
_JPEG: Final = (cv2.IMWRITE_JPEG_QUALITY, 95)


class Collection:
    """What is in the folder already counts, and is never written over. For one thread."""

    def __init__(self, folder: Path, wanted: int) -> None:
        """Make the folder if need be and read what is there. Raises `OutputNotWritable`."""
        self._folder, self._wanted = folder, wanted
        self._variety = Variety()
        self._next_number = 1
        self._due_ns: int | None = None
        self.count = 0
        """Photographs in the folder."""
        self.offered = 0
        """Pictures that the source gave."""
        self._read_folder()

    @property
    def complete(self) -> bool:
        """Whether there are as many as were wanted."""
        return self.count >= self._wanted

    def offer(self, frame: Frame) -> bool:
        """Keep a picture if it is unlike all in the folder; returns whether it was kept.

        Raises `OutputNotWritable`.
        """
        self.offered += 1
        too_soon = self._due_ns is not None and frame.captured_ns < self._due_ns
        if self.complete or too_soon or not self._variety.is_new(frame.rgb):
            return False
        done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR), _JPEG)
        assert done  # of uint8 pictures it can make a JPEG always
        try:
            write_file(self._free_path(), jpeg.tobytes())
        except OSError as error:
            raise _not_writable(self._folder, error) from error
        self._variety.add(frame.rgb)
        self.count += 1
        self._due_ns = frame.captured_ns + PAUSE_NS
        return True

    def _read_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            paths = [path for path in in_folder(self._folder) if path.suffix.lower() in SUFFIXES]
        except OSError as error:
            raise _not_writable(self._folder, error) from error
        for path in paths:
            try:
                self._variety.add(read(path))
            except PhotographUnreadable as error:
                _log.warning("%s cannot be read (%s); take it out of the folder", path.name, error)
            else:
                self.count += 1

    def _free_path(self) -> Path:
        while (path := self._folder / f"photograph-{self._next_number:04}.jpg").exists():
            self._next_number += 1
        return path


def _not_writable(folder: Path, error: OSError) -> OutputNotWritable:
    return OutputNotWritable(f"{folder} cannot be written to ({error.strerror}); name another with --out")
