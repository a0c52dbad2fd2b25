"""Running the network. A backend is made in the main thread and used by one thread, the invoke stage."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # so that devices and libraries can be looked for where NumPy is missing
    from appliance.data import Inference, ModelSpec, Tensor
    from appliance.notices import Notices


class Backend(Protocol):
    """Something that runs a model."""

    spec: ModelSpec
    """Of the model that inputs are made for."""

    @property
    def name(self) -> str:
        """What runs the model now, in words for the readout and the log: "CPU, 4 threads (LiteRT)"."""

    def open(self, notices: Notices, say: Callable[[str], None], stopping: threading.Event) -> None:
        """Begin; called once. `say` is given `name` whenever that changes, in any thread.

        Waits in `finish` end once `stopping` is set.
        """

    def lease(self) -> Tensor:
        """Memory for an input that nobody else holds, in the shape and dtype of `spec.input`. Thread-safe."""

    def start(self, tensor: Tensor) -> None:
        """Give the device one input, best one from `lease`; returns at once where the device allows it."""

    def finish(self) -> Inference | None:
        """Wait for what was started; None if there is nothing to run the model on now.

        The outputs are the caller's to keep: no later run writes to them.
        """

    def close(self) -> None:
        """Give everything back; safe to call more than once."""
