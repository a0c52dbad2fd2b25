"""`appliance evaluate`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from appliance.commands import Commands, photograph_count
from appliance.commands.line import Line, bar, line
from appliance.errors import OutputNotWritable


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parser."""
    evaluate = commands.add_parser(
        "evaluate", parents=[common], help="how good models are, against the float reference and labels"
    )
    reference = evaluate.add_mutually_exclusive_group(required=True)
    reference.add_argument("--reference", type=Path, metavar="FILE.pt", help="the checkpoint they come from")
    reference.add_argument(
        "--reference-masks",
        type=Path,
        metavar="FILE.json",
        help="its masks, made before: reference-masks.json in a --report folder; needs no torch",
    )
    evaluate.add_argument("--models", type=Path, nargs="+", required=True, metavar="FILE.tflite")
    evaluate.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="photographs")
    evaluate.add_argument(
        "--polygons", type=Path, metavar="FOLDER", help="their labels: NAME.txt for NAME.jpg"
    )
    evaluate.add_argument("--backend", choices=("cpu", "edgetpu"), default="cpu", help="default: %(default)s")
    evaluate.add_argument("--second-look", action="store_true", help="also answer prompts with a second look")
    evaluate.add_argument("--limit", type=photograph_count, metavar="N", help="only the first N photographs")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    evaluate.add_argument(
        "--report", type=Path, metavar="FOLDER", help="write a page, and the reference masks"
    )
    evaluate.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from appliance.durable import write_file
    from appliance.evaluate import evaluation, reference
    from appliance.evaluate.labels import read_polygons
    from appliance.evaluate.pictures import find_pictures

    _make_folders(options)
    pictures = find_pictures(options.images, options.limit)
    labels = None
    if options.polygons is not None:
        labels = read_polygons(options.polygons, {picture.name: picture.size_hw for picture in pictures})
    models = evaluation.open_models(options.models, options.backend)
    sizes_wh = evaluation.sizes_of(models)
    with line() as rewritten:
        progress = _progress(rewritten)
        if options.reference is not None:
            known = reference.make_reference(options.reference, sizes_wh, pictures, progress)
        else:
            known = reference.load_reference(options.reference_masks, sizes_wh, pictures)
        found = evaluation.evaluate(
            models, known, pictures, labels, options.backend, options.second_look, progress
        )
    print(evaluation.summary(found.figures))
    try:
        if options.json is not None:
            write_file(options.json, evaluation.as_json(found.figures))
        if options.report is not None:
            from appliance.evaluate.report import render

            write_file(options.report / "index.html", render(found, models, known, pictures).encode())
            reference.save_reference(known, options.report / "reference-masks.json", pictures)
    except OSError as error:
        raise OutputNotWritable(f"the results cannot be written: {error}") from error
    return 0


def _make_folders(options: argparse.Namespace) -> None:
    """For the results, before anything long begins. Raises `OutputNotWritable`."""
    for folder in (options.report, options.json.parent if options.json else None):
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputNotWritable(f"the folder {folder} cannot be made: {error.strerror}") from error


def _progress(rewritten: Line) -> Callable[[str, int, int], None]:
    """A bar on a terminal, a line for each beginning and end elsewhere; both on standard error."""
    started: dict[str, float] = {}

    def show(what: str, done: int, of: int) -> None:
        first = what not in started
        begun = started.setdefault(what, time.monotonic())
        if rewritten.on_terminal:
            taken_s = time.monotonic() - begun
            left = f", {taken_s * (of - done) / done:.0f} s left" if 0 < done < of else ""
            rewritten.rewrite(f"{what}: {bar(done / max(1, of))} {done}/{of}{left}", last=done == of)
        elif first or done == of:
            print(f"{what}: {done}/{of}", file=sys.stderr)
        if done == of:
            del started[what]  # the next of this name begins anew

    return show
