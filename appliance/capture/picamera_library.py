"""The part of picamera2 that is used, and the cameras that it finds.

picamera2 has no types, so they are written down here. It comes with Raspberry Pi OS, and is imported only
when a camera is wanted.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from appliance.errors import SourceMissing, SourceUnreadable

_LOCATIONS = {0: "front", 1: "back", 2: "external"}


class Request(Protocol):
    """A set of pictures that were taken together, in memory that is the camera's."""

    def get_metadata(self) -> Mapping[str, object]:
        """What the camera says about it, by libcamera's names."""

    def release(self) -> None:
        """Give the memory back."""


class Job(Protocol):
    """A request to come."""

    def get_result(self, timeout: float | None = None) -> Request:
        """Wait for it. Raises `TimeoutError`; may be asked again."""


class Camera(Protocol):
    """The part of `picamera2.Picamera2` that is used."""

    @property
    def camera_controls(self) -> Mapping[str, tuple[object, ...]]:
        """Least, greatest and default value of each control."""

    @property
    def camera_properties(self) -> Mapping[str, object]:
        """What is known about it, by libcamera's names."""

    @property
    def sensor_resolution(self) -> tuple[int, int]:
        """Width and height of the sensor's largest picture."""

    def create_video_configuration(
        self,
        main: Mapping[str, object],
        lores: Mapping[str, object] | None,
        transform: object,
        colour_space: object,
        buffer_count: int,
        queue: bool,
    ) -> dict[str, object]:
        """A configuration, with everything that is not said set as for a video."""

    def configure(self, camera_config: dict[str, object]) -> None:
        """Choose the streams; what the camera cannot give is replaced by what comes near."""

    def camera_configuration(self) -> Mapping[str, object]:
        """The configuration as it has become."""

    def set_controls(self, controls: Mapping[str, object]) -> None:
        """Set controls, from the start or the next request on."""

    def start(self) -> None:
        """Let pictures come."""

    def capture_request(self, wait: bool) -> Job:
        """The next request, not waited for if `wait` is False."""

    def cancel_all_and_flush(self) -> None:
        """Forget the jobs that wait, so that nothing stands before the closing."""

    def close(self) -> None:
        """Stop, and give the camera back."""


class Mapped(Protocol):
    """The memory of one picture of a request."""

    @property
    def array(self) -> NDArray[np.uint8]:
        """(n,) uint8."""


class _MapArray(Protocol):
    def __call__(
        self, request: Request, stream: str, reshape: bool, write: bool
    ) -> AbstractContextManager[Mapped]: ...


class _CameraClass(Protocol):
    platform: object

    def __call__(self, camera_num: int) -> Camera: ...
    def global_camera_info(self) -> list[dict[str, object]]: ...


class _MakeTransform(Protocol):
    def __call__(self, hflip: bool, vflip: bool) -> object: ...


class _ColourSpaces(Protocol):
    def Smpte170m(self) -> object: ...  # noqa: N802 - libcamera's name


class Picamera2Module(Protocol):
    """The part of the module `picamera2` that is used."""

    Picamera2: _CameraClass
    MappedArray: _MapArray


class LibcameraModule(Protocol):
    """The part of the module `libcamera` that is used."""

    Transform: _MakeTransform
    ColorSpace: _ColourSpaces


@dataclass(frozen=True, slots=True)
class AttachedCamera:
    """A camera that is there."""

    number: int
    """What `camera:NUMBER` means."""
    model: str
    """Of the sensor, such as "imx708"."""
    identifier: str
    """Where it is attached, in libcamera's words."""
    location: str
    """front, back, external, or empty if it is not known."""
    rotation_deg: int | None
    """How it is said to be mounted."""

    def __str__(self) -> str:
        return f"camera:{self.number} ({self.model})"


def load() -> tuple[Picamera2Module, LibcameraModule]:
    """The libraries. Raises `SourceMissing`, `SourceUnreadable`."""
    try:
        modules = importlib.import_module("picamera2"), importlib.import_module("libcamera")
    except ModuleNotFoundError as error:
        raise SourceMissing(
            f"picamera2 is not installed (no module {error.name}): sudo apt install python3-picamera2; "
            "a virtual environment sees it only if it was made with --system-site-packages"
        ) from error
    except (ImportError, ValueError) as error:  # a binary module that was built for another numpy
        raise SourceUnreadable(f"picamera2 does not fit what is installed beside it: {error}") from error
    logging.getLogger("picamera2").setLevel(logging.WARNING)  # it tells each step of an opening
    return cast(Picamera2Module, modules[0]), cast(LibcameraModule, modules[1])


def cameras() -> tuple[AttachedCamera, ...]:
    """All cameras that libcamera finds, by number. Raises as `load` does."""
    picamera2, _ = load()
    return attached(picamera2)


def attached(picamera2: Picamera2Module) -> tuple[AttachedCamera, ...]:
    """All cameras that libcamera finds, by number."""
    found = []
    for number, said in enumerate(picamera2.Picamera2.global_camera_info()):
        location, rotation = said.get("Location"), said.get("Rotation")
        found.append(
            AttachedCamera(
                number,
                str(said.get("Model", "unknown")),
                str(said.get("Id", "")),
                _LOCATIONS.get(location, "") if isinstance(location, int) else "",
                rotation if isinstance(rotation, int) else None,
            )
        )
    return tuple(found)
