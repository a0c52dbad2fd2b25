"""The words of the readout."""

from dataclasses import replace

import numpy as np
import pytest
from segmentations import segmentation_of

from appliance.data import Layer, Selection
from appliance.metrics import Metrics
from appliance.readout import About, readout


@pytest.mark.parametrize(
    ("selected", "words"), [(7, "one picked out"), (8, "the picked object is out of sight")]
)
def test_what_was_just_clicked_is_in_sight_before_it_is_drawn(selected: int, words: str) -> None:
    found = segmentation_of(np.full((1, 32, 32), 255, np.uint8), np.array([[0, 0, 64, 64]]), (64, 64))
    found = replace(found, ids=np.array([7]))
    layer = Layer(found, np.zeros((64, 64, 4), np.uint8))
    lines = readout(About("m", demo=False), Metrics().snapshot(), layer, Selection(selected, (1, 1)), None)
    assert lines[-1] == words
