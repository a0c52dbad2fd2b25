"""The stand-in for libedgetpu is as the real one to the real runtime, each time in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from edge_tpu import DEVICE_GONE, Script

from appliance.capture.scene import Scene
from appliance.config import PROJECT_ROOT
from appliance.data import Frame, RawOutputs
from appliance.errors import NeedsEdgeTpu
from appliance.invoke import runtime
from appliance.invoke.tflite import TfliteBackend
from appliance.postprocess import postprocess
from appliance.preprocess import Preprocessor

PLAIN = PROJECT_ROOT / "models" / "demo.tflite"
SHARED = PROJECT_ROOT.parent / "shared"

CHILD = """
import sys, time
from pathlib import Path
from ai_edge_litert.interpreter import Interpreter, load_delegate

library, model, outputs = sys.argv[1:]
start_s = time.monotonic()
delegate = load_delegate(library, {"device": "usb:1"})
print(time.monotonic() - start_s, flush=True)
interpreter = Interpreter(model, experimental_delegates=[delegate])
interpreter.allocate_tensors()
for line in sys.stdin:
    start_s = time.monotonic()
    interpreter.invoke()
    print(time.monotonic() - start_s, flush=True)
    given = [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]
    Path(outputs).write_bytes(b"".join(tensor.tobytes() for tensor in given))
