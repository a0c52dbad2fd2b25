from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from desktop import desktop
from edge_tpu import build_stand_in, compile_model, record_outputs

from appliance.config import PROJECT_ROOT
from appliance.convert.environments import find_python
from appliance.errors import ConvertError


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes disks of a given size, such as "1m", that can really be full."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs the right to mount a small disk: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def converter() -> None:
    """TensorFlow's converter exists for some Pythons only, and a system may have no such one."""
    try:
        find_python()
    except ConvertError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def xvfb_display() -> Iterator[str]:
    """An X server with a window manager, for all tests together."""
    with desktop() as display:
        yield display


@pytest.fixture
def xvfb(xvfb_display: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the X server the one that windows open on, also those of child processes; its name."""
    for name in ("WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", xvfb_display)
    return xvfb_display


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what stands in for an Edge TPU: `libedgetpu.so.1`, `outputs`, and in `models` a pair."""
    plain = PROJECT_ROOT / "models" / "demo.tflite"
    folder = tmp_path_factory.mktemp("stand-in")
    build_stand_in(folder)
    (folder / "models").mkdir()
    (folder / "models" / plain.name).write_bytes(plain.read_bytes())
    compile_model(plain, folder / "models" / "demo_edgetpu.tflite")
    record_outputs(plain, folder / "outputs")
    return folder
