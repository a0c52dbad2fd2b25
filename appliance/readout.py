"""The figures in the corner of the screen, in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.data import Layer, Selection
from appliance.metrics import Snapshot


@dataclass(frozen=True, slots=True)
class About:
    """What is running."""

    model: str
    demo: bool
    """Whether the model's sidecar calls it a demo."""

    @property
    def badge(self) -> str:
        """The warning that stays on the screen."""
        return "DEMO MODEL" if self.demo else ""


def readout(
    about: About,
    figures: Snapshot,
    layer: Layer | None,
    selection: Selection | None,
    temperature_c: float | None,
) -> tuple[str, ...]:
    """The readout's lines."""
    latency = "" if figures.latency_ms is None else f"latency {figures.latency_ms.median:.0f} ms   "
    lines = [
        f"{figures.masks_per_s:.1f} masks/s   {figures.pictures_per_s:.1f} pictures/s",
        f"{latency}dropped {figures.dropped}",
        f"{about.model} on {figures.runs_on}",
    ]
    objects = "" if layer is None else f"{len(layer.segmentation)} objects"
    heat = "" if temperature_c is None else f"{temperature_c:.0f} °C"
    lines.append("   ".join(word for word in (objects, heat) if word))
    if selection is not None:
        in_sight = layer is not None and selection.id in layer.segmentation.ids
        lines.append("one picked out" if in_sight else "the picked object is out of sight")
    return tuple(line for line in lines if line)
