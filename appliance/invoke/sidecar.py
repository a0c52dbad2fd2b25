"""The description beside a model: NAME.json for NAME.tflite. Without one, the file's name is all there is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from appliance.data import PLAIN_BINS
from appliance.errors import ModelError


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is used of it to run the model."""

    name: str
    """What to call the model."""
    demo: bool = False
    """It is there to show the appliance, not to be good."""
    plain: Path | None = None
    """Of a model that is compiled for the Edge TPU: the one that it was compiled from."""
    edge_tpu: Path | None = None
    """Of a plain model: the one that was compiled from it."""
    bins: tuple[float, ...] = PLAIN_BINS
    """See `ModelSpec.bins`."""


def read_sidecar(model: Path) -> Sidecar:
    """The description of a model. Raises `ModelError` if it cannot be read."""
    path = model.with_suffix(".json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Sidecar(model.stem)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"the model's description {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"the model's description {path} should hold names with values, in braces")
    kinds = {"name": str, "demo": bool, "plain": str, "edge_tpu": str}
    for key, kind in kinds.items():
        if key in content and type(content[key]) is not kind:
            wanted = "text" if kind is str else "true or false"
            raise ModelError(f'the model\'s description {path} should have "{key}" as {wanted}')
        if key in content and kind is str and not (content[key] and content[key].isprintable()):
            raise ModelError(f'the model\'s description {path} should have "{key}" as one line of text')
    return Sidecar(
        name=content.get("name", model.stem),
        demo=content.get("demo", False),
        plain=model.parent / content["plain"] if "plain" in content else None,
        edge_tpu=model.parent / content["edge_tpu"] if "edge_tpu" in content else None,
        bins=_bins(content.get("bins", list(PLAIN_BINS)), path),
    )


def check_content(model: Path, content: bytes) -> None:
    """Whether a model file is the one that its description is of, if that has a checksum.

    Raises `ModelError` if it is another: its bins and its name would be wrong.
    """
    path = model.with_suffix(".json")
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        expected = described["sha256"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return  # there is none, or `read_sidecar` says what is wrong with it
    if str(expected).lower() != hashlib.sha256(content).hexdigest():
        raise ModelError(
            f"{model} is damaged, or not the model that {path.name} describes: its checksum differs; "
            "copy or convert both again"
        )


def _bins(found: object, path: Path) -> tuple[float, ...]:
    if not isinstance(found, list) or len(found) != len(PLAIN_BINS):
        raise ModelError(f'the model\'s description {path} should have "bins" as a list of 16 numbers')
    if not all(type(value) in (int, float) and 0 <= value <= 100 for value in found):
        raise ModelError(f'the model\'s description {path} should have "bins" from 0 to 100')
    return tuple(float(value) for value in found)
