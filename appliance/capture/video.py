"""Reading a video file, picture by picture, with the times at which they are to be shown."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from appliance.data import RgbImage
from appliance.errors import SourceTruncated, SourceUnreadable
from appliance.pool import ShapePool

_log = logging.getLogger(__name__)

_TEXT_AS_VIDEO = frozenset({"ansi", "bintext", "xbin", "idf"})  # decoders that draw text files as pictures
_SLACK_PICTURES = 1.5
"""A video that ends less than this before its declared end is taken as whole; containers round."""


class Picture:
    """A decoded picture that has not been turned to RGB yet, since it may be dropped."""

    def __init__(self, frame: VideoFrame, time_s: float) -> None:
        self._frame = frame
        self.time_s = time_s
        """Presentation time, from the first picture of the video."""

    def rgb(self, pool: ShapePool) -> RgbImage:
        """The picture, the right way up, (H, W, 3) uint8, red first, in memory of the pool."""
        plane = self._frame.reformat(format="rgb24").planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        packed = rows[:, : plane.width * 3].reshape(plane.height, plane.width, 3)
        # The file's rotation is counter-clockwise, as is that of numpy.
        upright = np.rot90(packed, round(self._frame.rotation / 90) % 4)
        rgb: RgbImage = pool.lease(upright.shape)
        np.copyto(rgb, upright)
        return rgb


class Video:
    """An open video file."""

    def __init__(self, path: Path) -> None:
        """Raises `SourceUnreadable`."""
        self._path = path
        try:
            # Only local files: a playlist must not make the appliance fetch anything.
            self._container: InputContainer = av.open(
                str(path.resolve()), options={"protocol_whitelist": "file"}
            )
        except (av.FFmpegError, OSError, UnicodeError) as error:  # names inside the file may not be UTF-8
            raise SourceUnreadable(_no_video(path, _reason(error))) from error
        streams = self._container.streams.video
        if not streams or streams[0].codec_context is None:
            self.close()
            raise SourceUnreadable(_no_video(path, "it has no pictures"))
        self._stream: VideoStream = streams[0]
        if self._stream.codec_context.name in _TEXT_AS_VIDEO:
            self.close()
            raise SourceUnreadable(_no_video(path, "it looks like text"))
        # Decoding several pictures at once would lose good ones along with a damaged one.
        self._stream.thread_type = "SLICE"
        rate = self._stream.average_rate or self._stream.guessed_rate
        self._interval_s = 1 / float(rate) if rate else 1 / 30
        self._damaged = 0
        self._decode_error_at_end = False

    def close(self) -> None:
        """Close the file; safe to call more than once."""
        self._container.close()

    def pictures(self) -> Iterator[Picture]:
        """All good pictures in the order of their times.

        After the last one, raises `SourceTruncated` if the file ended before its declared duration or in
        the middle of a picture, and `SourceUnreadable` if there was no good picture at all.
        """
        first_s: float | None = None
        end_s = time_s = 0.0
        for count, frame in enumerate(self._frames()):
            stamp_s = frame.time if frame.time is not None else count * self._interval_s + (first_s or 0.0)
            if first_s is None:
                first_s = stamp_s
            time_s = max(time_s, stamp_s - first_s)
            base = frame.time_base
            lasts_s = float(frame.duration * base) if frame.duration and base else self._interval_s
            end_s = time_s + lasts_s
            yield Picture(frame, time_s)
        if first_s is None:
            raise SourceUnreadable(_no_video(self._path, "no picture in it can be decoded"))
        if self._damaged:
            _log.warning("%s: %d damaged pictures left out", self._path.name, self._damaged)
        declared_s = self._declared_s()
        short = declared_s is not None and end_s + _SLACK_PICTURES * self._interval_s < declared_s
        if short or self._decode_error_at_end:
            whole = f" of {declared_s:.1f} s" if declared_s is not None else ""
            raise SourceTruncated(
                f"{self._path.name} ended at {end_s:.1f} s{whole}; "
                "the file is incomplete or damaged, copy it again"
            )

    def _frames(self) -> Iterator[VideoFrame]:
        """What the decoder gives, damaged pictures left out and counted."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                _log.warning("%s: %s", self._path.name, _reason(error))
                self._decode_error_at_end = True
                break
            if packet is None:
                return
            try:
                # Not even decoded if the file ends in it: the decoder would make something up.
                frames = None if packet.is_corrupt else packet.decode()
            except av.FFmpegError:
                frames = None
            if frames is None:
                self._damaged += 1
                self._decode_error_at_end = True
                continue
            if packet.size:  # the last one is empty and only flushes the decoder
                self._decode_error_at_end = False
            yield from self._good(frames)
        try:
            rest = self._stream.decode(None)
        except av.FFmpegError:
            return
        yield from self._good(rest)

    def _good(self, frames: list[VideoFrame]) -> Iterator[VideoFrame]:
        for frame in frames:
            if frame.is_corrupt:
                self._damaged += 1
            else:
                yield frame

    def _declared_s(self) -> float | None:
        """How long the pictures should last, as far as the file says."""
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        if len(self._container.streams) == 1 and self._container.duration is not None:
            return self._container.duration / av.time_base
        return None  # the container's duration may be that of the sound


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _no_video(path: Path, reason: str) -> str:
    return (
        f"{path} cannot be read as a video or photograph ({reason}); give a video such as MP4 or MKV, "
        "a photograph or a folder of photographs"
    )
