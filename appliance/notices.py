"""Troubles in words, that the screen and the log show while they last. Thread-safe."""

from __future__ import annotations

import logging
import threading

_log = logging.getLogger(__name__)


class Notices:
    """One line an owner, such as "camera: unplugged, trying again in 4 s"."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._words: dict[str, str] = {}

    def report(self, owner: str, words: str, level: int = logging.WARNING) -> None:
        """Say what is wrong with `owner`; replaces what was said of it before. `level` is the log's."""
        with self._lock:
            known = self._words.get(owner)
            self._words[owner] = words
        if known != words:
            _log.log(level, "%s: %s", owner, words)

    def clear(self, owner: str) -> None:
        """Say that all is well with `owner` again."""
        with self._lock:
            known = self._words.pop(owner, None)
        if known is not None:
            _log.info("%s: all well again", owner)

    def current(self) -> tuple[str, ...]:
        """What is wrong now."""
        with self._lock:
            return tuple(f"{owner}: {words}" for owner, words in self._words.items())
