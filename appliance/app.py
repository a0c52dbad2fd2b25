"""The wiring. `build` is the one place that chooses implementations: read it first.

    source --Frame--> preprocess --ModelInput--> invoke --RawOutputs--+
      |                                                               |
      +--newest Frame--> viewer <--Layer-- draw <--Segmentation-- interpret

One thread per stage, the viewer in the main thread, a `Slot` on every arrow. With a live source the newest
item wins on every arrow; otherwise every arrow waits, so that each picture is shown with its own masks.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from appliance import stages
from appliance.capture import Source
from appliance.capture.files import FilesSource
from appliance.capture.picamera import PicameraSource
from appliance.capture.scene_source import SceneSource
from appliance.capture.v4l2 import V4l2Source
from appliance.config import Config
from appliance.data import Frame, Layer, ModelInput, RawOutputs, Segmentation
from appliance.display import Display
from appliance.display.files import FilesDisplay
from appliance.display.null import NullDisplay
from appliance.display.screen import Screen
from appliance.invoke import Backend
from appliance.invoke.choice import choose_backend
from appliance.metrics import Metrics
from appliance.notices import Notices
from appliance.pipeline import Pipeline, Slot
from appliance.preprocess import Preprocessor
from appliance.readout import About
from appliance.saver import Saver
from appliance.systemd import Service
from appliance.viewer import Viewer

INVOKE_STUCK_S = 60.0
"""Longer than the limits that the backends have themselves: a device may take 30 s to load its model."""


class App:
    """A wired pipeline with the viewer that ends it."""

    def __init__(self, pipeline: Pipeline, viewer: Viewer) -> None:
        self._pipeline = pipeline
        self._viewer = viewer

    def run(self, seconds: float | None = None) -> bool:
        """Run to the end of the source, until asked to stop, or for some seconds.

        Returns whether the user wants the machine switched off. Raises the first error of any thread.
        """
        self._pipeline.stop_after(seconds)
        self._pipeline.run(self._viewer.run)
        return self._viewer.switch_off

    def ask_to_stop(self) -> None:
        """Ask for the end; safe in a signal handler."""
        self._pipeline.ask_to_stop()


def make_source(config: Config) -> Source:
    """The source that `config.source` names: by its form, never by trying. Raises `ConfigError`."""
    camera_wh = (config.camera.width, config.camera.height)
    if config.source == "scene":
        return SceneSource(config.scene.seed, camera_wh, config.scene.rate_hz)
    if config.camera_number is not None:
        return PicameraSource(config.camera_number, config.camera)
    if config.source.startswith("/dev/"):
        config.camera.check_for_v4l2()
        return V4l2Source(config.source, camera_wh, config.camera.rate_hz)
    # For a person videos play at their own pace; for a file every picture counts.
    return FilesSource(Path(config.source), live=config.display.kind == "screen")


def make_display(config: Config, live: bool, kiosk: bool) -> Display:
    """The display that `config.display.kind` names."""
    match config.display.kind:
        case "screen":
            return Screen(config.display.fullscreen, kiosk=kiosk)
        case "files":
            return FilesDisplay(Path(config.output), paired=not live)
        case "null":
            return NullDisplay()


def build(config: Config, kiosk: bool = False) -> App:
    """Everything that `appliance run` needs, by the configuration. In a kiosk a screen shows nothing else.

    Raises `ConfigError`, `ModelError`, `EdgeTpuError`.
    """
    source = make_source(config)
    backend = choose_backend(Path(config.model.file), config.backend.kind, config.backend.device, source.live)
    if isinstance(source, PicameraSource):
        source.model_wh = backend.spec.input_wh
    display = make_display(config, source.live, kiosk)
    return wire(config, source, backend, display, Metrics())


def wire(config: Config, source: Source, backend: Backend, display: Display, metrics: Metrics) -> App:
    """Slots between stages, a thread for each stage, the viewer at the end."""
    pipeline, notices, wake = Pipeline(), Notices(), threading.Event()
    live = source.live

    frames: Slot[Frame] = pipeline.slot(live)
    inputs: Slot[ModelInput] = pipeline.slot(live)
    outputs: Slot[RawOutputs] = pipeline.slot(live)
    segmentations: Slot[Segmentation] = pipeline.slot(live)
    layers: Slot[Layer] = pipeline.slot(live, wake.set)
    pictures: Slot[Frame] | None = pipeline.slot(live, wake.set) if live else None
    board = stages.LooksBoard(segmentations.poke)

    def hand_over(frame: Frame) -> None:
        if pictures is not None:
            pictures.put(frame)
        frames.put(frame)

    stop, hold = pipeline.stopping, display.interactive
    model = config.model
    pipeline.stage(
        "capture",
        partial(stages.capture, source, hand_over, stop, metrics, notices, hold, pipeline.fail_at_end),
        (frames, pictures) if pictures is not None else (frames,),
    )
    pipeline.stage(
        "preprocess",
        partial(stages.preprocess, Preprocessor(backend.spec, backend.lease), frames, inputs, metrics),
        (inputs,),
    )
    pipeline.stage(
        "invoke",
        partial(stages.invoke, backend, inputs, outputs, stop, metrics, notices),
        (outputs,),
        may_outlast=True,
        longest_s=INVOKE_STUCK_S,
    )
    pipeline.stage(
        "interpret",
        partial(stages.interpret, outputs, segmentations, metrics, model.confidence, model.nms_iou),
        (segmentations,),
    )
    pipeline.stage(
        "draw", partial(stages.draw, segmentations, layers, board, display.layer_wh, metrics), (layers,)
    )
    about = About(backend.spec.name, backend.spec.demo)
    saver = Saver(Path(config.output), about.model)
    service = Service(pipeline.progress.stuck)
    viewer = Viewer(
        display, pictures, layers, wake, board, pipeline.check, metrics, notices, about, saver, service
    )
    return App(pipeline, viewer)
