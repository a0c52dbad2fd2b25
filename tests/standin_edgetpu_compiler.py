"""Plays edgetpu_compiler: its options, its words, its exit codes, and the ways in which it fails.

Put on PATH as `edgetpu_compiler`. What it does is in the JSON file that `$STAND_IN_COMPILER` names: `play`,
one of the functions below, and what that needs. Needs Python alone, to start fast.

The options are those of https://coral.ai/docs/edgetpu/compiler/. The words are those that users have quoted;
the number beside each is that of an issue of github.com/google-coral/edgetpu. That it ends with 1 when it
fails is from #512; that it has a child process, from its own words.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

VERSION_16 = "Edge TPU Compiler version 16.0.384591198"
VERSION_15 = "Edge TPU Compiler version 15.0.340273435"
VERSION_2 = "Edge TPU Compiler version 2.1.302470888"
TIMER = "Started a compilation timeout timer of 180 seconds."
DONE = "Compilation child process completed within timeout period."
FAILED = "Compilation failed! "  # with the space
LARGE = "Compilation failed: Compilation failed due to large activation tensors in model."
NOT_ALL = (
    "Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the "
    "model will instead run on the CPU, which is slower. If possible, consider updating your model to use "
    "only operations supported by the Edge TPU. For details, visit g.co/coral/model-reqs."
)
MAPPED = "Mapped to Edge TPU"


def say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def summary(model: Path, compiled: Path, table: list[tuple[str, int, str]], megabytes: float) -> None:
    """What all versions from 2.0 on say of a success, as in #60 (2.1), #173 (14.1), #671 (16)."""
    total = sum(count for _, count, _ in table)
    mapped = sum(count for _, count, status in table if status == MAPPED)
    say(
        "Model compiled successfully in 2270 ms.",
        "",
        f"Input model: {model}",
        "Input size: 5.21MiB",
        f"Output model: {compiled}",
        "Output size: 6.51MiB",
        f"On-chip memory used for caching model parameters: {min(megabytes, 6.75):.2f}MiB",
        "On-chip memory remaining for caching model parameters: 1.25KiB",
        f"Off-chip memory used for streaming uncached model parameters: {max(0, megabytes - 6.75):.2f}"
        f"{'MiB' if megabytes > 6.75 else 'B'}",
        f"Number of Edge TPU subgraphs: {1 if mapped else 0}",
        f"Total number of operations: {total}",
        f"Operation log: {compiled.with_suffix('.log')}",
        "",
    )
    if mapped < total:
        say(
            NOT_ALL,
            f"Number of operations that will run on Edge TPU: {mapped}",
            f"Number of operations that will run on CPU: {total - mapped}",
            "",
        )
    say("Operator                       Count      Status", "")
    say(*(f"{name:<30} {count:<10} {status}" for name, count, status in table))


