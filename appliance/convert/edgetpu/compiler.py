"""Google's edgetpu_compiler: run where it is installed (x86-64 only), explained where it is not.

A model of which less than `ENOUGH` of the ops would be mapped is refused: what is left to the CPU costs more
than the Edge TPU saves.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance import durable
from appliance.convert.edgetpu import graph
from appliance.convert.edgetpu.log import LARGE_ACTIVATIONS, CompilerLog, causes, parse
from appliance.convert.processes import NotStarted, run
from appliance.errors import CompilerFailed, ConvertError, NotAModel, NotForEdgeTpu, TooLittleMapped

PROGRAM: Final = "edgetpu_compiler"
SUFFIX: Final = "_edgetpu"
"""What it adds to a model's name."""
FLAGS: Final = (
    *("--show_operations", "--search_delegate"),
    # Of what cannot be compiled as a whole, 30 ops fewer are tried again and again, each for 180 s at most.
    *("--delegate_search_step", "30", "--timeout_sec", "180"),
)
"""See https://coral.ai/docs/edgetpu/compiler/."""
ENOUGH: Final = 0.95
TIMEOUT_S: Final = 3600.0
"""A model of 257 ops is tried 9 times at most, which takes 27 minutes; this only ends what hangs."""
_MOST_CAUSES: Final = 4

_INSTRUCTIONS: Final = """\
#!/bin/sh
# Compiles {name} for the Edge TPU. Run it in the folder of the model, on a Debian or Ubuntu of x86-64
# (the compiler exists for no other machine).
set -eu
if ! command -v {program} >/dev/null; then
  sudo apt-get update && sudo apt-get install -y curl gnupg
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg |
    sudo gpg --dearmor --yes -o /usr/share/keyrings/coral-edgetpu.gpg
  echo "deb [signed-by=/usr/share/keyrings/coral-edgetpu.gpg] https://packages.cloud.google.com/apt \\
coral-edgetpu-stable main" | sudo tee /etc/apt/sources.list.d/coral-edgetpu.list
  sudo apt-get update && sudo apt-get install -y edgetpu-compiler
fi
{command}
# All but a few ops should be "Mapped to Edge TPU". Put {compiled} beside {name} on the Pi.
"""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A model that the compiler made."""

    path: Path
    compiler: str
    """Its version."""
    edge_tpu: int
    """How many of the model's ops run on the Edge TPU."""
    cpu: int
    on_chip_bytes: int | None
    """Weights that stay in the Edge TPU, if the compiler said so."""
    streamed_bytes: int | None
    """Weights that are sent again at each invoke."""

    @property
    def op_map(self) -> dict[str, int]:
        """For the sidecar."""
        return {"edge_tpu": self.edge_tpu, "cpu": self.cpu}


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """There is no compiler here: how to do it on another machine."""

    script: Path
    """Holds the commands, for `sh`."""
    commands: str


def installed() -> bool:
    """Whether there is a compiler on PATH."""
    return shutil.which(PROGRAM) is not None


def compile_model(
    model: Path, out: Path, timeout_s: float = TIMEOUT_S, tick: Callable[[], None] = lambda: None
) -> Compiled | Elsewhere:
    """Compile `model` to `out/NAME_edgetpu.tflite`; what the compiler said goes to `out/NAME_edgetpu.log`.

    Where no compiler is on PATH, the commands for another machine are written to `out/NAME.compile.sh`.
    `tick` is called a few times a second. An earlier result stays if this one fails.
    Raises `CompilerFailed` if the compiler refuses, crashes, is not done in time, or gives nothing that is
    compiled; `TooLittleMapped` if more than 1 in 20 ops would stay on the CPU; `ConvertError` if `out` cannot
    be written.
    """
    program = shutil.which(PROGRAM)
    try:
        return _explain(model, out) if program is None else _compile(program, model, out, timeout_s, tick)
    except OSError as error:
        raise ConvertError(f"{out} cannot be written: {error.strerror}") from error


def _compile(program: str, model: Path, out: Path, timeout_s: float, tick: Callable[[], None]) -> Compiled:
    name = f"{model.stem}{SUFFIX}"
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{name}-") as folder:
        made = Path(folder) / f"{name}.tflite"
        output = Path(folder) / "output"
        command = [program, *FLAGS, "--out_dir", folder, str(model.resolve())]
        try:
            with output.open("wb") as sink:
                code = run(command, Path(folder), sink, timeout_s, tick)
        except NotStarted as error:
            raise CompilerFailed(str(error)) from error
        log_file = (out / f"{name}.log").resolve()
        output.replace(log_file)
        log = parse(log_file.read_text(errors="replace"))
        if code is None:
            raise CompilerFailed(
                f"{PROGRAM} was not done with {model} after {timeout_s:.0f} s: try a smaller --size"
            )
        edge_tpu, cpu = _judge(log, code, model, log_file)
        if not made.is_file() or not _is_compiled(made):
            raise CompilerFailed(f"{PROGRAM} said that it compiled {model}, but did not; see {log_file}")
        path = out / made.name
        made.replace(path)
    durable.sync_folder(out)
    return Compiled(path, log.version or "?", edge_tpu, cpu, log.on_chip_bytes, log.streamed_bytes)


def _judge(log: CompilerLog, code: int, model: Path, log_file: Path) -> tuple[int, int]:
    """Ops on the Edge TPU and on the CPU. Raises `CompilerFailed`, `TooLittleMapped`."""
    if code != 0 or not log.succeeded:
        raise CompilerFailed(f"{PROGRAM} did not compile {model}: {_why(log, code)}; see {log_file}")
    if log.edge_tpu is None or log.cpu is None:
        raise CompilerFailed(
            f"{PROGRAM} {log.version} does not say how many ops of {model} it mapped; see {log_file}"
        )
    total = log.edge_tpu + log.cpu
    if log.edge_tpu < ENOUGH * total or not total:
        found = [f"{status.count} {status.name}: {status.words}" for status in causes(log)]
        if log.failure is not None:
            found.insert(0, log.failure)
        raise TooLittleMapped(
            f"{PROGRAM} would map {log.edge_tpu} of the {total} ops of {model}, and {ENOUGH:.0%} are wanted: "
            f"{'; '.join(found[:_MOST_CAUSES]) or 'it does not say why'}; see {log_file}"
        )
    return log.edge_tpu, log.cpu


def _why(log: CompilerLog, code: int) -> str:
    if code < 0:
        return f"it was ended by {_signal_name(-code)}"
    if log.failure is None:
        return f"it does not say why (exit code {code})"
    smaller = LARGE_ACTIVATIONS.search(log.failure) is not None
    return f"{log.failure.rstrip('.')}{' (try a smaller --size, or --size auto)' if smaller else ''}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _is_compiled(path: Path) -> bool:
    try:
        return graph.check(path).compiled
    except (NotAModel, NotForEdgeTpu):
        return False


def _explain(model: Path, out: Path) -> Elsewhere:
    compiled = f"{model.stem}{SUFFIX}.tflite"
    text = _INSTRUCTIONS.format(
        name=model.name,
        program=PROGRAM,
        command=shlex.join([PROGRAM, *FLAGS, "--out_dir", ".", f"./{model.name}"]),
        compiled=compiled,
    )
    script = out / f"{model.stem}.compile.sh"
    durable.write_file(script, text.encode())
    return Elsewhere(script, text)
