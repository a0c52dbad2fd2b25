"""`install.sh` in a Debian for arm64, emulated. Run by scripts/test-arm64 only: it takes long."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from roots import EMULATED_S, Recipe, Root, open_root

from appliance.config import PROJECT_ROOT

BOOKWORM = Recipe(
    "arm64",
    "bookworm",
    packages=("python3", "python3-venv", "curl", "systemd", "systemd-sysv", "udev", "dbus"),
    architecture="arm64",
)
INSTALL_S = 3600
PI_5 = {"QEMU_CPU": "cortex-a76"}
# The emulator crashes in TFLite's fast kernels; with its reference kernels all else can be tried.
_REFERENCE_KERNELS = """
import importlib.machinery, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "ai_edge_litert.interpreter":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            make, kernels = module.Interpreter, module.OpResolverType.BUILTIN_REF
            module.Interpreter = lambda **given: make(experimental_op_resolver_type=kernels, **given)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.timeout(2 * EMULATED_S + 3 * INSTALL_S)
def test_install_twice_run_and_uninstall(tmp_path: Path) -> None:
    root = open_root(BOOKWORM, tmp_path / "root")
    assert _run(root, "uname", "-m") == "aarch64\n"
    root.write("/etc/python3.11/sitecustomize.py", _REFERENCE_KERNELS)
    first = _run(root, "/project/install.sh")
    assert "== Installed" in first
    doctor = root.run("/usr/local/bin/appliance", "doctor", "--json", timeout_s=INSTALL_S, environment=PI_5)
    checks = {check["name"]: check for check in json.loads(doctor.stdout)["checks"]}
    sys.stdout.write(json.dumps(checks, indent=1))
    assert checks["TFLite runtime"]["verdict"] == "ok"
    assert checks["NumPy"]["words"].startswith("1.26")
    assert checks["pygame and SDL"]["verdict"] == "ok"
    assert checks["model's description"]["verdict"] == "ok"
    root.write("/var/lib/appliance/recordings/mine.mkv", "mine")
    again = _run(root, "/project/install.sh")
    assert "kept /etc/appliance/config.yaml" in again
    _run(root, "/project/install.sh", "--uninstall")
    assert root.file("/var/lib/appliance/recordings/mine.mkv").read_text() == "mine"
    assert root.run("/usr/local/bin/appliance", "--version", timeout_s=60).returncode != 0


def _run(root: Root, *command: str) -> str:
    start = time.monotonic()
    done = root.run(*command, timeout_s=INSTALL_S, binds={PROJECT_ROOT: "/project"}, environment=PI_5)
    took_s = time.monotonic() - start
    sys.stdout.write(f"{' '.join(command)}: {took_s:.0f} s\n{done.stdout}{done.stderr}")
    assert done.returncode == 0
    return done.stdout
