"""Where pictures come from. A source is opened, read and closed by one thread, the capture stage."""

from __future__ import annotations

from typing import Protocol

from appliance.data import Frame


class EndOfSource(Exception):
    """The source has no more pictures: a clean end."""


class Source(Protocol):
    """A source of pictures."""

    name: str
    """For the readout and the log: a file's name, a device, "scene"."""
    live: bool
    """Live: pictures come in their own time and the newest wins. Otherwise paired: every picture is
    processed and shown with its own masks, however long that takes."""

    def open(self) -> None:
        """Open, or open again after a loss; bounded in time.

        Raises `SourceError` if it cannot be used at all, `SourceLost` if trying again later may help.
        """

    def read(self, timeout_s: float) -> Frame | None:
        """The next picture, or None if there is none within the time. `Frame.index` goes on after a loss.

        Raises `EndOfSource` at the end, `SourceLost` when the source went away, `SourceTruncated` when it
        ended early.
        """

    def close(self) -> None:
        """Give everything back. Safe to call at any time, more than once, and after a failed `open`."""
