"""The program as its user meets it: real child processes, exit codes, one-line errors, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from appliance.capture.files import FilesSource
from appliance.capture.scene import Scene
from appliance.config import PROJECT_ROOT
from appliance.errors import SourceTruncated

DEMO_MODEL = PROJECT_ROOT / "models" / "demo.tflite"
SHARED = PROJECT_ROOT.parent / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here")

_NO_SCREEN = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR")


def _start(*arguments: str | Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name not in _NO_SCREEN}
    return subprocess.Popen(
        [sys.executable, "-m", "appliance", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _run(*arguments: str | Path) -> tuple[int, str, str]:
    process = _start(*arguments)
    out, err = process.communicate(timeout=50)
    return process.returncode, out, err


def _config(folder: Path, output: Path | None = None) -> Path:
    path = folder / "config.yaml"
    path.write_text(f"model: {{file: {DEMO_MODEL}}}\noutput: {output or folder / 'out'}\n")
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    scene = Scene(seed=5, size_wh=(640, 360), rate_hz=30)
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.jpg"), scene.render(number * 90)[0][..., ::-1])
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "scene.mp4"
    scene = Scene(seed=5, size_wh=(640, 360), rate_hz=30)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(60):
            rgb = np.ascontiguousarray(scene.render(number)[0])
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def _readable_pictures(video: Path) -> int:
    source, pictures = FilesSource(video), 0
    source.open()
    while True:
        try:
            source.read(1)
        except SourceTruncated:
            return pictures
        pictures += 1


def _not_a_model(folder: Path) -> list[str | Path]:
    (folder / "text.tflite").write_text("this is no model\n" * 100)
    return ["--model", folder / "text.tflite"]


def _truncated_model(folder: Path) -> list[str | Path]:
    (folder / "cut.tflite").write_bytes(DEMO_MODEL.read_bytes()[:200_000])
    return ["--model", folder / "cut.tflite"]


def _no_picture(folder: Path) -> list[str | Path]:
    (folder / "notes.txt").write_text("no picture")
    return ["--source", folder / "notes.txt"]


def _unwritable(folder: Path) -> list[str | Path]:
    (folder / "file").write_text("in the way")
    return ["--config", _config(folder, folder / "file" / "out"), "--display", "files"]


def _wrong_key(folder: Path) -> list[str | Path]:
    (folder / "wrong.yaml").write_text("modle: {}")
    return ["--config", folder / "wrong.yaml"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (lambda folder: ["--model", folder / "none.tflite"], 11, ["none.tflite"]),
        (lambda folder: ["--model", folder], 11, ["there is no model in the folder"]),
        (_not_a_model, 12, ["text.tflite"]),
        (_truncated_model, 12, ["cut.tflite"]),
        (lambda folder: ["--source", folder / "nothing"], 21, ["nothing", "does not exist"]),
        (lambda _: ["--source", "/dev/video97"], 21, ["/dev/video97"]),
        (_no_picture, 22, ["notes.txt"]),
        (lambda folder: ["--source", folder], 22, ["no photographs"]),
        (lambda _: ["--display", "screen"], 31, ["screen"]),
        (_unwritable, 32, ["out"]),
        (lambda _: ["--source", ""], 2, ["--source"]),
        (_wrong_key, 2, ["wrong.yaml", "did you mean model?"]),
    ],
)
def test_what_a_user_can_cause_is_one_line_with_its_own_exit_code(
    arguments: Callable[[Path], list[str | Path]], exit_code: int, words: list[str], tmp_path: Path
) -> None:
    given = ["run", "--config", _config(tmp_path), "--display", "null", *arguments(tmp_path)]
    code, out, err = _run(*given)
    assert code == exit_code, err
    assert out == ""
    assert "Traceback" not in err
    error_lines = [line for line in err.splitlines() if line.startswith("appliance: ")]
    assert len(error_lines) == 1
    for word in words:
        assert word in error_lines[0]


@needs_shared
@pytest.mark.parametrize(
    ("name", "exit_code"),
    [("yolov8n-seg_256_edgetpu.tflite", 14), ("yolo11n-seg_one-scale_full_integer_640.tflite", 13)],
)
def test_models_that_cannot_give_masks_are_refused(name: str, exit_code: int, tmp_path: Path) -> None:
    model = SHARED / "models" / name
    code, _, err = _run("run", "--config", _config(tmp_path), "--display", "null", "--model", model)
    assert code == exit_code, err
    assert name in err.splitlines()[-1]
    assert "Traceback" not in err


def test_output_that_nobody_reads_is_no_error_of_ours() -> None:
    process = _start("bench", "pipeline", "--invoke-ms", "50", "--seconds", "1", "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(40) == 128 + signal.SIGPIPE
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    code, _, err = _run("run", "--debug", "--model", tmp_path / "none.tflite", "--display", "null")
    assert code != 0
    assert "Traceback" in err
    assert "ModelMissing" in err


def test_a_video_that_ends_early_is_processed_to_its_last_good_picture(video: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size * 6 // 10])
    code, _, err = _run("run", "--config", _config(tmp_path), "--source", cut, "--display", "files")
    assert code == 23, err
    assert "cut.mp4" in err.splitlines()[-1]
    (lines,) = (tmp_path / "out").glob("*/instances.jsonl")
    good = _readable_pictures(cut)
    assert 10 < good < 60
    assert len(lines.read_text().splitlines()) == good


def test_every_photograph_gets_its_own_masks(photographs: Path, tmp_path: Path) -> None:
    code, _, err = _run("run", "--config", _config(tmp_path), "--source", photographs, "--display", "files")
    assert code == 0, err
    (folder,) = (tmp_path / "out").iterdir()
    lines = [json.loads(line) for line in (folder / "instances.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["0.jpg", "1.jpg", "2.jpg"]
    assert all(line["instances"] for line in lines)
    assert {path.name for path in folder.glob("*.jpg")} == {"0.jpg", "1.jpg", "2.jpg"}


def test_results_are_the_same_each_time(photographs: Path, tmp_path: Path) -> None:
    config, found = _config(tmp_path), []
    for _ in range(2):
        code, _, err = _run("run", "--config", config, "--source", photographs, "--display", "files")
        assert code == 0, err
    for path in sorted((tmp_path / "out").glob("*/instances.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found.append([line["instances"] for line in lines])
    assert len(found) == 2
    assert found[0] == found[1]


def test_an_interrupt_while_starting_leaves_no_traceback(tmp_path: Path) -> None:
    process = _start("run", "--config", _config(tmp_path), "--source", "scene", "--display", "null")
    assert process.stderr is not None
    assert any("raw head" in line for line in process.stderr)  # the scene is being made now
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode in (0, 130)
    assert "Traceback" not in err


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_within_two_seconds(how: signal.Signals, tmp_path: Path) -> None:
    process = _start("run", "--config", _config(tmp_path), "--source", "scene", "--display", "files")
    recording = tmp_path / "out"
    deadline = time.monotonic() + 30
    while not list(recording.glob("*/instances.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    asked = time.monotonic()
    process.send_signal(how)
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - asked < 2, err
    assert process.returncode == 0, err
    (path,) = recording.glob("*/video.mkv")
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 10


def test_the_demo_without_a_screen_says_so_and_leaves_a_video_and_a_still(tmp_path: Path) -> None:
    code, _, err = _run("run", "--config", _config(tmp_path), "--display", "files", "--seconds", "4")
    assert code == 0, err
    (folder,) = (tmp_path / "out").iterdir()
    assert (folder / "still.png").stat().st_size > 10_000
    assert (folder / "video.mkv").stat().st_size > 10_000
