"""The whole conversion at the real size: FastSAM-s's architecture, with random weights."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.config import PROJECT_ROOT
from appliance.convert.edgetpu import graph
from appliance.convert.environments import EXPORT, ensure

PHOTOGRAPHS = PROJECT_ROOT / "appliance" / "capture" / "photos"
"""Five; a hundred take two minutes more, and need as much memory."""


@pytest.mark.long
@pytest.mark.usefixtures("converter")
@pytest.mark.timeout(900)
def test_fastsam_s_goes_through_in_bounds(tmp_path: Path) -> None:
    checkpoint = tmp_path / "FastSAM-s.pt"
    maker = PROJECT_ROOT / "appliance" / "bench" / "random_fastsam.py"
    arguments = ("--scale", "s", "--photographs", PHOTOGRAPHS, "--checkpoint", checkpoint)
    subprocess.run([ensure(EXPORT), "-I", maker, *arguments], check=True, timeout=120)

    # The environments are not to be installed again; what is kept of the steps is.
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "segmentation-appliance"
    (tmp_path / "cache" / cache.name).mkdir(parents=True)
    (tmp_path / "cache" / cache.name / "envs").symlink_to(cache / "envs")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "appliance", "convert", "--checkpoint", checkpoint]
    command += ["--calibration", PHOTOGRAPHS, "--out", out]
    started = time.monotonic()
    process = subprocess.Popen(command, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    _, status, usage = os.wait4(process.pid, 0)  # of it, and of the largest of its children
    process.returncode = os.waitstatus_to_exitcode(status)
    took_s = time.monotonic() - started
    assert process.returncode == 0
    assert took_s < 300
    assert usage.ru_maxrss < 4 * 2**20, "KiB"

    model = out / "FastSAM-s-512.tflite"
    assert model.stat().st_size <= 12.3e6
    report = graph.check(model)
    assert report.all_mapped
    assert report.cpu == 0
    described = json.loads(model.with_suffix(".json").read_text())
    assert described["expected_op_map"] == {"edge_tpu": report.edge_tpu, "cpu": 0}
    assert described["classes"] == ["object"]
    sys.stdout.write(
        f"{took_s:.0f} s, {usage.ru_maxrss / 2**20:.2f} GiB, {model.stat().st_size / 1e6:.2f} MB\n"
    )
