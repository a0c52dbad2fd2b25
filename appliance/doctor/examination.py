"""All checks together, in the order in which they are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from appliance.doctor import (
    cameras,
    configuration,
    edge_tpu,
    libraries,
    models,
    power,
    screen,
    service,
    system,
)
from appliance.doctor.checks import Check, run
from appliance.doctor.machine import Machine

_GROUPS = (system, power, libraries, cameras, models, edge_tpu, screen, service)


def examine(config: Path, root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> list[Check]:
    """Look at everything, for a configuration file. Takes some seconds; raises nothing."""
    wanted, first = configuration.read(config)
    machine = Machine(wanted, root, environment)
    return [first, *run((check for group in _GROUPS for check in group.CHECKS), machine)]