"""


@dataclass(frozen=True)
class Child:
    """A program that loads the library, and invokes the model once for each line that it reads."""

    parts: Path
    folder: Path

    def start(self, script: Script, model: Path | None = None) -> subprocess.Popen[str]:
        """It prints how many seconds the load and then each invoke took."""
        script.write(self.folder / "script")
        model = model or self.parts / "models" / "demo_edgetpu.tflite"
        library, outputs = self.parts / "libedgetpu.so.1", self.folder / "outputs"
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(library), str(model), str(outputs)],
            env={**os.environ, "STANDIN_EDGETPU": str(self.folder / "script")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: Script, invokes: int, model: Path | None = None) -> Ended:
        with self.start(script, model) as process:
            stdout, stderr = process.communicate("invoke\n" * invokes, timeout=50)
            return Ended(process.returncode, [float(line) for line in stdout.split()], stderr)

    @property
    def outputs(self) -> bytes:
        return (self.folder / "outputs").read_bytes()


@dataclass(frozen=True)
class Ended:
    """How it ended, and what it had printed."""

    code: int
    seconds: list[float]
    stderr: str


@pytest.fixture
def child(parts: Path, tmp_path: Path) -> Child:
    return Child(parts, tmp_path)


@pytest.fixture
def recorded(parts: Path) -> bytes:
    return (parts / "outputs").read_bytes()


def test_it_gives_the_recorded_outputs_and_notes_the_device(
    child: Child, parts: Path, tmp_path: Path, recorded: bytes
) -> None:
    script = Script(outputs=parts / "outputs", loads=tmp_path / "loads")
    for loads in (1, 2):
        ended = child.run(script, 2)
        assert (ended.code, len(ended.seconds)) == (0, 3), ended.stderr
        assert child.outputs == recorded
        assert (tmp_path / "loads").read_text() == "usb:1\n" * loads


def test_the_recorded_outputs_hold_objects(recorded: bytes) -> None:
    spec = runtime.read_spec(PLAIN, PLAIN.read_bytes())
    frame = Frame(0, 0, Scene(seed=1, size_wh=(640, 360), rate_hz=30).render(30)[0])
    tensors, start = [], 0
    for output in spec.outputs:
        count = int(np.prod(output.shape))
        tensors.append(np.frombuffer(recorded, output.dtype, count, start).reshape(output.shape))
        start += tensors[-1].nbytes
    assert start == len(recorded)
    letterbox = Preprocessor(spec)(frame).letterbox
    assert len(postprocess(RawOutputs(frame, letterbox, spec, tuple(tensors)), 0.25, 0.7)) >= 3


def test_load_and_invokes_take_their_time(child: Child) -> None:
    load_s, *invokes_s = child.run(Script(load_ms=300, invoke_ms=50, slower_ms=100), 3).seconds
    assert load_s >= 0.3
    for invoke_s, least_s in zip(invokes_s, (0.05, 0.15, 0.25), strict=True):
        assert invoke_s >= least_s


def test_it_aborts_at_an_invoke(child: Child) -> None:
    ended = child.run(Script(abort_at=3, log=DEVICE_GONE), 5)
    assert (ended.code, len(ended.seconds)) == (-signal.SIGABRT, 1 + 2)
    assert ended.stderr.splitlines()[-1] == DEVICE_GONE


def test_it_aborts_when_the_device_is_gone_and_works_when_it_is_back(child: Child, tmp_path: Path) -> None:
    script = Script(present=tmp_path / "present", loads=tmp_path / "loads")
    assert child.run(script, 1).seconds == []
    (tmp_path / "present").touch()
    with child.start(script) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        print("invoke", file=process.stdin, flush=True)
        assert len([process.stdout.readline() for _ in range(2)]) == 2
        (tmp_path / "present").unlink()
        process.communicate("invoke\n", timeout=50)
    assert process.returncode == -signal.SIGABRT
    (tmp_path / "present").touch()
    assert child.run(script, 1).code == 0
    assert (tmp_path / "loads").read_text() == "usb:1\n" * 2


def test_it_hangs_and_only_sigkill_helps(child: Child) -> None:
    with child.start(Script(hang_at=1)) as process:
        try:
            assert process.stdin is not None
            print("invoke", file=process.stdin, flush=True)
            deadline_s = time.monotonic() + 40
            while not ignores(process.pid, signal.SIGTERM):
                assert process.poll() is None
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL


def ignores(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigIgn:")[2].split()[0], 16) >> (number - 1) & 1)


def test_no_device(child: Child, parts: Path) -> None:
    ended = child.run(Script(no_device=1), 1)
    assert (ended.code, ended.seconds) == (1, [])
    # libedgetpu gives no reason, so the line that should have it is empty.
    assert ended.stderr.endswith(f"ValueError: Failed to load delegate from {parts / 'libedgetpu.so.1'}\n\n")


def test_a_crash_at_load(child: Child) -> None:
    ended = child.run(Script(crash_at_load=1), 1)
    assert (ended.code, ended.seconds) == (-signal.SIGSEGV, [])


def test_a_model_for_a_newer_runtime(child: Child) -> None:
    ended = child.run(Script(needs_runtime=1), 1)
    assert (ended.code, len(ended.seconds)) == (1, 1)
    assert "allocate_tensors" in ended.stderr
    assert (
        "RuntimeError: Failed to prepare for TPU. Failed precondition: Package requires runtime version "
        "(14), which is newer than this runtime version (13)." in ended.stderr
    )


def test_a_wrong_script_is_not_taken_for_a_wrong_device(child: Child, tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"short")
    for script in (Script(outputs=tmp_path / "short"), Script(outputs=tmp_path / "missing")):
        ended = child.run(script, 1)
        assert ended.code == 99
        assert "standin_edgetpu.c: the recorded outputs" in ended.stderr


def test_a_compiled_model_takes_and_gives_the_same_and_says_so_without_a_device(parts: Path) -> None:
    path = parts / "models" / "demo_edgetpu.tflite"
    content = path.read_bytes()
    spec, plain = runtime.read_spec(path, content), runtime.read_spec(PLAIN, PLAIN.read_bytes())
    assert (spec.input, spec.outputs) == (plain.input, plain.outputs)
    assert runtime.is_compiled(content)
    assert not runtime.is_compiled(PLAIN.read_bytes())
    assert len(content) < 10_000
    with pytest.raises(NeedsEdgeTpu, match="demo_edgetpu"):
        TfliteBackend(path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared, with trained networks")
def test_a_model_of_the_real_compiler(child: Child) -> None:
    model = SHARED / "models" / "yolov8n-seg_256_edgetpu.tflite"
    spec = runtime.read_spec(model, model.read_bytes())
    assert spec.input.shape == (1, 256, 256, 3)
    assert sorted(output.shape for output in spec.outputs) == [(1, 64, 64, 32), (1, 116, 1344)]
    ended = child.run(Script(), 1, model)
    assert ended.code == 0, ended.stderr
    assert len(child.outputs) == sum(int(np.prod(output.shape)) for output in spec.outputs)
