"""Running the network. A backend is made in the main thread and used by one thread, the invoke stage."""

from __future__ import annotations

from typing import Protocol

from appliance.data import ModelSpec, Tensor


class Backend(Protocol):
    """Something that runs a model."""

    name: str
    """For the readout and the log: "CPU, 4 threads (LiteRT)"."""
    spec: ModelSpec

    def invoke(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Run the model on one input; returns its outputs in the order of `spec.outputs`.

        The outputs are the caller's to keep: no later call writes to them.
        """

    def close(self) -> None:
        """Give everything back; safe to call more than once."""
