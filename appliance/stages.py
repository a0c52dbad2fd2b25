"""What each thread of the flow does, as plain loops between slots. `app` wires them, `pipeline` runs them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from appliance import overlay
from appliance.capture import EndOfSource, Source
from appliance.data import Frame, Layer, ModelInput, RawOutputs, Segmentation, Selection
from appliance.errors import ApplianceError, SourceError, SourceLost, SourceTruncated
from appliance.identity import Identities
from appliance.invoke import Backend
from appliance.metrics import Metrics
from appliance.notices import Notices
from appliance.pipeline import Closed, Slot
from appliance.pool import ShapePool
from appliance.postprocess import postprocess
from appliance.preprocess import Preprocessor

_log = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.25
BACK_OFF_S = (0.5, 10.0)
"""First and longest pause between attempts to open a source again; each is twice the one before."""


@contextmanager
def _timed(metrics: Metrics, stage: str) -> Iterator[None]:
    start_ns = time.monotonic_ns()
    yield
    metrics.took(stage, (time.monotonic_ns() - start_ns) / 1e6)


def capture(
    source: Source,
    hand_over: Callable[[Frame], object],
    stopping: threading.Event,
    metrics: Metrics,
    notices: Notices,
    hold_at_end: bool,
    fail_at_end: Callable[[ApplianceError], None],
) -> None:
    """Read a source to its end; when it goes away, say so and open it again, with growing pauses.

    A source that cannot be opened at all is a fatal error, since it never worked. With `hold_at_end` the
    last picture stays, for a person to look at, until the pipeline is stopped. A source that ended too early
    is an error only once everything that it gave has been shown.
    """
    source.open()
    _log.info("source %s, %s", source.name, "live" if source.live else "every picture")
    given = 0
    try:
        # A wait of no time, unlike `is_set`, is progress: for a source's silence it has limits of its own.
        while not stopping.wait(0):
            try:
                frame = source.read(READ_TIMEOUT_S)
            except SourceLost as lost:
                _reopen(source, lost, stopping, notices)
                continue
            except SourceTruncated as early:
                fail_at_end(early)
                if hold_at_end:
                    notices.report(source.name, str(early))
                break
            except EndOfSource:
                if hold_at_end and given > 1:
                    notices.report(source.name, "that was the last picture", logging.INFO)
                break
            if frame is not None:
                given += 1
                notices.clear(source.name)
                metrics.captured()
                hand_over(frame)
        if hold_at_end:
            stopping.wait()
    finally:
        source.close()


def _reopen(source: Source, lost: ApplianceError, stopping: threading.Event, notices: Notices) -> None:
    pause_s, longest_s = BACK_OFF_S
    while True:
        source.close()
        notices.report(source.name, f"{lost}, trying again in {pause_s:g} s")
        if stopping.wait(pause_s):
            return
        try:
            source.open()
        except (SourceLost, SourceError) as again:
            lost = again  # it worked once, so even a missing device may come back
        else:
            return
        pause_s = min(2 * pause_s, longest_s)


def preprocess(
    preprocessor: Preprocessor, frames: Slot[Frame], inputs: Slot[ModelInput], metrics: Metrics
) -> None:
    """Make every picture ready, so that the newest is there the moment the device is free."""
    while True:
        frame = frames.take()
        with _timed(metrics, "preprocess"):
            ready = preprocessor(frame)
        inputs.put(ready)


def invoke(
    backend: Backend,
    inputs: Slot[ModelInput],
    outputs: Slot[RawOutputs],
    stopping: threading.Event,
    metrics: Metrics,
    notices: Notices,
) -> None:
    """Keep the device busy. While there is none, the picture goes on without new masks.

    A result is handed on only after the device has been given the next input: what it sets off takes the
    processor, and the device would wait.
    """
    backend.open(notices, metrics.runs_on, stopping)
    try:
        started: ModelInput | None = None
        while True:
            if started is None:
                started = inputs.take()
                backend.start(started.tensor)
            made, ready = backend.finish(), started
            started = _next(inputs)
            if started is not None:
                backend.start(started.tensor)
            if made is not None:
                metrics.took("invoke", made.took_ms)
                outputs.put(RawOutputs(ready.frame, ready.letterbox, made.spec, made.tensors))
    finally:
        backend.close()


def _next(inputs: Slot[ModelInput]) -> ModelInput | None:
    try:
        return inputs.poll()
    except Closed:
        return None  # `take` will say so again


def interpret(
    outputs: Slot[RawOutputs],
    segmentations: Slot[Segmentation],
    metrics: Metrics,
    confidence: float,
    nms_iou: float,
) -> None:
    """Turn outputs into instances, and give these the ids of the objects that they were before."""
    identities = Identities()
    while True:
        raw = outputs.take()
        with _timed(metrics, "postprocess"):
            found = identities.assign(postprocess(raw, confidence, nms_iou))
        segmentations.put(found)


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """How masks are to be drawn; the viewer sets it."""

    selection: Selection | None = None
    only_selection: bool = False
    frozen: Segmentation | None = None
    """Draw this one, whatever comes."""


class LooksBoard:
    """Where the viewer leaves its `Looks`, and where the overlay stage finds the newest. Thread-safe."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._looks = Looks()

    @property
    def looks(self) -> Looks:
        """The newest looks."""
        return self._looks

    def set(self, looks: Looks) -> None:
        """Replace the looks, a single assignment, and wake the overlay stage."""
        self._looks = looks
        self._on_change()


def draw(
    segmentations: Slot[Segmentation],
    layers: Slot[Layer],
    board: LooksBoard,
    layer_wh: Callable[[tuple[int, int]], tuple[int, int]],
    metrics: Metrics,
) -> None:
    """Draw the newest masks, again when they are to look otherwise."""
    newest: Segmentation | None = None
    pool = ShapePool(np.uint8)
    while True:
        taken = segmentations.take_or_poke()
        newest = newest if taken is None else taken
        looks = board.looks
        shown = newest if looks.frozen is None else looks.frozen
        if shown is None:
            continue
        with _timed(metrics, "overlay"):
            width, height = layer_wh(shown.frame.size_wh)
            rgba = pool.lease((height, width, 4))
            layer = overlay.draw(shown, looks.selection, (width, height), looks.only_selection, rgba)
        layers.put(layer)
