"""Where pictures and masks are shown. A display lives in the main thread, but for `layer_wh`."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from appliance.data import Frame, Layer


class Command(enum.Enum):
    """What a user can ask for, by key or on the bar; the value names it there."""

    QUIT = "quit"
    FREEZE = "freeze"
    FULLSCREEN = "full screen"
    HELP = "help"
    SNAPSHOT = "snapshot"
    RECORD = "record"
    MASKS = "masks"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Click:
    """A left click or a tap on the picture."""

    xy: tuple[float, float]
    """Picture pixels, continuous."""


@dataclass(frozen=True, slots=True)
class SwitchOff:
    """The machine is to be switched off. Only a kiosk offers it."""


UserInput = Command | Click | SwitchOff


@dataclass(frozen=True, slots=True)
class Hud:
    """What is written over the picture. Equal values look equal, so a display draws it only on change."""

    readout: tuple[str, ...] = ()
    """Lines for the corner: rates, latency, model and backend, ..."""
    badge: str = ""
    """A word of warning that stays, such as "DEMO MODEL"."""
    notices: tuple[str, ...] = ()
    """Troubles in words, such as "camera unplugged, trying again in 4 s"."""
    toast: str = ""
    """The answer to the user's last action, for a moment."""
    help: bool = False
    placard: tuple[str, ...] = ()
    """Why there is no picture: a title and paragraphs, instead of everything else."""
    active: frozenset[Command] = frozenset()
    """Commands that are switched on (freeze, record, masks, ...): the bar shows them pressed."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """All that is to be seen at one moment."""

    frame: Frame | None
    """None while no picture has come: a plain background."""
    layer: Layer | None
    """The newest masks; in live mode they may belong to an earlier picture than `frame`."""
    hud: Hud


class Display(Protocol):
    """Shows views, and says what the user did."""

    interactive: bool
    """Whether `poll` can ever return anything."""

    def open(self) -> None:
        """Raises `NoScreen` or `OutputNotWritable`."""

    def layer_wh(self, picture_wh: tuple[int, int]) -> tuple[int, int]:
        """The size in which the mask layer of such a picture is best drawn. Called from another thread."""

    def show(self, view: View) -> None:
        """Show a view; returns when it has been handed to the screen or the file."""

    def poll(self) -> list[UserInput]:
        """What the user did since the last call; never waits."""

    def toggle_fullscreen(self) -> bool:
        """Switch between window and full screen; returns whether it is full screen now."""

    def busy(self) -> bool:
        """Whether something that was shown has still to be written."""

    def close(self) -> None:
        """Give everything back within 2 s, even if busy.

        Safe to call more than once, and after a failed `open`.
        """
