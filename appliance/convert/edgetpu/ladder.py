"""Input sizes for `--size auto`: neighbouring ones compile or fail erratically, so they are tried."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from appliance.errors import CompilerFailed, TooLittleMapped

log = logging.getLogger(__name__)

SIZES: Final = (512, 448, 416, 384, 320)
"""Sides in pixels, the most accurate first."""

Made = TypeVar("Made")


def sizes(compiler_installed: bool) -> tuple[int, ...]:
    """What `largest` is to try. Without a compiler nothing can be tried, and the first size is taken."""
    if compiler_installed:
        return SIZES
    log.warning(
        "--size auto: %d x %d, which may or may not compile: edgetpu_compiler is not installed",
        SIZES[0],
        SIZES[0],
    )
    return SIZES[:1]


def largest(attempt: Callable[[int], Made], sizes: Sequence[int]) -> Made:
    """What `attempt(size)` gives for the first size at which it does not raise.

    `attempt` converts and compiles for a square input of that side. Only a compiler that fails or maps too
    little leads on to the next size; the last one's error is raised. `sizes` must not be empty.
    """
    *all_but_last, last = sizes
    for size in all_but_last:
        try:
            return attempt(size)
        except (CompilerFailed, TooLittleMapped) as error:
            log.warning("%d x %d does not map, trying the next smaller size: %s", size, size, error)
    return attempt(last)
