"""Which instance a prompt means. Pure."""

from __future__ import annotations

import numpy as np

from appliance.data import Segmentation
from appliance.masks import areas_px, containing

REACH = 0.01
"""How far beside a mask a click may be and still mean it, as a part of the picture's longer side: a finger,
or a mouse on a moving object, is no more exact than that, and neither are masks at their edges."""
_RINGS = 4
_DIRECTIONS = 16


def pick(segmentation: Segmentation, xy: tuple[float, float]) -> int | None:
    """The index of the instance that a click at a point, in picture pixels, means; None if no mask is near.

    Of the masks that contain the point it is the smallest: that is the one drawn on top, and a part can be
    reached in the whole that it belongs to, while the whole can be clicked beside it. Of equal ones it is the
    one with the best score. Where no mask contains the point, the nearest within `REACH` counts.
    """
    angles = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    radius_px = REACH * max(segmentation.letterbox.picture_wh)
    hits = containing(segmentation, xy)
    for ring in range(1, _RINGS + 1):
        if hits.any():
            break
        reach_px = radius_px * ring / _RINGS
        for angle in angles:
            hits |= containing(
                segmentation, (xy[0] + reach_px * np.cos(angle), xy[1] + reach_px * np.sin(angle))
            )
    near = np.flatnonzero(hits)
    if not len(near):
        return None
    return int(near[np.argmin(areas_px(segmentation)[near])])
