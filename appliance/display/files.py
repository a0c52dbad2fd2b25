"""What would be on the screen, as files: a video, the instances as JSON lines, stills."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from datetime import datetime
from io import FileIO
from pathlib import Path

from appliance import coco
from appliance.data import Layer, Segmentation
from appliance.display import UserInput, View
from appliance.display.flatten import flatten_view
from appliance.display.recorder import Recorder
from appliance.display.worker import Worker, remaining_s
from appliance.durable import write_file
from appliance.errors import OutputNotWritable
from appliance.overlay import flatten
from appliance.snapshot import encode_jpeg, encode_png

_log = logging.getLogger(__name__)

VIDEO_SIDE_PX = 1920
"""The video is at most this wide and high: photographs may be much larger."""
_CLOSE_S = 1.5


class FilesDisplay:
    """Writes into a new folder `run-DATE-TIME` for each run.

    - `video.mkv`: every picture with its masks and the readout, in the size of the first one.
    - `instances.jsonl`: a line for each new set of masks, see `describe`.
    - `NAME.jpg` for each photograph, with its masks.
    - `still.png`, live only: the last picture with masks and readout.

    `paired`: only pictures with their own masks are written, and all of them, however long that takes.
    Otherwise writing never holds up the run; what it cannot keep up with is dropped. If the disk fills up,
    what is there stays readable and the run goes on.
    """

    interactive = False

    def __init__(self, folder: Path, paired: bool) -> None:
        self.folder = folder
        """Of the run, once it is open."""
        self._parent = folder
        self._paired = paired
        self._recorder: Recorder | None = None
        self._lines: FileIO | None = None
        self._layers: Worker[Layer] | None = None
        self._segmentation: Segmentation | None = None
        self._last_view: View | None = None
        self._stills: set[str] = set()
        self._failed = False

    def open(self) -> None:
        """Make the run's folder. Raises `OutputNotWritable`."""
        try:
            self.folder = _new_folder(self._parent, datetime.now())
            self._lines = (self.folder / "instances.jsonl").open("xb", buffering=0)
        except OSError as error:
            raise OutputNotWritable(
                f"cannot write into {self._parent} ({error.strerror}); choose another output folder"
            ) from error
        self._layers = Worker("instances", self._write_layer, self._paired, self._lines.close)
        _log.info("writing into %s", self.folder)

    def layer_wh(self, picture_wh: tuple[int, int]) -> tuple[int, int]:
        """The picture's own size."""
        return picture_wh

    def show(self, view: View) -> None:
        """Hand a view over for writing."""
        frame, layer = view.frame, view.layer
        if frame is None or self._layers is None:
            return
        if self._paired and (layer is None or layer.segmentation.frame is not frame):
            return
        if self._recorder is None:
            self._recorder = Recorder(
                self.folder / "video.mkv", _video_wh(frame.size_wh), lossless=self._paired
            )
        self._recorder.put(view)
        if layer is not None and layer.segmentation is not self._segmentation:
            self._segmentation = layer.segmentation
            self._layers.put(layer)
        if not self._paired:
            self._last_view = view

    def poll(self) -> list[UserInput]:
        """Nobody can do anything."""
        return []

    def toggle_fullscreen(self) -> bool:
        """There is no screen to fill."""
        return False

    def busy(self) -> bool:
        """Whether pictures or instances have still to be written."""
        return any(writer is not None and writer.busy for writer in (self._recorder, self._layers))

    def close(self) -> None:
        """Finish the files; bounded in time."""
        deadline_s = time.monotonic() + _CLOSE_S
        recorder, layers, view = self._recorder, self._layers, self._last_view
        self._recorder = self._layers = self._last_view = None
        if view is not None and view.frame is not None:
            try:
                write_file(self.folder / "still.png", encode_png(flatten_view(view, view.frame.size_wh)))
            except OSError as error:
                _log.error("%s: no still.png (%s)", self.folder, error.strerror)
        if recorder is not None:
            recorder.close(remaining_s(deadline_s))
            _log.info(
                "%s: %d pictures, %.1f s, %d dropped",
                recorder.path,
                recorder.pictures,
                recorder.duration_s,
                recorder.dropped,
            )
        if layers is not None:
            if not layers.close(remaining_s(deadline_s)):
                _log.error("%s: the last instances were not written in time", self.folder)
            elif layers.dropped:
                _log.warning(
                    "%s: %d sets of masks not written, for lack of time", self.folder, layers.dropped
                )
            if recorder is None:  # no picture ever came
                with contextlib.suppress(OSError):
                    (self.folder / "instances.jsonl").unlink()
                    self.folder.rmdir()

    def _write_layer(self, layer: Layer) -> None:
        """On the worker's thread."""
        if self._failed or self._lines is None:
            return
        frame = layer.segmentation.frame
        try:
            _append(self._lines, describe(layer.segmentation).encode() + b"\n")
            if frame.name:
                still = self.folder / self._still_name(frame.name)
                write_file(still, encode_jpeg(flatten(frame.rgb, layer)))
        except OSError as error:
            self._failed = True
            _log.error("%s: no more instances are written (%s)", self.folder, error.strerror)

    def _still_name(self, name: str) -> str:
        """The photograph's name with `.jpg`; the whole of it before that if there is one like it already."""
        stem = Path(name).stem
        name = f"{stem if stem not in self._stills else name}.jpg"
        self._stills.add(stem)
        return name


def describe(segmentation: Segmentation) -> str:
    """A line of `instances.jsonl`: a picture and its instances, as COCO writes them."""
    frame = segmentation.frame
    return json.dumps(
        {
            "index": frame.index,
            "name": frame.name,
            "captured_ns": frame.captured_ns,
            "width": frame.size_wh[0],
            "height": frame.size_wh[1],
            "instances": coco.instances(segmentation),
        }
    )


def _append(file: FileIO, data: bytes) -> None:
    """Write at the end of a file, all or nothing. Raises `OSError`."""
    start = file.tell()
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        file.truncate(start)
        raise


def _new_folder(parent: Path, now: datetime) -> Path:
    """Make a folder that was not there before."""
    parent.mkdir(parents=True, exist_ok=True)
    stem = f"run-{now:%Y%m%d-%H%M%S}"
    number = 1
    while True:
        folder = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def _video_wh(picture_wh: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, VIDEO_SIDE_PX / max(picture_wh))
    return round(picture_wh[0] * scale), round(picture_wh[1] * scale)
