"""Pictures from files: a video, one photograph, or a folder of photographs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from appliance.capture import EndOfSource, photographs
from appliance.capture.photographs import PhotographUnreadable
from appliance.capture.video import Video
from appliance.data import Frame, RgbImage
from appliance.errors import SourceMissing, SourceUnreadable
from appliance.pool import ShapePool

_log = logging.getLogger(__name__)

PHOTOGRAPH_NS = 1_000_000_000
"""How long each photograph lasts, in live use and in recordings."""
_LATE_NS = 100_000_000
"""A picture that comes later than this is dropped, in live use."""
_STALLED_NS = 1_000_000_000
"""After falling back this far, playing goes on from there instead of dropping everything."""


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture that is to be shown at some time."""

    offset_ns: int
    """From the beginning."""
    rgb: Callable[[ShapePool], RgbImage]
    """Makes the pixels; not called for pictures that are dropped."""
    name: str = ""


class FilesSource:
    """A video, a photograph, or a folder of photographs in the order of their names.

    Paired unless `live`: then a video plays at its own pace, dropping pictures that come too late (their
    indices are left out), and photographs change every second, or as fast as they can be read.
    `Frame.captured_ns` is the presentation time, so that recordings keep the video's own pace; in live use
    from the time of opening, otherwise from 0, the same each time. Photographs that cannot be read are
    skipped, with a warning, and counted.
    """

    def __init__(self, path: Path, live: bool = False) -> None:
        self.name = path.name or str(path)
        self.live = live
        self.skipped = 0
        """Photographs that could not be read."""
        self._path = path
        self._pool = ShapePool(np.uint8)
        self._video: Video | None = None
        self._pictures: Iterator[_Picture] = iter(())
        self._pending: _Picture | None = None
        self._index = 0
        self._start_ns = 0

    def open(self) -> None:
        """Open at the beginning. Raises `SourceMissing` or `SourceUnreadable`."""
        self.close()
        path = self._path
        try:
            if path.is_dir():
                paths = photographs.in_folder(path)
                if not paths:
                    kinds = ", ".join(sorted(suffix[1:] for suffix in photographs.SUFFIXES))
                    raise SourceUnreadable(
                        f"{path} holds no photographs (folders in it do not count); put some there ({kinds})"
                    )
                self._pictures = self._photographs(paths)
            elif not path.exists():
                raise SourceMissing(f"{path} does not exist; check the path given as the source")
            elif not path.is_file():
                raise SourceUnreadable(f"{path} is neither a file nor a folder; give one as the source")
            elif photographs.is_photograph(path):
                self._pictures = self._photographs([path])
            else:
                self._video = Video(path)
                self._pictures = self._of_video(self._video)
        except OSError as error:
            raise SourceUnreadable(
                f"{path} cannot be read ({error.strerror}); check its permissions"
            ) from error
        self._start_ns = time.monotonic_ns() if self.live else 0

    def read(self, timeout_s: float) -> Frame | None:
        """The next picture; in live use, None if it is not due within the time, which also ends the dropping.

        Raises `EndOfSource`; `SourceTruncated` after the last good picture of an incomplete video;
        `SourceUnreadable` if no picture can be read.
        """
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        while True:
            if self._pending is None:
                self._pending = next(self._pictures, None)
                if self._pending is None:
                    raise EndOfSource
            picture = self._pending
            if self.live and not self._wait_until_due(picture.offset_ns, deadline_ns):
                return None
            self._pending = None
            index, self._index = self._index, self._index + 1
            due_ns = self._start_ns + picture.offset_ns
            now_ns = time.monotonic_ns()
            late_ns = now_ns - due_ns
            if self.live and late_ns > _LATE_NS:
                if self._video is not None and index > 0 and now_ns < deadline_ns:
                    continue
                # a slow start, a photograph that took long to read, a decoder that does not keep up
                self._start_ns += late_ns
                due_ns += late_ns
            return Frame(index, due_ns, picture.rgb(self._pool), picture.name)

    def _wait_until_due(self, offset_ns: int, deadline_ns: int) -> bool:
        """Sleep until a picture is due, but not beyond the deadline; returns whether it is."""
        now_ns = time.monotonic_ns()
        due_ns = self._start_ns + offset_ns
        if now_ns - due_ns > _STALLED_NS:
            self._start_ns = now_ns - offset_ns
        time.sleep(max(0, min(due_ns, deadline_ns) - now_ns) / 1e9)
        return due_ns <= deadline_ns

    def close(self) -> None:
        """Close the file."""
        self._pictures, self._pending = iter(()), None
        if self._video is not None:
            self._video.close()
            self._video = None

    def _of_video(self, video: Video) -> Iterator[_Picture]:
        for picture in video.pictures():
            yield _Picture(round(picture.time_s * 1e9), picture.rgb)

    def _photographs(self, paths: list[Path]) -> Iterator[_Picture]:
        good = 0
        for path in paths:
            try:
                pixels = photographs.read(path)
            except PhotographUnreadable as error:
                self.skipped += 1
                _log.warning("%s skipped: %s", path.name, error)
                if len(paths) == 1:
                    raise SourceUnreadable(f"{path} is no photograph that can be read ({error})") from error
            else:
                yield _Picture(good * PHOTOGRAPH_NS, partial(_pooled, pixels), path.name)
                good += 1
        if not good:
            raise SourceUnreadable(f"none of the {len(paths)} photographs in {self._path} can be read")


def _pooled(pixels: RgbImage, pool: ShapePool) -> RgbImage:
    rgb: RgbImage = pool.lease(pixels.shape)
    np.copyto(rgb, pixels)
    return rgb