def succeed(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """Compile; `search` first fails as often, each time with 30 ops less (#608, #653)."""
    table = [(name, count, status) for name, count, status in how["table"]]
    compiled = Path(options.out_dir) / f"{options.model.stem}_edgetpu.tflite"
    search = how.get("search", 0)
    say(how.get("version", VERSION_16))
    if options.search_delegate:
        say(f"Searching for valid delegate with step {options.delegate_search_step}")
    for number in range(search):
        say(f"Try to compile segment with {257 - 30 * number} ops")
        if number:
            say("Intermediate tensors: model/tf.nn.convolution_1,model/tf.math.multiply_9;b")
        say(TIMER, "ERROR: Restored original execution plan after delegate application failure.")
        say(LARGE, DONE, FAILED)
    say(f"Try to compile segment with {257 - 30 * search} ops", TIMER, "")
    summary(options.model, compiled, table, how.get("megabytes", 1.5))
    if how.get("result"):
        shutil.copy(how["result"], compiled)
        compiled.with_suffix(".log").write_text(f"{VERSION_16}\nInput: {options.model}\n")
    say(DONE, "Compilation succeeded! ")
    return 0


def succeed_as_2(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """Version 2.1, without a timer and without the words of a child process (#60)."""
    say(VERSION_2, "")
    compiled = Path(options.out_dir) / f"{options.model.stem}_edgetpu.tflite"
    summary(options.model, compiled, [tuple(row) for row in how["table"]], 8.08)
    shutil.copy(how["result"], compiled)
    return 0


def succeed_up_to(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """Compile models called NAME-SIZE up to a size, and find the activations of larger ones too large."""
    if int(options.model.stem.rpartition("-")[2]) <= how["size"]:
        return succeed(options, how)
    return large_activations(options, how)


def large_activations(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """#512, #608, #653."""
    say(VERSION_16, "Searching for valid delegate with step 30", "Try to compile segment with 257 ops", TIMER)
    say("ERROR: Restored original execution plan after delegate application failure.", LARGE, DONE, FAILED)
    return 1


def own_timeout(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """#686."""
    say(VERSION_16, TIMER, "Compilation timeout. This is usually caused by large activations.", FAILED)
    return 1


def internal_error(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """#157, #211, #358: the same in versions 2 to 15."""
    say(VERSION_15, "", "Internal compiler error. Aborting! ")
    return 1


def not_quantised(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """#168, #313."""
    say(VERSION_15, f"Invalid model: {options.model}", "Model not quantized")
    return 1


def dynamic(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """#829."""
    say(VERSION_16, TIMER)
    say(
        "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has "
        "dynamic-sized tensors.",
        "Compilation failed: Model failed in Tflite interpreter. Please ensure model can be loaded/run in "
        "Tflite interpreter.",
        DONE,
        FAILED,
    )
    return 1


def unknown_version(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """#358."""
    say(VERSION_2, "Didn't find op for builtin opcode 'TRANSPOSE_CONV' version '3'", "")
    return 1


def uncaught(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """#728."""
    say(VERSION_16, TIMER)
    say("libc++abi: terminating with uncaught exception of type std::out_of_range: vector", DONE, FAILED)
    return 1


def no_reason(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """#800, #903."""
    say(VERSION_16, TIMER, DONE, FAILED)
    return 1


def failing_with_0(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """The same, with an exit code that does not tell."""
    no_reason(options, how)
    return 0


def out_of_memory(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """What the kernel does to a process that takes all memory."""
    say(VERSION_16, TIMER)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def garbage(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """Words of no known version."""
    sys.stdout.buffer.write(b"\xff\xfe\x00\nModel compiled successfully in ms\nOperator Count\nADD x y\n")
    sys.stdout.flush()
    return 0


def hang(options: argparse.Namespace, how: dict[str, Any]) -> int:
    """Its child hangs, and it waits for it (#270)."""
    say(VERSION_15, "")
    child = subprocess.Popen(["sleep", "600"])
    Path(how["processes"]).write_text(f"{os.getpid()} {child.pid}")
    child.wait()
    time.sleep(600)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="edgetpu_compiler", allow_abbrev=False)
    parser.add_argument("-v", "--version", action="store_true")
    parser.add_argument("-o", "--out_dir", default=".")
    parser.add_argument("-m", "--min_runtime_version", type=int)
    parser.add_argument("-n", "--num_segments", type=int)
    parser.add_argument("-i", "--intermediate_tensors")
    parser.add_argument("-s", "--show_operations", action="store_true")
    parser.add_argument("-d", "--search_delegate", action="store_true")
    parser.add_argument("-k", "--delegate_search_step", type=int, default=1)
    parser.add_argument("-t", "--timeout_sec", type=int, default=180)
    parser.add_argument("-a", "--enable_multiple_subgraphs", action="store_true")
    parser.add_argument("model", type=Path, nargs="?")
    options = parser.parse_args()
    if options.version:
        say(VERSION_16)
        return 0
    if options.model is None or not options.model.is_file():
        say(VERSION_16, f"Invalid model: {options.model}", "Model could not be parsed")
        return 1
    how = json.loads(Path(os.environ["STAND_IN_COMPILER"]).read_text())
    Path(os.environ["STAND_IN_COMPILER"]).with_suffix(".seen").write_text(json.dumps(sys.argv[1:]))
    return int(globals()[how["play"]](options, how))


if __name__ == "__main__":
    sys.exit(main())
