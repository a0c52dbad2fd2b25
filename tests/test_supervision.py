"""The thread that invokes and the one that watches, around a real worker that only sleeps."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.bench.worker import recorded
from appliance.data import Inference, ModelSpec, Tensor
from appliance.errors import EdgeTpuError, NoEdgeTpu
from appliance.invoke.edgetpu import EdgeTpuBackend
from appliance.invoke.jobs import EdgeTpuJob, Failure, SleepingJob, Trouble, Work
from appliance.invoke.process import WorkerFailed
from appliance.invoke.supervisor import Pauses, State, Supervisor
from appliance.notices import Notices
from appliance.synthetic import fastsam_spec

SPEC = fastsam_spec((64, 64))
BAD = EdgeTpuJob("no-model", "/nowhere/libedgetpu.so.1", "usb:0", "usb:0")


class Cpu:
    """A stand-in that gives zeros at once."""

    name = "CPU"

    def __init__(self) -> None:
        self.spec: ModelSpec = SPEC
        self.runs = 0

    def open(self, notices: Notices, say: Callable[[str], None], stopping: threading.Event) -> None:
        pass

    def lease(self) -> Tensor:
        return np.zeros(SPEC.input.shape, SPEC.input.dtype)

    def start(self, tensor: Tensor) -> None:
        pass

    def finish(self) -> Inference | None:
        self.runs += 1
        made = tuple(np.zeros(spec.shape, spec.dtype) for spec in SPEC.outputs)
        return Inference(SPEC, made, 1.0)

    def close(self) -> None:
        pass


@pytest.fixture
def outputs() -> Iterator[Path]:
    zeros = [np.zeros(spec.shape, spec.dtype) for spec in SPEC.outputs]
    with recorded(SPEC, [zeros]) as file:
        yield file


def until(what: Callable[[], bool], seconds: float = 15) -> None:
    deadline_s = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def invoke(backend: EdgeTpuBackend) -> Inference | None:
    backend.start(backend.lease())
    return backend.finish()


def fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_process_that_cannot_be_started_is_a_loss_like_any_other(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, or no memory: it may be better next time."""
    notices = Notices()
    backend = EdgeTpuBackend(
        SPEC,
        lambda: SleepingJob(1, str(outputs)),
        None,
        must_work=False,
        patient=True,
        pauses=Pauses(0.1, 0.1),
    )
    before, real, refused = fds(), subprocess.Popen, []

    def refuse(*arguments: object, **options: object) -> object:
        refused.append(fds())
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    backend.open(notices, lambda words: None, threading.Event())
    try:
        until(lambda: len(refused) >= 3)
        until(lambda: any("Cannot allocate memory" in words for words in notices.current()))
        assert refused[-1] == refused[0]  # each attempt gives its descriptors back
        monkeypatch.setattr(subprocess, "Popen", real)
        assert invoke(backend) is not None
        assert notices.current() == ()
    finally:
        backend.close()
    assert fds() < before


def test_what_goes_wrong_in_the_watching_thread_does_not_stay_there() -> None:
    def find() -> Work:
        raise ZeroDivisionError

    backend = EdgeTpuBackend(SPEC, find, None, must_work=False, patient=True)
    backend.open(Notices(), lambda words: None, threading.Event())
    try:
        with pytest.raises(ZeroDivisionError):
            invoke(backend)
    finally:
        backend.close()


def test_a_device_that_always_takes_longer_than_a_second_is_used(outputs: Path) -> None:
    cpu = Cpu()
    backend = EdgeTpuBackend(
        SPEC, lambda: SleepingJob(1300, str(outputs)), cpu, must_work=False, patient=False
    )
    backend.open(Notices(), lambda words: None, threading.Event())
    try:
        until(lambda: backend.state is State.READY)
        until(lambda: (made := invoke(backend)) is not None and made.took_ms > 1000)
        assert cpu.runs > 0
    finally:
        backend.close()


def test_it_is_said_that_the_cpu_stands_in_for_a_device_that_takes_long(outputs: Path) -> None:
    said: list[str] = []
    backend = EdgeTpuBackend(
        SPEC, lambda: SleepingJob(1600, str(outputs)), Cpu(), must_work=False, patient=False
    )
    backend.open(Notices(), said.append, threading.Event())
    try:
        until(lambda: backend.state is State.READY)
        invoke(backend)
        assert said[-1] == backend.name == "CPU; Edge TPU busy"
    finally:
        backend.close()


