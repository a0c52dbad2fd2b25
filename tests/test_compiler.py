"""edgetpu_compiler as a process: its results, its failures, and being without it. A stand-in plays it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from converting import wait_for_the_end, wait_until
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import PROJECT_ROOT
from appliance.convert.edgetpu import ladder, log
from appliance.convert.edgetpu.compiler import Compiled, Elsewhere, compile_model, installed
from appliance.errors import ApplianceError, CompilerFailed, ConvertError, TooLittleMapped

DEMO = PROJECT_ROOT / "models" / "demo.tflite"
STAND_IN = Path(__file__).with_name("standin_edgetpu_compiler.py")
MAPPED = "Mapped to Edge TPU"
ALL_MAPPED = [("ADD", 6, MAPPED), ("CONV_2D", 75, MAPPED), ("RESIZE_NEAREST_NEIGHBOR", 2, MAPPED)]
FEW_MAPPED = [
    ("MAX_POOL_2D", 6, "More than one subgraph is not supported"),
    ("QUANTIZE", 2, "Operation is otherwise supported, but not mapped due to some unspecified limitation"),
    ("QUANTIZE", 1, MAPPED),
    ("CONV_2D", 1, MAPPED),
    ("CONV_2D", 12, "More than one subgraph is not supported"),
    ("RESIZE_NEAREST_NEIGHBOR", 1, "Operation version not supported"),
    ("LEAKY_RELU", 11, "Operation not supported"),
]
"""What compiler 15 was quoted to say of a yolov3-tiny."""


@dataclass(frozen=True)
class StandIn:
    """The compiler on PATH, and a folder with a model."""

    folder: Path
    model: Path
    compiled_demo: Path
    script: Path

    def play(self, what: str, **needs: Any) -> None:
        self.script.write_text(json.dumps({"play": what, **needs}))

    def succeed(self, table: list[tuple[str, int, str]], **needs: Any) -> None:
        self.play("succeed", table=table, **{"result": str(self.compiled_demo), **needs})

    def seen(self) -> list[str]:
        """The arguments of its last run."""
        arguments: list[str] = json.loads(self.script.with_suffix(".seen").read_text())
        return arguments

    def compile(self, **limits: Any) -> Compiled:
        result = compile_model(self.model, self.folder, **limits)
        assert isinstance(result, Compiled)
        return result


@pytest.fixture
def stand_in(tmp_path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "edgetpu_compiler"
    program.write_text(f"#!{sys.executable} -I\n{STAND_IN.read_text()}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    script = tmp_path / "script.json"
    monkeypatch.setenv("STAND_IN_COMPILER", str(script))
    folder = tmp_path / "models"
    folder.mkdir()
    model = folder / "net.tflite"
    shutil.copy(DEMO, model)
    return StandIn(folder, model, parts / "models" / "demo_edgetpu.tflite", script)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_model_is_compiled(stand_in: StandIn) -> None:
    stand_in.succeed(ALL_MAPPED)
    made = stand_in.compile()
    assert made == Compiled(
        stand_in.folder / "net_edgetpu.tflite", "16.0.384591198", 83, 0, round(1.5 * 2**20), 0
    )
    assert made.op_map == {"edge_tpu": 83, "cpu": 0}
    assert made.path.read_bytes() == stand_in.compiled_demo.read_bytes()
    assert names(stand_in.folder) == {"net.tflite", "net_edgetpu.tflite", "net_edgetpu.log"}
    assert "Searching for valid delegate with step 30" in (stand_in.folder / "net_edgetpu.log").read_text()


def test_it_is_asked_for_what_helps(stand_in: StandIn) -> None:
    stand_in.succeed(ALL_MAPPED)
    stand_in.compile()
    flags = "--show_operations --search_delegate --delegate_search_step 30 --timeout_sec 180 --out_dir"
    *before, _, model = stand_in.seen()
    assert " ".join(before) == flags
    assert model == str(stand_in.model)


def test_what_is_streamed_is_read(stand_in: StandIn) -> None:
    stand_in.succeed(ALL_MAPPED, megabytes=11.25)
    made = stand_in.compile()
    assert (made.on_chip_bytes, made.streamed_bytes) == (round(6.75 * 2**20), round(4.5 * 2**20))


def test_an_older_version_is_understood(stand_in: StandIn) -> None:
    stand_in.play("succeed_as_2", table=ALL_MAPPED, result=str(stand_in.compiled_demo))
    made = stand_in.compile()
    assert (made.compiler, made.op_map) == ("2.1.302470888", {"edge_tpu": 83, "cpu": 0})


@pytest.mark.parametrize(
    ("play", "words"),
    [
        ("large_activations", "large activation tensors in model (try a smaller --size, or --size auto)"),
        ("own_timeout", "usually caused by large activations (try a smaller --size, or --size auto)"),
        ("internal_error", "Internal compiler error"),
        ("not_quantised", "Model not quantized"),
        ("dynamic", "Model failed in Tflite interpreter"),
        ("unknown_version", "Didn't find op for builtin opcode 'TRANSPOSE_CONV' version '3'"),
        ("uncaught", "uncaught exception of type std::out_of_range: vector"),
        ("no_reason", "it does not say why (exit code 1)"),
        ("failing_with_0", "it does not say why (exit code 0)"),
        ("out_of_memory", "it was ended by SIGKILL"),
        ("garbage", "does not say how many ops"),
    ],
)
def test_a_failure_is_one_line_with_the_reason(stand_in: StandIn, play: str, words: str) -> None:
    earlier = stand_in.folder / "net_edgetpu.tflite"
    earlier.write_bytes(b"earlier")
    stand_in.play(play)
    with pytest.raises(CompilerFailed) as caught:
        stand_in.compile()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(stand_in.folder / "net_edgetpu.log") in str(caught.value)
    assert earlier.read_bytes() == b"earlier"
    assert names(stand_in.folder) == {"net.tflite", "net_edgetpu.tflite", "net_edgetpu.log"}


def test_success_without_a_file_is_none(stand_in: StandIn) -> None:
    stand_in.succeed(ALL_MAPPED, result=None)
    with pytest.raises(CompilerFailed, match=r"said that it compiled .*, but did not"):
        stand_in.compile()


@pytest.mark.parametrize("content", [DEMO.read_bytes(), b"", b"no model at all"])
def test_a_result_that_is_not_compiled_is_none(stand_in: StandIn, content: bytes, tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.write_bytes(content)
    stand_in.succeed(ALL_MAPPED, result=str(result))
    with pytest.raises(CompilerFailed, match=r"said that it compiled .*, but did not"):
        stand_in.compile()
    assert not (stand_in.folder / "net_edgetpu.tflite").exists()


def test_too_little_is_refused_with_the_causes(stand_in: StandIn) -> None:
    stand_in.succeed(FEW_MAPPED)
    with pytest.raises(TooLittleMapped) as caught:
        stand_in.compile()
    words = str(caught.value)
    assert "would map 2 of the 34 ops" in words
    assert "95% are wanted" in words
    assert "11 LEAKY_RELU: Operation not supported" in words
    assert "1 RESIZE_NEAREST_NEIGHBOR: Operation version not supported" in words
    assert "More than one subgraph" not in words  # these only stand behind the others
    assert not (stand_in.folder / "net_edgetpu.tflite").exists()


@pytest.mark.parametrize(("cpu", "enough"), [(0, True), (5, True), (6, False), (100, False)])
def test_one_op_in_twenty_may_be_left(stand_in: StandIn, cpu: int, enough: bool) -> None:
    table = [("CONV_2D", 100 - cpu, MAPPED), ("GATHER", cpu, "Operation not supported")]
    stand_in.succeed([row for row in table if row[1]])
    if enough:
        assert stand_in.compile().op_map == {"edge_tpu": 100 - cpu, "cpu": cpu}
    else:
        with pytest.raises(TooLittleMapped, match=f"{cpu} GATHER"):
            stand_in.compile()


def test_what_the_search_gave_up_is_said(stand_in: StandIn) -> None:
    stand_in.succeed(FEW_MAPPED, search=3)
    with pytest.raises(TooLittleMapped, match="due to large activation tensors in model"):
        stand_in.compile()


def test_the_last_try_of_a_search_counts(stand_in: StandIn) -> None:
    stand_in.succeed(ALL_MAPPED, search=2)
    assert stand_in.compile().op_map == {"edge_tpu": 83, "cpu": 0}


def test_one_that_hangs_is_ended_with_its_child(stand_in: StandIn, tmp_path: Path) -> None:
    processes = tmp_path / "processes"
    stand_in.play("hang", processes=str(processes))
    with pytest.raises(CompilerFailed, match=r"was not done with .* after 3 s: try a smaller --size"):
        stand_in.compile(timeout_s=3)
    parent, child = map(int, processes.read_text().split())
    wait_for_the_end(parent, child)
    assert names(stand_in.folder) == {"net.tflite", "net_edgetpu.log"}


def test_nothing_runs_on_when_the_user_interrupts(stand_in: StandIn, tmp_path: Path) -> None:
    processes = tmp_path / "processes"
    stand_in.play("hang", processes=str(processes))

    def interrupt() -> None:
        if processes.exists() and processes.read_text().count(" "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stand_in.compile(tick=interrupt)
    parent, child = map(int, processes.read_text().split())
    wait_for_the_end(parent, child)
    assert names(stand_in.folder) == {"net.tflite"}


COMPILE = """
import sys; from pathlib import Path
from appliance.convert.edgetpu.compiler import compile_model
compile_model(Path(sys.argv[1]), Path(sys.argv[1]).parent)
"""


def test_nothing_runs_on_or_stays_when_it_is_to_end(stand_in: StandIn, tmp_path: Path) -> None:
    processes = tmp_path / "processes"
    stand_in.play("hang", processes=str(processes))
    with subprocess.Popen([sys.executable, "-c", COMPILE, stand_in.model]) as process:
        wait_until(lambda: processes.exists() and processes.read_text().count(" ") > 0)
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
    parent, child = map(int, processes.read_text().split())
    wait_for_the_end(parent, child)
    assert names(stand_in.folder) == {"net.tflite"}


def test_a_program_that_cannot_run_is_a_failure(stand_in: StandIn) -> None:
    program = Path(shutil.which("edgetpu_compiler") or "")
    program.write_bytes(b"\x7fELF, but of another machine")
    with pytest.raises(CompilerFailed, match="cannot be run"):
        stand_in.compile()


def test_a_folder_that_cannot_be_written_is_an_error(stand_in: StandIn) -> None:
    stand_in.succeed(ALL_MAPPED)
    with pytest.raises(ConvertError, match="cannot be written"):
        compile_model(stand_in.model, stand_in.folder / "missing")


def test_the_stand_in_takes_no_unknown_option() -> None:
    command = [sys.executable, STAND_IN, "--search-delegate", DEMO]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
    done = subprocess.run([sys.executable, STAND_IN, "-v"], capture_output=True, text=True, check=True)
    assert log.parse(done.stdout).version == "16.0.384591198"


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")


def test_without_a_compiler_the_commands_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_compiler(monkeypatch)
    assert not installed()
    model = tmp_path / "net.tflite"
    shutil.copy(DEMO, model)
    result = compile_model(model, tmp_path)
    assert isinstance(result, Elsewhere)
    assert result.script == tmp_path / "net.compile.sh"
    assert result.script.read_text() == result.commands
    for words in ("apt-get install -y edgetpu-compiler", "coral-edgetpu-stable main", "--search_delegate"):
        assert words in result.commands


@pytest.mark.parametrize("name", ["net", "a net's $HOME", "-o"])
def test_the_commands_compile_it(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path
) -> None:
    """The script is run, on a machine that has the compiler already."""
    path = os.environ["PATH"]
    without_compiler(monkeypatch)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    model = folder / f"{name}.tflite"
    shutil.copy(DEMO, model)
    result = compile_model(model, folder)
    assert isinstance(result, Elsewhere)
    stand_in.succeed(ALL_MAPPED)
    monkeypatch.setenv("PATH", path)
    subprocess.run(["/bin/sh", str(result.script)], cwd=folder, check=True, timeout=30)
    assert (folder / f"{name}_edgetpu.tflite").read_bytes() == stand_in.compiled_demo.read_bytes()


def test_the_largest_size_that_maps_is_taken(stand_in: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    stand_in.play("succeed_up_to", size=416, table=ALL_MAPPED, result=str(stand_in.compiled_demo))
    tried: list[int] = []

    def attempt(size: int) -> Compiled:
        tried.append(size)
        model = stand_in.folder / f"net-{size}.tflite"
        shutil.copy(DEMO, model)
        made = compile_model(model, stand_in.folder)
        assert isinstance(made, Compiled)
        return made

    assert ladder.largest(attempt, ladder.sizes(installed())).path.name == "net-416_edgetpu.tflite"
    assert tried == [512, 448, 416]
    assert "512 x 512 does not map" in caplog.text


def test_the_last_size_that_fails_is_an_error(stand_in: StandIn) -> None:
    stand_in.play("large_activations")
    tried: list[int] = []

    def attempt(size: int) -> Compiled:
        tried.append(size)
        return stand_in.compile()

    with pytest.raises(CompilerFailed):
        ladder.largest(attempt, ladder.sizes(installed()))
    assert tried == [512, 448, 416, 384, 320]


def test_other_errors_end_the_ladder() -> None:
    def attempt(size: int) -> int:
        raise ConvertError(f"no room for {size}")

    with pytest.raises(ConvertError, match="no room for 512"):
        ladder.largest(attempt, ladder.SIZES)


def test_without_a_compiler_auto_means_512(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_compiler(monkeypatch)
    assert ladder.sizes(installed()) == (512,)
    assert "edgetpu_compiler is not installed" in caplog.text


@given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            st.sampled_from(
                [
                    "Model compiled successfully in 3 ms.",
                    "Operator   Count   Status",
                    "ADD  999999999999999999999  Mapped to Edge TPU",
                    "Total number of operations: 7",
                    "On-chip memory used for caching model parameters: 1.2.3MiB",
                    "Compilation failed: ",
                ]
            ),
        )
    )
)
def test_any_log_is_read(lines: list[str]) -> None:
    log.parse("\n".join(lines))


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.exit_code for error in (ApplianceError, ConvertError, CompilerFailed, TooLittleMapped)]
    assert codes == [1, 40, 42, 43]
