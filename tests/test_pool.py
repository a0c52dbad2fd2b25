"""Leases end when the last view is gone, not before."""

import numpy as np

from appliance.pool import Pool


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    pool = Pool((4, 5), np.uint8)
    first = pool.lease()
    address = first.ctypes.data
    view = first.reshape(-1)[3:].view(np.int8)[::2]
    del first
    second = pool.lease()
    assert second.ctypes.data != address
    view[:] = 7
    del view
    assert pool.lease().ctypes.data == address


def test_leases_have_the_asked_shape_and_can_be_written() -> None:
    array = Pool((2, 3, 4), np.float32).lease()
    array[:] = 1.5
    assert array.shape == (2, 3, 4)
    assert array.dtype == np.float32
    assert float(array.sum()) == 36.0
