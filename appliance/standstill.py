"""A service that cannot run says why on the screen, until its owner or a new attempt ends that."""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable

from appliance import systemd
from appliance.attempts import Attempts
from appliance.display import Command, Display, Hud, SwitchOff, View
from appliance.errors import ApplianceError, ConfigError, NoScreen
from appliance.signals import asking
from appliance.systemd import Service

_log = logging.getLogger(__name__)

SWITCH_OFF = 3
"""The exit code that asks for the machine to be switched off; systemd/kiosk.conf does it."""
_POLL_S = 0.05


class End(enum.Enum):
    """Why a notice is no longer shown."""

    STOP = "a signal asked for it"
    TIME = "its time was over"
    QUIT = "the user wants the program to start again"
    SWITCH_OFF = "the user wants the machine switched off"


def serve(
    run: Callable[[], int], screen: Callable[[], Display | None], attempts: Attempts, advice: str
) -> int:
    """Run the appliance; returns the exit code, or raises what `run` raises.

    After failures in a row it waits before it runs. A wrong configuration is shown until the end is asked
    for, with `advice` on what to do about it. `screen` gives where that is shown; None if nowhere.
    """
    attempt = attempts.begin()
    if attempt.pause_s:
        _log.warning("waiting %.0f s, since it failed before: %s", attempt.pause_s, attempt.reason)
        systemd.status(f"trying again in {attempt.pause_s:.0f} s: {attempt.reason}")
        end = _pause(screen(), attempt.reason, attempt.pause_s)
        if end is not End.TIME:
            attempts.forget()
            return SWITCH_OFF if end is End.SWITCH_OFF else 0
    try:
        exit_code = run()
    except ConfigError as error:
        attempts.forget()
        display = screen()
        if display is None:
            raise
        _log.error("%s", error)
        systemd.status(str(error))
        try:
            words = "The configuration is wrong", str(error), advice
            end = hold(display, lambda: words, Service(stuck=lambda: ()))
        except NoScreen:
            raise error from None
        return {End.QUIT: 0, End.SWITCH_OFF: SWITCH_OFF}.get(end, error.exit_code)
    except ApplianceError as error:
        attempts.failed(str(error))
        raise
    attempts.forget()
    return exit_code


def _pause(display: Display | None, reason: str, seconds: float) -> End:
    until_s = time.monotonic() + seconds

    def words() -> tuple[str, ...]:
        left_s = max(0.0, until_s - time.monotonic())
        return "The appliance has stopped", reason, f"It starts again in {left_s:.0f} s."

    if display is not None:
        try:
            return hold(display, words, None, until_s)  # not ready: it is about to start
        except NoScreen as error:
            _log.debug("%s", error)
    return _wait(until_s)


def hold(
    display: Display,
    words: Callable[[], tuple[str, ...]],
    service: Service | None,
    until_s: float = float("inf"),
) -> End:
    """Show a notice, a title and paragraphs, until something ends it. `service` is told that it is shown.

    Raises `NoScreen`; `DisplayError` if the screen is lost.
    """
    ends: list[End] = []
    shown: tuple[str, ...] = ()
    with asking(lambda: ends.append(End.STOP)):
        try:
            display.open()
            while not ends and time.monotonic() < until_s:
                for user_input in display.poll():
                    match user_input:
                        case Command.QUIT:
                            ends.append(End.QUIT)
                        case Command.FULLSCREEN:
                            display.toggle_fullscreen()
                        case SwitchOff():
                            ends.append(End.SWITCH_OFF)
                if (now := words()) != shown:
                    shown = now
                    display.show(View(None, None, Hud(placard=shown)))
                if service is not None:
                    service.presenting()
                time.sleep(_POLL_S)
        finally:
            if service is not None:
                service.stopping()
            display.close()
    return ends[0] if ends else End.TIME


def _wait(until_s: float) -> End:
    """The same where nobody looks."""
    ends: list[End] = []
    with asking(lambda: ends.append(End.STOP)):
        while not ends and time.monotonic() < until_s:
            time.sleep(_POLL_S)
    return ends[0] if ends else End.TIME
