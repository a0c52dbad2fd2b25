"""Memory that two processes share, what they say to each other, and how long one waits for the other."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.data import TensorSpec
from appliance.invoke.blocks import Blocks, nbytes, tensors
from appliance.invoke.jobs import EdgeTpuJob, Failure, Job, SleepingJob, Trouble, Work
from appliance.invoke.patience import LONGEST_S, Patience

shapes = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)
specs = st.builds(
    TensorSpec,
    name=st.text(max_size=9),
    shape=shapes,
    dtype=st.sampled_from(["int8", "uint8", "float32"]).map(np.dtype),
    scale=st.floats(0, 10),
    zero_point=st.integers(-128, 255),
)


def test_a_block_is_leased_until_its_last_view_is_gone() -> None:
    blocks = Blocks(100, 3)
    first, second = blocks.lease(), blocks.lease()
    assert first is not None
    assert second is not None
    assert blocks.lease() is None
    assert {blocks.index_of(first), blocks.index_of(second)} == {1, 2}
    view = first[10:20]
    index = blocks.index_of(first)
    del first
    assert blocks.lease() is None
    del view
    again = blocks.lease()
    assert again is not None
    assert blocks.index_of(again) == index
    blocks.close()
    blocks.close()


def test_what_one_side_writes_the_other_reads() -> None:
    ours = Blocks(5000, 3)
    theirs = Blocks(5000, 3, os.dup(ours.fd))
    block = ours.lease()
    assert block is not None
    block[:] = 7
    assert (theirs[ours.index_of(block) or 0] == 7).all()
    assert not theirs[0].any()
    ours.close()
    theirs.close()
    block[:] = 8  # the memory lives as long as an array in it


def test_an_array_that_lies_elsewhere_has_no_index() -> None:
    blocks = Blocks(100, 2)
    block = blocks.lease()
    assert block is not None
    assert blocks.index_of(np.zeros(100, np.uint8)) is None
    assert blocks.index_of(block[1:]) is None
    blocks.close()


@settings(deadline=None)
@given(st.lists(specs, min_size=1, max_size=5))
def test_tensors_lie_beside_each_other(wanted: list[TensorSpec]) -> None:
    blocks = Blocks(nbytes(wanted), 1)
    views = tensors(blocks[0], wanted)
    for number, (view, spec) in enumerate(zip(views, wanted, strict=True), start=1):
        assert view.shape == spec.shape
        assert view.dtype == spec.dtype
        view[...] = number
    assert all((view == number).all() for number, view in enumerate(views, start=1))
    blocks.close()


@given(specs, st.lists(specs, min_size=1, max_size=3).map(tuple))
def test_a_job_arrives_as_it_was_sent(model_input: TensorSpec, outputs: tuple[TensorSpec, ...]) -> None:
    works: tuple[Work, ...] = (EdgeTpuJob("m.tflite", "lib.so", "usb:0", "usb:1"), SleepingJob(3.5, "file"))
    for work in works:
        job = Job(work, model_input, outputs, 4, 6)
        assert Job.of(job.packet()) == job


@given(st.sampled_from(Trouble), st.text(max_size=50))
def test_a_failure_arrives_as_it_was_sent(trouble: Trouble, words: str) -> None:
    failure = Failure(trouble, words)
    assert Failure.of(failure.packet()) == failure


def test_patience_is_long_at_first_and_then_follows_the_device() -> None:
    patience = Patience()
    assert patience.lost_after_s == LONGEST_S == 10
    assert patience.stand_in_after_s == 1
    for _ in range(5):
        patience.took(0.15)
    assert patience.lost_after_s == 3
    for _ in range(40):
        patience.took(0.6)
    assert patience.lost_after_s == pytest.approx(4.8)
    assert patience.stand_in_after_s == 2


@given(st.floats(0.01, 1.2), st.floats(1.0, 1.1))
def test_a_device_that_slows_down_step_by_step_is_never_given_up(first_s: float, factor: float) -> None:
    patience, took_s = Patience(), first_s
    while took_s < LONGEST_S:
        assert took_s < patience.lost_after_s
        patience.took(took_s)
        took_s = took_s * factor + 0.01
