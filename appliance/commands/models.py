"""`appliance models add`, `list` and `use`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from appliance.commands import Commands
from appliance.commands.line import Line, line
from appliance.doctor.service import systemctl

_INSTALLED = Path("/var/lib/appliance/models")


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    models = commands.add_parser("models", help="install networks, list them, choose one")
    actions = models.add_subparsers(required=True, metavar="ACTION")
    folder = argparse.ArgumentParser(add_help=False, parents=[common])
    folder.add_argument(
        "--models",
        type=Path,
        default=_INSTALLED,
        metavar="FOLDER",
        help="default: %(default)s; `model.file` in the configuration is to be FOLDER/current",
    )

    add = actions.add_parser(
        "add",
        parents=[folder],
        help="install a bundle and choose its network",
        description="Checks a bundle, puts it into the folder of models, and makes `current` a link to it.",
    )
    add.add_argument(
        "bundle", metavar="BUNDLE|URL", help="a .tar that `appliance convert` made, or its address"
    )
    add.set_defaults(command=_add)

    listing = actions.add_parser("list", parents=[folder], help="what is installed; * is the one in use")
    listing.set_defaults(command=_list)

    use = actions.add_parser("use", parents=[folder], help="choose another one")
    use.add_argument("name", metavar="NAME", help="as `appliance models list` calls it")
    use.set_defaults(command=_use)


def _add(options: argparse.Namespace) -> int:
    from appliance.models_folder import add, add_from

    if "://" in options.bundle:
        with line() as rewritten:
            name, done = add_from(options.models, options.bundle, _Progress(rewritten))
    else:
        name, done = add(options.models, Path(options.bundle))
    print(f"{name}: {done}, in {options.models}; {_next()}")
    return 0


def _next() -> str:
    return f"it runs from the next start on: {systemctl('restart')}"


def _list(options: argparse.Namespace) -> int:
    from appliance.models_folder import installed

    for model in installed(options.models):
        print(f"{'*' if model.current else ' '} {model.folder}: {model.words}")
    return 0


def _use(options: argparse.Namespace) -> int:
    from appliance.models_folder import use

    use(options.models, options.name)
    print(f"{options.name}: chosen; {_next()}")
    return 0


class _Progress:
    """A line that is rewritten on a terminal, a line for each tenth elsewhere; on standard error."""

    def __init__(self, rewritten: Line) -> None:
        self._line = rewritten
        self._shown = -1

    def __call__(self, done: int, of: int) -> None:
        percent = 100 * done // of if of else 0
        step = percent if of else done // 1_000_000
        if not self._line.on_terminal and of:
            step //= 10
        if step == self._shown:
            return
        self._shown = step
        words = f"download: {done / 1e6:.1f} MB" + (f" of {of / 1e6:.1f} MB, {percent} %" if of else "")
        if self._line.on_terminal:
            self._line.rewrite(words, last=done == of)
        else:
            print(words, file=sys.stderr, flush=True)