class _Scripted:
    """In the place of a worker process: fails to load, or loads and is lost, as it is told."""

    def __init__(self, failures: list[Failure | None]) -> None:
        self.failures = failures

    def wait_ready(self, timeout_s: float, cancelled: Callable[[], bool]) -> bool:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise WorkerFailed(failure)
        return True

    def pump_log(self, timeout_s: float) -> bool:
        return False

    def running_s(self) -> float:
        return 0.0

    def last_words(self) -> str:
        return "it was stuck"

    def close(self) -> None:
        pass


def supervise(
    notices: Notices, find: Callable[[], Work], failures: list[Failure | None], pause_s: float = 0.05
) -> Supervisor:
    worker = _Scripted(failures)
    supervisor = Supervisor(find, lambda work: worker, False, "the CPU", Pauses(pause_s, pause_s))  # type: ignore[arg-type,return-value]
    supervisor.start(notices, lambda: None)
    return supervisor


@pytest.mark.parametrize("trouble", [Trouble.CRASHED, Trouble.MODEL])
def test_a_device_that_fails_at_its_second_start_is_tried_again_and_no_library_is_blamed(
    trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    notices = Notices()
    supervisor = supervise(notices, lambda: BAD, [None, Failure(trouble, "pulled out"), None])
    try:
        until(lambda: sum("usb:0: ready" in line or "lost" in line for line in caplog.messages) >= 3)
    finally:
        supervisor.end()
    assert not any("does not get along" in line for line in caplog.messages)
    assert sum("trying again" in line for line in caplog.messages) >= 2


def test_what_is_said_of_a_device_does_not_outlive_it() -> None:
    """It did not answer, and now it is gone: the screen must not say for ever that it does not answer."""
    notices, there = Notices(), threading.Event()
    there.set()

    def find() -> Work:
        if not there.is_set():
            raise NoEdgeTpu("no Edge TPU is plugged in")
        return BAD

    supervisor = supervise(notices, find, [Failure(Trouble.NO_DEVICE, "does not answer")] * 100)
    try:
        until(lambda: any("does not answer" in words for words in notices.current()))
        there.clear()
        until(lambda: not any("does not answer" in words for words in notices.current()), 3)
    finally:
        supervisor.end()


def test_a_signal_without_a_name_is_told_too(outputs: Path) -> None:
    notices = Notices()
    backend = EdgeTpuBackend(
        SPEC, lambda: SleepingJob(1, str(outputs)), None, must_work=False, patient=True, pauses=Pauses(5, 5)
    )
    backend.open(notices, lambda words: None, threading.Event())
    try:
        until(lambda: backend.worker_pid is not None)
        os.kill(backend.worker_pid or 0, signal.SIGRTMIN + 3)
        until(lambda: any(f"signal {signal.SIGRTMIN + 3}" in words for words in notices.current()))
    finally:
        backend.close()


def test_a_worker_leaves_the_terminals_keys_and_a_stop_of_the_service_to_its_parent(outputs: Path) -> None:
    backend = EdgeTpuBackend(SPEC, lambda: SleepingJob(1, str(outputs)), None, must_work=True, patient=True)
    backend.open(Notices(), lambda words: None, threading.Event())
    try:
        until(lambda: backend.worker_pid is not None)
        pid = backend.worker_pid or 0
        assert os.getpgid(pid) != os.getpgid(0)
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.3)
        assert backend.worker_pid == pid
        assert invoke(backend) is not None
    finally:
        backend.close()


@pytest.mark.parametrize("parent", [os.getpid(), 1])
def test_a_worker_ends_at_once_where_its_parent_is_another_one(parent: int) -> None:
    """As it is when that has died before; a parent whose number is 1, in a container, is as good as any."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        worker = subprocess.Popen(
            [sys.executable, "-m", "appliance.invoke.worker", str(theirs.fileno()), str(parent)],
            pass_fds=[theirs.fileno()],
        )
        try:
            if parent == os.getpid():
                with pytest.raises(subprocess.TimeoutExpired):
                    worker.wait(3)
            else:
                assert worker.wait(30) == 1
        finally:
            worker.kill()
            worker.wait()


def test_a_failure_is_the_error_only_of_what_must_work() -> None:
    def find() -> Work:
        raise EdgeTpuError("missing")

    backend = EdgeTpuBackend(SPEC, find, None, must_work=True, patient=True)
    backend.open(Notices(), lambda words: None, threading.Event())
    try:
        with pytest.raises(EdgeTpuError, match="missing"):
            invoke(backend)
    finally:
        backend.close()
