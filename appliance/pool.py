"""Recycled memory for big arrays."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Pool:
    """Leases arrays of one shape and dtype; thread-safe.

    A lease ends by itself when the array, and every view of it, is gone, so nobody writes memory that
    somebody else still reads. Contents are undefined at first.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._nbytes = int(np.prod(shape)) * self.dtype.itemsize
        self._free: list[bytearray] = []
        self._lock = threading.RLock()  # a finaliser may run inside `lease`, at a collection

    def lease(self) -> NDArray[Any]:
        """An array that nobody else holds."""
        with self._lock:
            memory = self._free.pop() if self._free else bytearray(self._nbytes)
        # The base of a view is the array that owns its memory; an array made from a foreign buffer counts as
        # owner, so views of it keep it, and with it the lease, alive.
        array = np.frombuffer(memory, self.dtype).reshape(self.shape)
        owner = array.base
        assert isinstance(owner, np.ndarray)
        weakref.finalize(owner, self._give_back, memory).atexit = False
        return array

    def _give_back(self, memory: bytearray) -> None:
        with self._lock:
            self._free.append(memory)


class ShapePool:
    """A pool for arrays whose shape hardly ever changes: it keeps memory for the newest shape only."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype = dtype
        self._pool = Pool((0,), dtype)

    def lease(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """An array of this shape that nobody else holds."""
        if shape != self._pool.shape:
            self._pool = Pool(shape, self._dtype)
        return self._pool.lease()
