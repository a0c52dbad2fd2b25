"""How long a run on a device may take, judged by those before it."""

from __future__ import annotations

import statistics
from collections import deque

LONGEST_S = 10.0
_KNOWN = 5
"""Runs after which a device is known: the first ones bring weights to it, and tell little."""
_LATELY = 32
_STAND_IN_S = (1.0, 2.0)
_LOST_S = 3.0


class Patience:
    """Two limits, in seconds. A device that gets slower step by step, as a hot one does, takes them along."""

    def __init__(self) -> None:
        self._took_s: deque[float] = deque(maxlen=_LATELY)

    def took(self, seconds: float) -> None:
        """Note a run."""
        self._took_s.append(seconds)

    @property
    def stand_in_after_s(self) -> float:
        """When the CPU takes the picture over, so that a person is not left without masks."""
        least, most = _STAND_IN_S
        return min(most, max(least, 4 * self._usual_s))

    @property
    def lost_after_s(self) -> float:
        """When the device counts as lost."""
        if len(self._took_s) < _KNOWN:
            return LONGEST_S
        return min(LONGEST_S, max(_LOST_S, 8 * self._usual_s))

    @property
    def _usual_s(self) -> float:
        return statistics.median(self._took_s) if self._took_s else 0.0
