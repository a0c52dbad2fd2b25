"""The Edge TPU as a backend that never stops the picture.

The device lives in a worker process that a `Supervisor` keeps alive. While it is away, the CPU runs the model
that the device's was compiled from.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from appliance.data import Inference, ModelSpec, Tensor
from appliance.invoke import Backend
from appliance.invoke.blocks import Blocks, nbytes, tensors
from appliance.invoke.jobs import Work
from appliance.invoke.process import WorkerFailed, WorkerProcess
from appliance.invoke.supervisor import OWNER, Pauses, State, Supervisor
from appliance.notices import Notices
from appliance.pool import Pool

_INPUT_BLOCKS = 4
"""A spare one; and inputs that are run, ready, and being made."""
_PAUSES = Pauses()
_LOOK_S = 0.05
"""Pause between looks at a device that is starting."""


class EdgeTpuBackend:
    """See `appliance.invoke.Backend`."""

    def __init__(
        self,
        spec: ModelSpec,
        find: Callable[[], Work],
        stand_in: Backend | None,
        must_work: bool,
        patient: bool,
        pauses: Pauses = _PAUSES,
    ) -> None:
        """Starts nothing yet; `open` does.

        `find` gives the work for a device, or raises `EdgeTpuError` with what is missing. `stand_in` takes
        the same input. `must_work`: what goes wrong before the device has worked once is an error, not a
        reason to fall back. `patient`: wait for a device that is starting, since every picture counts and
        nobody waits for them.
        """
        self.spec = spec
        self._stand_in = stand_in
        self._patient = patient
        self._inputs = Blocks(nbytes([spec.input]), _INPUT_BLOCKS)
        self._other_inputs = Pool(spec.input.shape, spec.input.dtype)
        self._started: Tensor | None = None
        self._worker: WorkerProcess | None = None
        """The one that was given what was started."""
        self._overdue = False
        """The worker is still at an input that the stand-in took over."""
        self._stopping = threading.Event()
        self._say: Callable[[str], None] = lambda words: None
        stands_in = "" if stand_in is None else "the CPU"
        self._supervisor = Supervisor(find, self._launch, must_work, stands_in, pauses)

    @property
    def name(self) -> str:
        """What runs the model now, in words."""
        state, device = self._supervisor.state, f"{OWNER} {self._supervisor.device}".rstrip()
        if state in (State.READY, State.BUSY) and not self._overdue:
            return device
        other = "nothing" if self._stand_in is None else self._stand_in.name
        return f"{other}; {device} {state.value}"

    @property
    def state(self) -> State:
        """What the device is doing."""
        return self._supervisor.state

    @property
    def worker_pid(self) -> int | None:
        """The process that has the device, once it is ready."""
        worker = self._supervisor.worker
        return None if worker is None else worker.pid

    def open(self, notices: Notices, say: Callable[[str], None], stopping: threading.Event) -> None:
        """Look for the device and start it, in the background."""
        self._stopping, self._say = stopping, say
        if self._stand_in is not None:
            self._stand_in.open(notices, lambda words: None, stopping)
        self._supervisor.start(notices, lambda: say(self.name))

    def lease(self) -> Tensor:
        """Memory for an input: shared with the worker, so that one is made while another one runs."""
        block = self._inputs.lease()
        if block is None:  # somebody holds on to inputs; this one will be copied
            return self._other_inputs.lease()
        return tensors(block, [self.spec.input])[0]

    def start(self, tensor: Tensor) -> None:
        """Give the device an input, if there is one."""
        self._started = tensor
        self._give()

    def finish(self) -> Inference | None:
        """Wait for the device, or run the model on the CPU while that is away; None if neither can."""
        if self._started is None:
            raise RuntimeError("nothing was started")
        tensor, supervisor = self._started, self._supervisor
        while not self._is_over():
            if supervisor.error is not None:
                raise supervisor.error
            made = self._wait()
            if made is not None:
                return made
            if self._patient and (self._stand_in is None or supervisor.can_be_waited_for):
                self._stopping.wait(_LOOK_S)  # however long it takes, this is no standstill
                self._give()
                continue
            if self._stand_in is None:
                return None
            self._stand_in.start(tensor)
            return self._stand_in.finish()
        return None

    def close(self) -> None:
        """End the worker and give everything back."""
        self._supervisor.end()
        if self._stand_in is not None:
            self._stand_in.close()
        self._inputs.close()

    def _launch(self, work: Work) -> WorkerProcess:
        return WorkerProcess(work, self.spec, self._inputs, _INPUT_BLOCKS)

    def _give(self) -> None:
        self._worker = None
        worker = self._supervisor.worker
        if worker is None or self._started is None:
            return
        try:
            late_ms = worker.late_ms()
            if late_ms is not None:  # of no use any more, but it tells how long to wait from now on
                self._supervisor.patience.took(late_ms / 1e3)
            started = worker.start(self._started)
        except WorkerFailed as failed:
            self._overdue = False
            self._supervisor.lose(worker, failed.failure)
            return
        self._set_overdue(not started)
        if started:
            self._worker = worker
            self._supervisor.working(worker, State.BUSY)

    def _wait(self) -> Inference | None:
        """What the device makes of the input that it was given, if it was."""
        worker, self._worker = self._worker, None
        if worker is None:
            return None
        supervisor, patience = self._supervisor, self._supervisor.patience
        # Without a stand-in there is nothing better to do than to wait.
        waits = self._patient or self._stand_in is None
        try:
            made = worker.finish(patience.lost_after_s if waits else patience.stand_in_after_s, self._is_over)
        except WorkerFailed as failed:
            supervisor.lose(worker, failed.failure)
            return None
        self._set_overdue(made is None)
        if made is not None:
            patience.took(made.took_ms / 1e3)
            supervisor.working(worker, State.READY)
        return made

    def _set_overdue(self, overdue: bool) -> None:
        changed, self._overdue = overdue is not self._overdue, overdue
        if changed:
            self._say(self.name)

    def _is_over(self) -> bool:
        return self._supervisor.ended or self._stopping.is_set()
