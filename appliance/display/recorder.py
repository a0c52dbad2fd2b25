"""A recording of what is shown: Matroska with H.264, readable up to the last moment whatever happens."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from appliance.data import RgbImage
from appliance.display import View
from appliance.display.flatten import flatten_view
from appliance.display.worker import Worker, remaining_s
from appliance.durable import sync_folder
from appliance.errors import OutputNotWritable

_log = logging.getLogger(__name__)

Render = Callable[[View, tuple[int, int]], RgbImage]

_TIME_BASE = Fraction(1, 1000)  # Matroska's own
_CLUSTER_MS = 300
"""The muxer holds this much back before it writes it."""
_SYNC_S = 0.5
"""How often what is written is forced onto the disk; with the cluster, a power cut costs less than 1 s."""
_CLOSE_S = 1.0
_BT709 = 1  # in all three of FFmpeg's enumerations of colour
_RATE_HZ = 30  # a hint for the encoder; the true times are in the time stamps
_KEY_FRAME_PICTURES = 60


_CODECS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"},
    "mpeg4": {"b": "8000000"},
}
"""Encoders with their options; the first that is there is used. Not every build of FFmpeg has x264."""


class Recorder:
    """Records views into a new file, from its own thread.

    Every picture is stamped with the time it was taken, so that the recording keeps the true pace; of several
    views of one picture only the first is recorded. If the disk fills up or fails, the recording is closed,
    what it holds stays playable, `problem` says so, and further views are ignored.
    """

    def __init__(
        self, path: Path, size_wh: tuple[int, int], lossless: bool = False, render: Render = flatten_view
    ) -> None:
        """Create the file, whose folder must exist.

        Sizes are cut to even numbers, since the usual pixel format halves colour in both directions. With
        `lossless`, `put` waits for the encoder; otherwise it drops views when that is behind. Raises
        `OutputNotWritable`, also if the file exists.
        """
        self.path = path
        self.problem = ""
        """Why the recording ended early, in words; empty while all is well."""
        self.pictures = 0
        """How many are in the recording."""
        self.duration_s = 0.0
        """From its first picture to its last."""
        self._size_wh = (max(2, size_wh[0] // 2 * 2), max(2, size_wh[1] // 2 * 2))
        self._render = render
        self._last_key: tuple[int, int] | None = None
        self._first_ns: int | None = None
        self._last_pts = -1
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                sync_folder(path.parent)
                self._container, self._stream = _open(path, self._size_wh)
            except OSError:
                os.close(self._file)
                path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise OutputNotWritable(
                f"cannot record into {path} ({error.strerror}); choose another output folder"
            ) from error
        self._ended = threading.Event()
        self._syncer = threading.Thread(target=self._sync, name="recorder sync", daemon=True)
        self._syncer.start()
        self._worker = Worker("recorder", self._record, lossless, self._finish)

    @property
    def dropped(self) -> int:
        """Views that were dropped because the encoder was behind."""
        return self._worker.dropped

    @property
    def busy(self) -> bool:
        """Whether views have still to be encoded."""
        return self._worker.busy

    def put(self, view: View) -> None:
        """Record a view, unless its picture was there already or it has none."""
        if view.frame is None or self.problem:
            return
        key = view.frame.index, view.frame.captured_ns
        if key != self._last_key:
            self._last_key = key
            self._worker.put(view)

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Finish the file; safe to call more than once. If that takes too long, the file ends where it is."""
        deadline_s = time.monotonic() + timeout_s
        if not self._worker.close(timeout_s):
            self.problem = self.problem or "the disk does not answer; the recording ends where it is"
            _log.error("%s: %s", self.path, self.problem)
        self._syncer.join(remaining_s(deadline_s))

    def _record(self, view: View) -> None:
        """On the worker's thread."""
        if view.frame is None or self.problem:
            return
        if self._first_ns is None:
            self._first_ns = view.frame.captured_ns
        # Time stamps must grow; a source that was opened again may have begun a clock of its own.
        pts = max((view.frame.captured_ns - self._first_ns) // 1_000_000, self._last_pts + 1)
        rgb = VideoFrame.from_ndarray(self._render(view, self._size_wh), format="rgb24")
        picture = rgb.reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        picture.pts, picture.time_base = pts, _TIME_BASE
        try:
            self._container.mux(self._stream.encode(picture))
        except (av.FFmpegError, OSError) as error:
            self._fail(error)
        else:
            self._last_pts = pts
            self.pictures += 1
            self.duration_s = pts / 1000

    def _finish(self) -> None:
        """On the worker's thread, at its end."""
        try:
            if not self.problem:
                self._container.mux(self._stream.encode(None))
        except (av.FFmpegError, OSError) as error:
            self._fail(error)
        self._close_container()
        self._ended.set()

    def _fail(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error)
        self.problem = (
            f"recording ended after {self.duration_s:.0f} s ({reason}); it can be played up to there"
        )
        _log.error("%s: %s", self.path, self.problem)
        self._close_container()

    def _close_container(self) -> None:
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            if not self.problem:
                self._fail(error)

    def _sync(self) -> None:
        """On a thread of its own, since a slow disk may take long, until the recording has ended."""
        try:
            ended = False
            while not ended:
                ended = self._ended.wait(_SYNC_S)
                os.fdatasync(self._file)
        except OSError as error:
            _log.error("%s: cannot be forced onto the disk (%s)", self.path, error.strerror)
        finally:
            os.close(self._file)


def _open(path: Path, size_wh: tuple[int, int]) -> tuple[OutputContainer, VideoStream]:
    container = av.open(
        str(path),
        "w",
        format="matroska",
        container_options={"cluster_time_limit": str(_CLUSTER_MS), "flush_packets": "1"},
    )
    codec = next(name for name in _CODECS if name in av.codecs_available)
    stream = container.add_stream(codec, rate=_RATE_HZ, options=_CODECS[codec])
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = size_wh
    stream.pix_fmt = "yuv420p"
    stream.gop_size = _KEY_FRAME_PICTURES
    stream.codec_context.time_base = _TIME_BASE
    # BT.709 is what players take videos of this size for, and what the pictures are converted to.
    stream.codec_context.colorspace = stream.codec_context.color_primaries = _BT709
    stream.codec_context.color_trc = _BT709
    stream.codec_context.color_range = ColorRange.MPEG
    stream.codec_context.thread_count = 2  # the segmentation needs the other cores
    container.start_encoding()
    return container, stream
