"""The configuration, as far as the other checks need it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from appliance.doctor.checks import Check, fail, ok
from appliance.doctor.machine import Wanted
from appliance.errors import ConfigError

if TYPE_CHECKING:
    from appliance.config import Config


def load_whole(path: Path) -> Config:
    """A configuration, with what depends on several keys checked too. Raises `ConfigError`, `ImportError`."""
    from appliance.config import load

    config = load(path)
    if config.source.startswith("/dev/"):
        config.camera.check_for_v4l2()
    return config


def read(path: Path) -> tuple[Wanted, Check]:
    """What a file asks for, or the defaults if it is wrong."""
    name = "configuration"
    try:
        config = load_whole(path)
    except ImportError as error:
        return Wanted(), fail(name, f"{path} cannot be read: {error}", "install the appliance again")
    except ConfigError as error:
        return Wanted(), fail(name, str(error), f"correct {path}, then: appliance check-config {path}")
    wanted = Wanted(
        source=config.source,
        camera_number=config.camera_number,
        model=Path(config.model.file),
        backend=config.backend.kind,
        device=config.backend.device,
        display=config.display.kind,
        output=Path(config.output),
    )
    return wanted, ok(name, str(path))
