"""Keeps a worker process alive: starts it, watches it, and starts another one when it is gone.

starting -> ready <-> busy; from all of them -> lost -> waiting -> starting.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from appliance.errors import (
    ApplianceError,
    EdgeTpuCrash,
    EdgeTpuError,
    ModelError,
    NoEdgeTpu,
    NoEdgeTpuLibrary,
    RuntimeTooOld,
)
from appliance.invoke.jobs import EdgeTpuJob, Failure, Trouble, Work
from appliance.invoke.patience import Patience
from appliance.invoke.process import WorkerFailed, WorkerProcess
from appliance.notices import Notices

_log = logging.getLogger(__name__)

LOAD_S = 30.0
"""How long a worker may take until its model is loaded."""
LOOK_S = 1.0
"""Pause between looks for a device that is not there."""
STEADY_S = 60.0
"""A device that worked for so long was fine: what comes then is a new trouble, with a short pause."""
OWNER = "Edge TPU"
_TICK_S = 0.1
_END_S = 3.0

_ERRORS: dict[Trouble, type[ApplianceError]] = {
    Trouble.NO_DEVICE: NoEdgeTpu,
    Trouble.NO_LIBRARY: NoEdgeTpuLibrary,
    Trouble.CRASHED: EdgeTpuCrash,
    Trouble.OLD_RUNTIME: RuntimeTooOld,
    Trouble.MODEL: ModelError,
    Trouble.LOST: EdgeTpuError,
}


class State(enum.Enum):
    """What the device is doing."""

    STARTING = "starting"
    """A process was started and loads the model."""
    READY = "ready"
    """It waits for an input."""
    BUSY = "busy"
    """It runs the model."""
    LOST = "lost"
    """It died or got stuck, and is being killed and reaped."""
    WAITING = "waiting"
    """For a pause to pass, or for a device to be plugged in."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Between attempts: the first, and the longest; each is twice the one before."""

    first_s: float = 1.0
    longest_s: float = 60.0


