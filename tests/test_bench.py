"""The pipeline must not stand in the device's way: `appliance bench pipeline` against its limits."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

ATTEMPTS = 3
"""Whatever else runs on the machine can only make the figures worse, so the best attempt counts."""


def measure(invoke_ms: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "appliance", "bench", "pipeline", "--invoke-ms", str(invoke_ms)]
    done = subprocess.run(
        [*command, "--seconds", "5", "--json"], capture_output=True, text=True, timeout=40, check=True
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("invoke_ms", "efficiency"), [(30, 0.95), (110, 0.98)])
def test_the_device_is_kept_busy_and_the_picture_live(invoke_ms: int, efficiency: float) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        figures = measure(invoke_ms)
        good = (
            figures["efficiency"] >= efficiency
            and figures["pictures_per_s"] >= 0.95 * figures["source_per_s"]
            and figures["latency_ms"]["p95"] < invoke_ms + 60
        )
        if good or attempt == ATTEMPTS:
            break
    assert good, figures
    assert figures["efficiency"] == pytest.approx(figures["masks_per_s"] / figures["limit_per_s"], abs=1e-3)
    assert figures["efficiency"] <= 1.01
    assert figures["source_per_s"] == pytest.approx(60, rel=0.05)
    assert set(figures) == {
        "invoke_ms",
        "masks_per_s",
        "limit_per_s",
        "efficiency",
        "pictures_per_s",
        "source_per_s",
        "latency_ms",
        "dropped",
        "cpu_cores",
    }
