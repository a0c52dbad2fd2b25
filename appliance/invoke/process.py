"""The parent's side of one worker process."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from appliance.data import Inference, ModelSpec, Tensor
from appliance.invoke.blocks import Block, Blocks, nbytes, tensors
from appliance.invoke.jobs import (
    DONE,
    PACKET_NBYTES,
    READY,
    RUN,
    TOOK,
    Failure,
    Job,
    Trouble,
    Work,
)

_log = logging.getLogger(__name__)

_SLICE_S = 0.05
"""How long a wait goes on without a look around."""
_REAP_S = 2.0
_OUTPUT_BLOCKS = 6
"""Outputs that are being written, handed on and interpreted, and some that are held for a while."""
_LAST_LINES = 5


class WorkerFailed(Exception):
    """The worker cannot go on; None if it said nothing, so that how it ended is to be found out."""

    def __init__(self, failure: Failure | None) -> None:
        super().__init__("" if failure is None else failure.words)
        self.failure = failure


class WorkerProcess:
    """One child process with a model in it.

    `start` and `finish` are for one thread; everything else for another, which must outlive the object: the
    kernel kills the child when the thread that started it ends.
    """

    def __init__(self, work: Work, spec: ModelSpec, inputs: Blocks, input_blocks: int) -> None:
        """Start the process; `inputs` are the blocks that inputs are written to. Raises `OSError`."""
        self._spec = spec
        self._inputs = inputs
        self._outputs = Blocks(nbytes(spec.outputs), _OUTPUT_BLOCKS)
        self._killed = threading.Event()
        self._using = threading.Lock()
        self._running: tuple[Tensor, Block] | None = None
        """What the worker reads and writes now: held, so that nobody else gets it."""
        self._since_s = 0.0
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._partial = b""
        try:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            self._outputs.close()
            raise
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "appliance.invoke.worker", str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # the terminal's Ctrl-C is for the parent, which ends this one
            )
        except OSError:
            self._socket.close()
            self._outputs.close()
            raise
        finally:
            theirs.close()
        assert self._process.stderr is not None
        self._stderr = self._process.stderr
        os.set_blocking(self._stderr.fileno(), False)
        job = Job(work, spec.input, spec.outputs, input_blocks, _OUTPUT_BLOCKS)
        try:
            socket.send_fds(self._socket, [job.packet()], [inputs.fd, self._outputs.fd])
        except OSError:
            _log.debug("the worker was gone at once", exc_info=True)  # as `wait_ready` will find

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_ready(self, timeout_s: float, cancelled: Callable[[], bool]) -> bool:
        """Wait until the model is loaded; False if cancelled. Raises `WorkerFailed`."""
        deadline_s = time.monotonic() + timeout_s
        while not cancelled():
            self.pump_log(0.0)
            packet = self._receive(_SLICE_S)
            if packet == READY:
                return True
            if packet == b"":
                raise WorkerFailed(None)
            if packet is not None:
                raise WorkerFailed(Failure.of(packet))
            if time.monotonic() >= deadline_s:
                words = f"it did not load within {timeout_s:g} s"
                raise WorkerFailed(Failure(Trouble.LOST, words))
        return False

    def start(self, tensor: Tensor) -> bool:
        """Give the worker an input; False while it is at an earlier one. Raises `WorkerFailed`."""
        with self._using:
            if self._running is not None:
                return False
            index = self._inputs.index_of(tensor)
            if index is None:  # not made in a leased block
                index = 0
                tensors(self._inputs[0], [self._spec.input])[0][...] = tensor
            leased = self._outputs.lease()
            block = self._outputs[0] if leased is None else leased
            try:
                self._socket.send(RUN.pack(index, self._outputs.index_of(block) or 0))
            except OSError as error:
                raise WorkerFailed(None) from error
            self._running, self._since_s = (tensor, block), time.monotonic()
            return True

    def late_ms(self) -> float | None:
        """What a run took that nobody waits for any more; None if it goes on, or if there is none.

        Raises `WorkerFailed`.
        """
        with self._using:
            if self._running is None:
                return None
            took_ms = self._answer(0.0)
            if took_ms is not None:
                self._running = None
            return took_ms

    def finish(self, patience_s: float, cancelled: Callable[[], bool]) -> Inference | None:
        """Wait for what was started; None if it takes longer than `patience_s`, or was cancelled.

        After None the worker is still at it. The outputs are the caller's to keep. Raises `WorkerFailed`.
        """
        deadline_s = time.monotonic() + patience_s
        with self._using:
            if self._running is None:
                raise RuntimeError("nothing was started")
            while (took_ms := self._answer(min(_SLICE_S, max(0.0, deadline_s - time.monotonic())))) is None:
                if cancelled() or time.monotonic() >= deadline_s:
                    return None
            (_, block), self._running = self._running, None
            made = tensors(block, self._spec.outputs)
            if self._outputs.index_of(block) == 0:  # the spare one, which will be written to again
                made = tuple(output.copy() for output in made)
            return Inference(self._spec, made, took_ms)

    def running_s(self) -> float:
        """How long the run that is not answered yet has taken; 0 if there is none."""
        if self._running is None or select.select([self._socket], [], [], 0)[0]:
            return 0.0
        return time.monotonic() - self._since_s

    def _answer(self, timeout_s: float) -> float | None:
        """The milliseconds that a run took; None if it has not ended in time."""
        packet = self._receive(timeout_s)
        if packet is None:
            return None
        if packet.startswith(DONE):
            took_ms: float = TOOK.unpack(packet.removeprefix(DONE))[0]
            return took_ms
        raise WorkerFailed(Failure.of(packet) if packet else None)

    def _receive(self, timeout_s: float) -> bytes | None:
        """What the worker says; None if it says nothing, empty if it is gone."""
        if self._killed.is_set():
            return b""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            return None
        try:
            return self._socket.recv(PACKET_NBYTES)
        except ConnectionError:
            return b""

    def pump_log(self, timeout_s: float) -> bool:
        """Log what the worker has written within the time; False when it has ended, or closed its side."""
        if not select.select([self._stderr], [], [], timeout_s)[0]:
            return True
        return self._log_what_is_there()

    def _log_what_is_there(self) -> bool:
        content = self._stderr.read()
        if not content:
            return content is None
        *lines, self._partial = (self._partial + content).split(b"\n")
        for line in lines:
            words = line.decode(errors="replace").strip()
            if words:
                self._last_lines.append(words)
                _log.info("edge tpu worker %d: %s", self.pid, words)
        return True

    def last_words(self) -> str:
        """Kill the process if it is still there, reap it, and say in words how it ended."""
        self._killed.set()
        alive = self._process.poll() is None
        # A process that closed its side is about to end by itself, and how is worth knowing.
        if alive and not self._ends_within(0.0 if self.running_s() else 0.2):
            self._process.kill()
            ended = self._ends_within(_REAP_S)
            how = "it was stuck" if ended else "it is stuck in the kernel and cannot be ended"
        else:
            how = _how_it_ended(self._process.returncode)
        self._log_what_is_there()
        said = self._last_lines[-1] if self._last_lines else ""
        return f"{how}: {said}" if said else how

    def _ends_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """End the process and give everything back; safe to call more than once."""
        self._killed.set()
        if self._process.poll() is None:
            self._process.kill()
            if not self._ends_within(_REAP_S):
                _log.error("the edge tpu worker %d does not end: it is stuck in the kernel", self.pid)
        with self._using:
            self._socket.close()
            self._stderr.close()
            self._outputs.close()


def _how_it_ended(returncode: int) -> str:
    if returncode < 0:
        try:
            return f"its process died of {signal.Signals(-returncode).name}"
        except ValueError:  # a real-time signal: most have no name
            return f"its process died of signal {-returncode}"
    return f"its process ended with code {returncode}"