class Supervisor:
    """Owns the worker processes of one device, one after the other, and the thread that watches them."""

    def __init__(
        self,
        find: Callable[[], Work],
        launch: Callable[[Work], WorkerProcess],
        must_work: bool,
        stands_in: str,
        pauses: Pauses,
    ) -> None:
        """Starts nothing yet.

        `find` gives the work for a device, or raises `EdgeTpuError` with what is missing. With `must_work`
        any trouble before the device has worked once becomes `error`. `stands_in` says what runs the model
        meanwhile; empty if nothing does.
        """
        self._find = find
        self._launch = launch
        self._must_work = must_work
        self._stands_in = stands_in
        self._consolation = f"{stands_in} stands in" if stands_in else "there are no masks until then"
        self._pauses = pauses
        self.patience = Patience()
        self.state = State.STARTING
        self.device = ""
        self.worker: WorkerProcess | None = None
        """The one that has loaded the model and is not lost."""
        self.error: BaseException | None = None
        """Why there is no use in going on."""
        self._changed = threading.Condition()
        self._failure: Failure | None = None
        self._worked = False
        self._absence = ""
        self._told = False
        """Something was said that has to be taken back, or replaced."""
        self._ended = False
        self._notices = Notices()
        self._on_state: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._carry_on, name="edge tpu", daemon=True)

    def start(self, notices: Notices, on_state: Callable[[], None]) -> None:
        """Begin. `on_state` is called, in any thread, when the state has changed."""
        self._notices, self._on_state = notices, on_state
        self._thread.start()

    def end(self) -> None:
        """End the worker and the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_END_S)

    @property
    def ended(self) -> bool:
        """Whether `end` was called."""
        return self._ended

    @property
    def can_be_waited_for(self) -> bool:
        """Whether a worker is there, or about to be."""
        with self._changed:
            return self.worker is not None or self.state is State.STARTING

    def working(self, worker: WorkerProcess, state: State) -> None:
        """Say that the worker is busy, or ready again."""
        with self._changed:
            if worker is not self.worker or self.state is state:
                return
            self.state = state
        self._on_state()

    def lose(self, worker: WorkerProcess, failure: Failure | None) -> None:
        """Say that the worker cannot go on; None if how it ended is to be found out."""
        with self._changed:
            if worker is not self.worker:
                return
            self.worker, self._failure = None, failure
            self.state = State.LOST
            self._changed.notify_all()
        self._on_state()

    # From here on: the supervising thread.

    def _set(self, state: State) -> None:
        with self._changed:
            self.state = state
            self._changed.notify_all()
        self._on_state()

    def _carry_on(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - carried to `finish`, which raises it
            self.error = error
            with self._changed:
                self.worker = None
            self._set(State.WAITING)

    def _run(self) -> None:
        pause_s = self._pauses.first_s
        while not self._ended:
            try:
                work = self._find()
            except EdgeTpuError as missing:
                self._absent(missing)
                continue
            self.device = work.device if isinstance(work, EdgeTpuJob) else ""
            start_s = time.monotonic()
            failure = self._serve(work)
            if failure is None:
                return
            if time.monotonic() - start_s > STEADY_S:
                pause_s = self._pauses.first_s
            self._fail(failure, pause_s)
            pause_s = min(2 * pause_s, self._pauses.longest_s)

    def _absent(self, missing: EdgeTpuError) -> None:
        """No device, or no library: it is looked for again and again, which costs next to nothing."""
        if self._must_work and not self._worked:
            self.error = missing
        # To have no device and to need none is no trouble: the log says so once.
        if self._worked or self._told or not self._stands_in or not isinstance(missing, NoEdgeTpu):
            self._report(f"{missing}; {self._consolation}")
        elif str(missing) != self._absence:
            _log.info("%s: %s; %s", OWNER, str(missing), self._consolation)
        self._absence = str(missing)
        self._set(State.WAITING)
        self._pause(LOOK_S)

    def _serve(self, work: Work) -> Failure | None:
        """Start a worker and watch it until it fails; None if it was ended on purpose."""
        self._set(State.STARTING)
        _log.info("%s %s: starting", OWNER, self.device)
        start_s = time.monotonic()
        try:
            worker = self._launch(work)
        except OSError as error:  # too many processes or open files, no memory: it may be better next time
            return Failure(Trouble.LOST, f"its process cannot be started: {error.strerror}")
        try:
            if not worker.wait_ready(LOAD_S, lambda: self._ended):
                return None
            with self._changed:
                self.worker, self._failure, self._worked = worker, None, True
                self.state = State.READY
                self._changed.notify_all()
            self._on_state()
            _log.info("%s %s: ready after %.1f s", OWNER, self.device, time.monotonic() - start_s)
            self._notices.clear(OWNER)
            self._told = False
            return self._watch(worker)
        except WorkerFailed as failed:
            return failed.failure or Failure(Trouble.CRASHED, worker.last_words())
        finally:
            worker.close()

    def _watch(self, worker: WorkerProcess) -> Failure | None:
        while self.worker is worker:
            if self._ended:
                self.worker = None
                return None
            if not worker.pump_log(_TICK_S) or worker.running_s() > self.patience.lost_after_s:
                self.lose(worker, None)
        return self._failure or Failure(Trouble.LOST, worker.last_words())

    def _fail(self, failure: Failure, pause_s: float) -> None:
        """Say what happened, and wait before the next attempt, or for ever if that is of no use."""
        if self._must_work and not self._worked:
            self.error = _ERRORS[failure.trouble](_in_words(failure))
        if self._worked and failure.trouble is Trouble.CRASHED:  # library and runtime did get along
            failure = Failure(Trouble.LOST, failure.words)
        # What worked once may work again: a runtime's words about a device in trouble may mislead.
        final = failure.trouble.final and not self._worked
        again = "" if final else f"trying again in {pause_s:g} s, "
        if failure.trouble is Trouble.LOST:  # what a person needs comes first: a screen is only so wide
            words = f"lost; {again}{self._consolation} ({failure.words})"
        else:
            words = f"{_in_words(failure)}; {again}{self._consolation}"
        self._report(words)
        self._set(State.WAITING)
        self._pause(float("inf") if final else pause_s)

    def _report(self, words: str) -> None:
        self._told = True
        self._notices.report(OWNER, words)

    def _pause(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        with self._changed:
            while not self._ended and (left_s := until_s - time.monotonic()) > 0:
                self._changed.wait(min(left_s, LOOK_S))


def _in_words(failure: Failure) -> str:
    """One line: what happened, and what to do where something can be done."""
    match failure.trouble:
        case Trouble.CRASHED:
            return (
                f"libedgetpu does not get along with the TFLite runtime ({failure.words}): "
                "install a libedgetpu1-std of 2024 or later"
            )
        case Trouble.OLD_RUNTIME:
            return "the model is compiled for a newer libedgetpu: install the newest libedgetpu1-std"
        case _:
            return failure.words
