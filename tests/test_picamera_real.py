"""The real picamera2, on libcamera's virtual camera, in a Debian that has libcamera."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from pathlib import Path

import pytest
from roots import Recipe, Root, open_root

from appliance.config import PROJECT_ROOT

HERE = Path(__file__).with_name("virtual_camera")
CAMERA = Recipe(
    "camera",
    "trixie",
    packages=(
        *("python3", "python3-venv", "python3-dev", "gcc", "libc6-dev"),
        *("python3-libcamera", "libcamera-ipa", "libcap-dev"),
    ),
    files=(
        ("/opt/shim.c", (HERE / "libcamera_shim.c").read_text()),
        ("/usr/share/libcamera/pipeline/virtual/virtual.yaml", (HERE / "virtual.yaml").read_text()),
        ("/opt/requirements.txt", (PROJECT_ROOT / "requirements" / "appliance.txt").read_text()),
    ),
    setup="""
        gcc -shared -fPIC -O1 -Wall -Werror -o /opt/shim.so /opt/shim.c
        python3 -m venv --system-site-packages /opt/venv
        /opt/venv/bin/pip install -q --no-cache-dir picamera2==0.3.38 -r /opt/requirements.txt
    """,
)
pytestmark = pytest.mark.timeout(1500)  # most of it to make the root, once on a machine


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "signals").mkdir()
    return open_root(CAMERA, tmp_path / "root")


@pytest.fixture
def signals(tmp_path: Path) -> Path:
    return tmp_path / "signals"


def on_camera(root: Root, *arguments: str) -> list[str]:
    """The command that runs the appliance, or a script, in the root. Only scripts may write the signals."""
    environment = {"PYTHONPATH": "/project", "LD_PRELOAD": "/opt/shim.so", "CAMERA_SIGNALS": "/signals"}
    if arguments[0].endswith(".py"):
        environment["CAMERA_SIGNALS"] = "/tmp"
    program = "/project/tests/virtual_camera/on_virtual_camera.py"
    return root.command(
        *("/opt/venv/bin/python", program, *arguments),
        binds={PROJECT_ROOT: "/project", root.folder.with_name("signals"): "/signals"},
        environment=environment,
        network=False,
    )


def test_the_source(root: Root) -> None:
    done = subprocess.run(
        on_camera(root, "/project/tests/virtual_camera/use_source.py"),
        capture_output=True,
        check=False,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["cameras"] == [["camera:0 (virtual)"], "back"]
    assert said["size_wh"] == [1280, 720]
    assert said["contiguous"]
    assert not said["small"]  # this camera has one stream
    assert said["moved"]
    bars = [[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    near = [
        bar
        for bar in bars
        if min(max(abs(a - b) for a, b in zip(bar, c, strict=True)) for c in said["colours"]) < 16
    ]
    assert len(near) >= 7, said["colours"]
    assert said["rate_hz"] > 10
    assert said["age_ms"] < 200
    first, last = said["indices"]
    assert (first, last) == (0, 150)
    assert "has given no picture" in said["stalled"]
    assert said["close_s"] < 1.2
    assert said["after the stall"] == 151
    assert "camera has given no picture" in said["unplugged"]
    assert said["still unplugged"] == "there is no camera; there is none at all: is the cable in place?"
    assert said["plugged in"] > 151
    assert "another program may be using it" in said["used twice"]
    rate, width, gain, exposure, focus, number = said["refused"]
    assert rate == [
        "SourceError",
        "camera.rate_hz: 60 is not possible with this camera; possible is 30 at this size",
    ]
    assert "camera.width: 4608" in width[1]
    assert "at most 1280" in width[1]
    assert "camera.gain: 2.0" in gain[1]
    assert "camera.exposure_ms: 5.0" in exposure[1]
    assert focus[1] == "camera.focus: fixed is not possible with this camera; possible is auto"
    assert number == ["SourceMissing", "there is no camera:3; there is camera:0 (virtual)"]
    assert not any("\n" in words for _, words in said["refused"])


def test_the_appliance(root: Root, signals: Path) -> None:
    """All of it, from the camera to a video, with a camera that stalls and comes back."""
    root.write("/etc/appliance.yaml", "source: camera\noutput: /var/lib/appliance\ndisplay: {kind: files}\n")
    running = subprocess.Popen(
        on_camera(root, "run", "--config", "/etc/appliance.yaml", "--seconds", "13"),
        stderr=subprocess.PIPE,
        text=True,
    )
    killer = threading.Timer(60, running.kill)
    killer.start()
    log = []
    try:
        assert running.stderr is not None
        for line in running.stderr:
            log.append(line)
            if "camera gives pictures of 1280 x 720" in line and len(log) < 20:
                threading.Timer(3, (signals / "stalled").touch).start()
            if "camera has given no picture for 3 s" in line:
                (signals / "stalled").unlink()
                log.append("here\n")
        assert running.wait() == 0, "".join(log)
    finally:
        killer.cancel()
        running.kill()
    text = "".join(log)
    assert "is its cable in place?, trying again in 0.5 s" in text
    assert "camera gives pictures" in text.partition("here")[2]
    (folder,) = root.file("/var/lib/appliance").glob("run-*")
    lines = [json.loads(line) for line in (folder / "instances.jsonl").read_text().splitlines()]
    assert lines[0]["width"] == 1280
    assert all(a["index"] < b["index"] for a, b in itertools.pairwise(lines))
    gaps_s = [(b["captured_ns"] - a["captured_ns"]) / 1e9 for a, b in itertools.pairwise(lines)]
    stall = gaps_s.index(max(gaps_s))
    assert gaps_s[stall] > 3
    assert stall > 0
    assert len(lines) - stall > 4, "it went on"
    assert (folder / "video.mkv").stat().st_size > 10_000
