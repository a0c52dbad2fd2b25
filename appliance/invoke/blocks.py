"""Memory that two processes share: a row of equal blocks, for the inputs and outputs of a model.

The memory has no name in the file system, so nothing is left of it when its processes are gone, however they
ended.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.data import Tensor, TensorSpec

_ALIGNMENT = 64
"""Bytes: a cache line, and what the fast routines of a runtime like."""

Block = NDArray[np.uint8]
"""(n,) uint8."""


class Blocks:
    """Equal blocks, the first of which is a spare one that is never leased. Thread-safe.

    A lease ends by itself when the array, and every view of it, is gone.
    """

    def __init__(self, block_nbytes: int, count: int, fd: int | None = None) -> None:
        """Make `count` blocks, or attach to those that another process made, by their descriptor.

        The descriptor becomes this object's own. Raises `OSError`.
        """
        self._stride = -(-block_nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._nbytes = block_nbytes
        if fd is None:
            fd = os.memfd_create("appliance", os.MFD_CLOEXEC)
            os.ftruncate(fd, self._stride * count)
        self.fd = fd
        self._memory = np.frombuffer(mmap.mmap(fd, self._stride * count), np.uint8)
        self._address = self._memory.ctypes.data
        self._free = list(range(1, count))
        self._lock = threading.RLock()  # a finaliser may run inside `lease`, at a collection

    def __getitem__(self, index: int) -> Block:
        """A view of a block, without a lease."""
        start = index * self._stride
        return self._memory[start : start + self._nbytes]

    def lease(self) -> Block | None:
        """A block that nobody else holds; None if all are held. Contents are undefined."""
        with self._lock:
            if not self._free:
                return None
            index = self._free.pop()
        # An array made from a foreign buffer counts as the owner of its memory, so it is the base of all
        # views of it: they keep it, and with it the lease, alive.
        block = np.frombuffer(self._memory.data, np.uint8, self._nbytes, index * self._stride)
        weakref.finalize(block, self._give_back, index).atexit = False
        return block[:]

    def index_of(self, array: Tensor) -> int | None:
        """Which block an array begins with; None if it lies elsewhere."""
        index, rest = divmod(array.ctypes.data - self._address, self._stride)
        inside = 0 <= index * self._stride < len(self._memory)
        return index if inside and rest == 0 else None

    def _give_back(self, index: int) -> None:
        with self._lock:
            self._free.append(index)

    def close(self) -> None:
        """Let the descriptor go. The memory goes with the last array that uses it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def nbytes(specs: Sequence[TensorSpec]) -> int:
    """What a block must hold for tensors to lie in it one after the other."""
    return sum(_room(spec) for spec in specs)


def tensors(block: Block, specs: Sequence[TensorSpec]) -> tuple[Tensor, ...]:
    """The tensors that lie in a block, as views of it."""
    views, start = [], 0
    for spec in specs:
        length = int(np.prod(spec.shape)) * spec.dtype.itemsize
        views.append(block[start : start + length].view(spec.dtype).reshape(spec.shape))
        start += _room(spec)
    return tuple(views)


def _room(spec: TensorSpec) -> int:
    length = int(np.prod(spec.shape)) * spec.dtype.itemsize
    return -(-length // _ALIGNMENT) * _ALIGNMENT
