"""Which instance a prompt means. Pure."""

from __future__ import annotations

import numpy as np

from appliance.data import Segmentation
from appliance.masks import areas_px, containing


def pick(segmentation: Segmentation, xy: tuple[float, float]) -> int | None:
    """The index of the instance that a click at a point, in picture pixels, means; None if no mask is there.

    Of the masks that contain the point it is the smallest: that is the one drawn on top, and a part can be
    reached in the whole that it belongs to, while the whole can be clicked beside it. Of equal ones it is the
    one with the best score.
    """
    hits = np.flatnonzero(containing(segmentation, xy))
    if not len(hits):
        return None
    return int(hits[np.argmin(areas_px(segmentation)[hits])])
