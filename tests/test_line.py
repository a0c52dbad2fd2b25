"""What is said while a line is rewritten on a terminal: commands run on a real one."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from file_server import serving

from appliance.config import PROJECT_ROOT
from appliance.errors import EvaluateError
from appliance.evaluate.evaluation import open_models, sizes_of
from appliance.evaluate.pictures import find_pictures
from appliance.evaluate.reference import Reference, ReferenceRun, save_reference

PHOTOGRAPHS = PROJECT_ROOT / "appliance" / "capture" / "photos"
DEMO = PROJECT_ROOT / "models" / "demo.tflite"


def on_terminal(*command: str | Path, **variables: str) -> tuple[int, list[str]]:
    """Exit code and the lines that stand on the terminal at the end."""
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=its_end,
        env={**os.environ, **variables},
    )
    os.close(its_end)
    said = b""
    try:
        while piece := os.read(terminal, 4096):
            said += piece
    except OSError:  # EIO: the other end is closed
        pass
    finally:
        os.close(terminal)
    code = process.wait(20)
    lines = said.decode().replace("\r\n", "\n").split("\n")
    return code, [re.sub(r"\x1b\[K", "", one.rpartition("\r")[2]) for one in lines]


def test_an_error_of_a_conversion_has_a_line_of_its_own(tmp_path: Path) -> None:
    checkpoint = tmp_path / "net.pt"
    with zipfile.ZipFile(checkpoint, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    (tmp_path / "taken").touch()
    command = ["-m", "appliance", "convert", "--checkpoint", checkpoint, "--calibration", PHOTOGRAPHS]
    code, lines = on_terminal(
        *command, "--out", tmp_path / "out", PATH="/nowhere", XDG_CACHE_HOME=str(tmp_path / "taken")
    )
    assert code != 0
    begun, error, last = lines
    assert begun == "prepare: the two environments"
    assert error.startswith("appliance: prepare: ")
    assert last == ""


def test_an_error_after_a_download_has_a_line_of_its_own(tmp_path: Path) -> None:
    with serving(b"<html>" * 1000) as server:
        server.says_length = False
        code, lines = on_terminal(
            "-m", "appliance", "models", "add", server.url, "--models", tmp_path / "models"
        )
    assert code != 0
    begun, error, last = lines
    assert begun == "download: 0.0 MB"
    assert error.startswith("appliance: http://127.")
    assert last == ""


def test_an_error_of_an_evaluation_has_a_line_of_its_own(
    tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    pictures = find_pictures(PHOTOGRAPHS, 2)
    run = ReferenceRun({picture.name: [] for picture in pictures}, [1.0] * len(pictures))
    reference = Reference(
        "none", "0" * 64, "here", 1, dict.fromkeys(sizes_of(open_models([DEMO], "cpu")), run)
    )
    save_reference(reference, tmp_path / "masks.json", pictures)
    command = ["-m", "appliance", "evaluate", "--reference-masks", tmp_path / "masks.json"]
    command += ["--models", DEMO, "--images", PHOTOGRAPHS, "--limit", "2"]
    code, lines = on_terminal(*command, XDG_CACHE_HOME=str(small_disk("4k")))
    assert code == EvaluateError.exit_code
    *_, begun, error, last = lines  # before them the interpreter says something
    # As many as fit, of files that take a page at least: none, or one where a page is larger than 4 KiB.
    assert re.fullmatch(r"demo\.tflite: \[[#.]{30}\] [01]/2", begun)
    assert re.fullmatch(r"appliance: .*No space left on device.*", error)
    assert last == ""


LOGGING = """
import logging, sys
from appliance.commands.line import bar, line
logging.basicConfig(level="INFO", format="%(message)s")
with line() as progress:
    progress.rewrite(f"step: {bar(0.5)}")
    logging.info("by the way")
    progress.rewrite(f"step: {bar(0.75)}")
    progress.rewrite("step: done", last=True)
    logging.info("and so on")
    if progress.on_terminal:
        sys.exit(0)
"""


def test_a_message_of_the_log_has_a_line_of_its_own() -> None:
    code, lines = on_terminal("-c", LOGGING)
    assert code == 0
    half = f"step: [{'#' * 15}{'.' * 15}]"
    assert lines == [half, "by the way", "step: done", "and so on", ""]


@pytest.mark.parametrize("said", ["", "step"])
def test_a_line_that_was_begun_is_ended_once(said: str) -> None:
    code = (
        f"from appliance.commands.line import line\nwith line() as one:\n if {said!r}: one.rewrite({said!r})"
    )
    assert on_terminal("-c", code) == (0, [said, ""] if said else [""])
