"""The typed configuration, and how a YAML file becomes one.

`config.yaml` at the top of the project is the commented reference and equals the defaults here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from appliance.errors import ConfigError

PROJECT_ROOT = Path(__file__).resolve().parents[1]
BackendKind = Literal["auto", "cpu", "edgetpu"]
DisplayKind = Literal["screen", "files", "null"]
Flip = Literal["none", "horizontal", "vertical", "both"]
_CAMERA = re.compile(r"camera(:[0-9]{1,2})?")
"""A source that is a camera by its number."""
DEVICE = r"^(auto|(usb|pci)(:[0-9]+)?)$"
"""How an Edge TPU is named: any, any of a kind, or one of a kind."""


class _Section(BaseModel):
    """A mapping of the file. A field's description says what is allowed, in the words of the error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CameraConfig(_Section):
    """What to ask of a camera."""

    width: int = Field(1280, ge=64, le=4608, description="a whole number of pixels from 64 to 4608")
    height: int = Field(720, ge=64, le=2592, description="a whole number of pixels from 64 to 2592")
    rate_hz: int = Field(30, ge=1, le=120, description="a whole number from 1 to 120")
    flip: Flip = Field("none", description="none, horizontal, vertical or both")
    focus: Literal["auto", "fixed"] = Field("auto", description="auto or fixed")
    focus_dioptres: float = Field(0.0, ge=0, le=32, description="a number from 0 to 32")
    exposure_ms: float = Field(0.0, ge=0, le=1000, description="a number from 0 to 1000")
    gain: float = Field(0.0, ge=0, le=64, description="a number from 0 to 64")

    def check_for_v4l2(self) -> None:
        """Raises `ConfigError` for what can be set for the source `camera` only."""
        for key in ("flip", "focus", "focus_dioptres", "exposure_ms", "gain"):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ConfigError(f"camera.{key} can be set for the source camera only; leave it out")


class SceneConfig(_Section):
    """The generated scene."""

    seed: int = Field(1, ge=0, le=2**31, description="a whole number from 0 to 2147483648")
    rate_hz: Literal[30, 60] = Field(30, description="30 or 60")


class ModelConfig(_Section):
    """The network and what counts as an object."""

    file: str = Field(
        "models/demo.tflite", min_length=1, description="the path of a .tflite file, or of a folder with one"
    )
    confidence: float = Field(0.3, ge=0.01, le=0.99, description="a number from 0.01 to 0.99")
    nms_iou: float = Field(0.7, ge=0.1, le=0.99, description="a number from 0.1 to 0.99")


class BackendConfig(_Section):
    """What runs the network."""

    kind: BackendKind = Field("auto", description="auto, cpu or edgetpu")
    device: str = Field("auto", pattern=DEVICE, description="auto, usb, pci, or one of them such as usb:0")


class DisplayConfig(_Section):
    """Where the picture goes."""

    kind: DisplayKind = Field("screen", description="screen, files or null")
    fullscreen: bool = Field(False, description="true or false")


class Config(_Section):
    """Everything that can be set."""

    source: str = Field(
        "scene",
        min_length=1,
        description="scene, camera, camera:1, a video or image file, a folder, or a device",
    )
    camera: CameraConfig = Field(CameraConfig(), description="a section")
    scene: SceneConfig = Field(SceneConfig(), description="a section")
    model: ModelConfig = Field(ModelConfig(), description="a section")
    backend: BackendConfig = Field(BackendConfig(), description="a section")
    display: DisplayConfig = Field(DisplayConfig(), description="a section")
    output: str = Field("out", min_length=1, description="the path of a folder")

    @property
    def camera_number(self) -> int | None:
        """Which camera the source is: 0 for `camera`, 1 for `camera:1`; None for other sources."""
        return int(self.source.partition(":")[2] or 0) if _CAMERA.fullmatch(self.source) else None

    def relative_to(self, folder: Path) -> Config:
        """The same, with paths made absolute: given ones from a folder, the defaults from the project."""
        no_path = self.source == "scene" or self.camera_number is not None
        source = self.source if no_path else str(folder / self.source)
        model_root = folder if "file" in self.model.model_fields_set else PROJECT_ROOT
        output_root = folder if "output" in self.model_fields_set else PROJECT_ROOT
        model = self.model.model_copy(update={"file": str(model_root / self.model.file)})
        update = {"source": source, "model": model, "output": str(output_root / self.output)}
        return self.model_copy(update=update)

    def overridden(
        self,
        source: str | None = None,
        model: str | None = None,
        backend: BackendKind | None = None,
        display: DisplayKind | None = None,
    ) -> Config:
        """The same, but for what the command line says. Raises `ConfigError`."""
        for option, value in (("--source", source), ("--model", model)):
            if value == "":
                raise ConfigError(
                    f"{option}: an empty name is not allowed; leave the option out, or name a file"
                )
        update: dict[str, object] = {}
        if source is not None:
            update["source"] = source
        if model is not None:
            update["model"] = self.model.model_copy(update={"file": model})
        if backend is not None:
            update["backend"] = self.backend.model_copy(update={"kind": backend})
        if display is not None:
            update["display"] = self.display.model_copy(update={"kind": display})
        return self.model_copy(update=update)


def load(path: Path) -> Config:
    """Read a configuration file. Relative paths in it are relative to the folder that it lies in.

    What it leaves out is as in the project's own: the demo network, and the project's `out`.

    Raises `ConfigError`, in one line with file, key, what is allowed and the nearest valid key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); name a readable file with --config") from error
    return parse(text, str(path)).relative_to(path.resolve().parent)


def parse(text: str, origin: str) -> Config:
    """A configuration from YAML text, paths as they are written. `origin` is named in errors."""
    try:
        tree = yaml.load(text, _KeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{origin}:{where} {problem}; see the project's config.yaml") from error
    except ValueError as error:  # a date that does not exist, and the like
        raise ConfigError(f"{origin}: {error}; see the project's config.yaml") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{origin}: holds no keys; see the project's config.yaml")
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_in_words(error.errors()[0])}") from error


def _in_words(error: ErrorDetails) -> str:
    """The first error of a validation: key, what is wrong, what is allowed, the nearest valid key."""
    keys = [str(key) for key in error["loc"]]
    section: type[BaseModel] = Config
    for key in keys[:-1]:
        annotation = section.model_fields[key].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        section = annotation
    name, path = keys[-1], ".".join(keys)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, section.model_fields, n=1, cutoff=0.5)
        hint = f"; did you mean {'.'.join([*keys[:-1], near[0]])}?" if near else ""
        return f"{path}: unknown key{hint} (allowed here: {', '.join(section.model_fields)})"
    return f"{path}: {error['input']!r} is not allowed; allowed is {section.model_fields[name].description}"


class _KeyLoader(yaml.SafeLoader):
    """Keys are names, each once: YAML allows anything, and lets the last of two equal keys win, silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key} is no name", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key} is there twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
