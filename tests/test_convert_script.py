"""scripts/convert, from nothing."""

import os
import subprocess
from pathlib import Path

from appliance.config import PROJECT_ROOT

SCRIPT = PROJECT_ROOT / "scripts" / "convert"


def test_without_a_python_for_the_converter_it_says_which_ones_work(tmp_path: Path) -> None:
    """At once, and before anything is installed."""
    for name in ("dirname", "env", "bash"):
        found = subprocess.check_output(["which", name], text=True).strip()
        (tmp_path / name).symlink_to(found)
    newer = tmp_path / "python3"
    newer.write_text("#!/bin/sh\necho Python 3.13.5\n")
    newer.chmod(0o755)
    broken = tmp_path / "python3.11"  # as pyenv leaves it for a version that is not active
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    done = subprocess.run(
        [SCRIPT, "fastsam-s"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert "needs Python 3.11 or 3.12, and PATH has Python 3.13.5" in done.stderr
    assert done.stdout == ""


def test_arguments_go_to_the_command() -> None:
    python = PROJECT_ROOT / ".venv" / "bin" / "python"
    assert python.exists()
    done = subprocess.run(
        [SCRIPT, "--checkpoint", "/absent.pt", "--calibration", "/absent"],
        env=os.environ | {"PYTHON": str(python.resolve())},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 40
    assert "there is no file /absent.pt" in done.stderr
