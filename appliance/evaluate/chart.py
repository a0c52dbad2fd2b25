"""IoU against object size as an SVG. Pure."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

_GROUPS = 6
_WIDTH, _HEIGHT, _MARGIN = 640, 320, 45
_COLOURS = ("#1f77b4", "#aec7e8", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf")


def by_size(parts: Sequence[float], lines: Mapping[str, Sequence[float]]) -> str:
    """A line for each name: the mean IoU of each sixth of the objects, ordered by size.

    `parts` are the objects' shares of the picture; each line has an IoU for each of them. Horizontally lies
    the geometric mean of the shares of a sixth, in percent, on a logarithmic scale.
    """
    if not parts:
        return "<p>There are no objects.</p>"
    part = np.array(parts, np.float64)
    groups = [group for group in np.array_split(np.argsort(part, kind="stable"), _GROUPS) if len(group)]
    across = [float(np.exp(np.log(part[group]).mean())) for group in groups]
    first, last = math.floor(math.log10(across[0])), max(math.ceil(math.log10(across[-1])), -1)

    def x_of(share: float) -> float:
        span = max(1, last - first)
        return _MARGIN + (_WIDTH - 2 * _MARGIN) * (math.log10(share) - first) / span

    def y_of(iou: float) -> float:
        return _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * iou

    drawn = [f'<svg width="{_WIDTH + 260}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">']
    for tick in range(first, last + 1):
        x, label = x_of(10.0**tick), f"{100 * 10.0**tick:g} %"
        drawn.append(f'<path d="M{x:.1f} {y_of(0)}V{y_of(1)}" stroke="#ddd"/>')
        drawn.append(f'<text x="{x:.1f}" y="{y_of(0) + 16}" text-anchor="middle">{label}</text>')
    for fifth in range(6):
        y = y_of(fifth / 5)
        drawn.append(f'<path d="M{_MARGIN} {y:.1f}H{_WIDTH - _MARGIN}" stroke="#ddd"/>')
        drawn.append(f'<text x="{_MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{fifth / 5:.1f}</text>')
    middle_px, below_px = _WIDTH / 2, _HEIGHT - 6
    drawn.append(
        f'<text x="{middle_px}" y="{below_px}" text-anchor="middle">share of the picture</text>'
        f'<text x="{_MARGIN}" y="{_MARGIN - 12}" text-anchor="middle">IoU</text>'
    )
    for number, (name, values) in enumerate(lines.items()):
        colour, value = _COLOURS[number % len(_COLOURS)], np.array(values, np.float64)
        points = [
            (x_of(share), y_of(float(value[group].mean())))
            for share, group in zip(across, groups, strict=True)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = _MARGIN + 16 * number
        drawn.append(f'<text x="{_WIDTH - _MARGIN + 12}" y="{y}" fill="{colour}">{html.escape(name)}</text>')
    return "".join([*drawn, "</svg>"])
