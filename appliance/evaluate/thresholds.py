"""The confidence at which a model returns as many masks as the reference does. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def equal_count_confidence(scores: Sequence[float], count: int) -> float:
    """The least score to ask for so that as near as can be `count` of `scores` reach it.

    Scores of int8 models come in steps, so equal ones stay or go together; of two thresholds as near, the
    higher. Without scores it is 1.
    """
    if not scores:
        return 1.0
    steps, counts = np.unique(np.asarray(scores, np.float64), return_counts=True)
    steps, reached = steps[::-1], np.cumsum(counts[::-1])
    off = np.abs(reached - count)
    best = int(off.argmin())
    if count < off[best]:  # none at all is nearer
        return float(np.nextafter(steps[0], 2.0))
    return float(steps[best])
