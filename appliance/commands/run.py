"""`appliance run` and `appliance demo`."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import systemd
from appliance.commands import PROJECT_CONFIG, Commands, positive
from appliance.errors import ConfigError, NoScreen
from appliance.signals import asking

if TYPE_CHECKING:
    from appliance.app import App
    from appliance.config import Config
    from appliance.display import Display

_log = logging.getLogger("appliance")
_DEMO_S = 10.0


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    run = commands.add_parser("run", parents=[common], help="run the appliance")
    run.add_argument(
        "--source",
        help="scene, camera, a video or image file, a folder of photographs, or a device such as /dev/video0",
    )
    run.add_argument("--model", help="a .tflite file, or a folder that holds one")
    run.add_argument("--backend", choices=("auto", "cpu", "edgetpu"), help="what runs the model")
    run.add_argument("--display", choices=("screen", "files", "null"), help="where the picture goes")
    run.add_argument("--config", type=Path, default=PROJECT_CONFIG, help="default: %(default)s")
    run.add_argument("--seconds", type=positive, help="end after this time")
    run.add_argument(
        "--kiosk",
        action="store_true",
        help="fill the screen for good; quitting asks whether to start again or to switch off",
    )
    run.set_defaults(command=_run)

    demo = commands.add_parser(
        "demo", parents=[common], help="the generated scene, on a screen or in a video"
    )
    demo.add_argument("--seconds", type=positive, help="end after this time")
    demo.set_defaults(command=_demo)


def _run(options: argparse.Namespace) -> int:
    def run() -> int:
        from appliance.app import build

        return _run_until_stopped(build(_config(options), options.kiosk), options.seconds)

    if not systemd.is_service():
        return run()

    from appliance.attempts import Attempts
    from appliance.standstill import serve

    restart = "sudo systemctl restart appliance" if options.kiosk else "systemctl --user restart appliance"
    advice = f"Correct it: sudoedit {options.config}, and then: {restart}"
    return serve(run, lambda: _screen(options), Attempts.of_service(os.environ), advice)


def _config(options: argparse.Namespace) -> Config:
    from appliance.config import load

    config = load(options.config)
    return config.overridden(options.source, options.model, options.backend, options.display)


def _screen(options: argparse.Namespace) -> Display | None:
    """Where to say why nothing runs; None if no screen is wanted. A wrong configuration wants one."""
    from appliance.display.screen import Screen

    try:
        kind = _config(options).display.kind
    except ConfigError:
        kind = options.display or "screen"
    return Screen(fullscreen=True, kiosk=options.kiosk) if kind == "screen" else None


def _demo(options: argparse.Namespace) -> int:
    from appliance.app import build
    from appliance.config import PROJECT_ROOT, Config

    config = Config().relative_to(PROJECT_ROOT).overridden(source="scene")
    try:
        _run_until_stopped(build(config.overridden(display="screen")), options.seconds)
    except NoScreen as error:
        seconds = options.seconds or _DEMO_S
        _log.warning("%s", error)
        _log.warning("so: %.0f s of the demo as a video and a still, in %s", seconds, config.output)
        _run_until_stopped(build(config.overridden(display="files")), seconds)
    return 0


def _run_until_stopped(app: App, seconds: float | None) -> int:
    """Run until the end, or until a signal asks for it; returns the exit code."""
    from appliance.standstill import SWITCH_OFF

    with asking(app.ask_to_stop):
        return SWITCH_OFF if app.run(seconds) else 0
