"""A line on the terminal that is rewritten, and what else is said meanwhile."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_BAR: Final = 30


class Line:
    """On standard error."""

    def __init__(self) -> None:
        self.on_terminal = sys.stderr.isatty()
        """Elsewhere nothing can be rewritten."""
        self._begun = False

    def rewrite(self, text: str, last: bool = False) -> None:
        """Show a text in place of the one before; after the last one the next line begins."""
        print(f"\r{text}\x1b[K", end="\n" if last else "", file=sys.stderr, flush=True)
        self._begun = not last

    def end(self) -> None:
        """Leave it as it is, and let the next line begin."""
        if self._begun:
            print(file=sys.stderr, flush=True)
        self._begun = False


@contextmanager
def line() -> Iterator[Line]:
    """One that ends before anything else is said: a message of the log, or the error that this ends with."""
    made = Line()

    def end_it(record: logging.LogRecord) -> bool:
        del record
        made.end()
        return True

    handlers = logging.getLogger().handlers[:]
    for handler in handlers:
        handler.addFilter(end_it)
    try:
        yield made
    finally:
        for handler in handlers:
            handler.removeFilter(end_it)
        made.end()


def bar(part: float) -> str:
    """0..1 as a bar."""
    full = round(_BAR * part)
    return f"[{'#' * full}{'.' * (_BAR - full)}]"
