"""Nothing is shown, but everything is computed."""

from __future__ import annotations

from appliance.display import UserInput, View


class NullDisplay:
    """For measurements, and for the log alone. Masks are drawn at picture size, as for a file."""

    interactive = False

    def open(self) -> None:
        """Nothing to open."""

    def layer_wh(self, picture_wh: tuple[int, int]) -> tuple[int, int]:
        """The picture's own size."""
        return picture_wh

    def show(self, view: View) -> None:
        """Nothing to show."""

    def poll(self) -> list[UserInput]:
        """Nobody can do anything."""
        return []

    def toggle_fullscreen(self) -> bool:
        """There is no screen to fill."""
        return False

    def busy(self) -> bool:
        """Nothing is written."""
        return False

    def close(self) -> None:
        """Nothing to close."""
