"""Choosing int8 ranges, and changes of the graph that must change nothing in float."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.convert.int8 import compare, exact, ranges
from appliance.convert.int8.graph import BINS, Graph, Head, Level, Operator, find_head
from appliance.convert.int8.ranges import Observed, Quantisation

finite = st.floats(-1e4, 1e4, width=32)


def conv1x1(x: NDArray, weights: NDArray, bias: NDArray) -> NDArray:
    """(h, w, in) by weights (out, 1, 1, in)."""
    return x @ weights[:, 0, 0].T + bias


def run(graph: Graph, x: NDArray) -> dict[int, NDArray]:
    """All tensors of a graph of 1x1 convolutions, sigmoids, products and padding."""
    values = {**graph.constants, graph.inputs[0]: x}
    for operator in graph.operators:
        given_ = [values[tensor] for tensor in operator.inputs]
        match operator.kind:
            case "CONV_2D":
                result = conv1x1(*given_)
            case "LOGISTIC":
                result = 1 / (1 + np.exp(-given_[0]))
            case "MUL":
                result = given_[0] * given_[1].reshape(given_[1].shape[-3:])
            case "PAD":
                result = np.pad(given_[0], ((1, 1), (1, 1), (0, 0)))
        values[operator.outputs[0]] = result
    return values


def small_graph(last: str = "CONV_2D") -> Graph:
    """Conv -> SiLU -> pad -> conv, its channels very uneven; one more operator, `last`, reads the SiLU."""
    rng = np.random.default_rng(0)
    constants = {
        10: (rng.normal(size=(8, 1, 1, 3)) * np.geomspace(0.1, 30, 8)[:, None, None, None]).astype(
            np.float32
        ),
        11: rng.normal(size=8).astype(np.float32),
        12: rng.normal(size=(5, 1, 1, 8)).astype(np.float32),
        13: rng.normal(size=5).astype(np.float32),
        14: rng.normal(size=(4, 1, 1, 8)).astype(np.float32),
        15: rng.normal(size=4).astype(np.float32),
    }
    operators = (
        Operator("CONV_2D", (0, 10, 11), (1,), 0),
        Operator("LOGISTIC", (1,), (2,), 1),
        Operator("MUL", (1, 2), (3,), 2),
        Operator("PAD", (3,), (4,), 3),
        Operator("CONV_2D", (4, 12, 13), (5,), 4),
        Operator(last, (3, 14, 15) if last == "CONV_2D" else (3, 3), (6,), 5),
    )
    depths = {0: 3, 1: 8, 2: 8, 3: 8, 4: 8, 5: 5, 6: 4}
    shapes = {tensor: (1, 4, 4, depth) for tensor, depth in depths.items()}
    shapes |= {tensor: constant.shape for tensor, constant in constants.items()}
    return Graph(operators, constants, shapes, (0,), (5, 6))


@given(finite, finite, st.floats(0, 1))
def test_values_in_range_are_kept_to_half_a_step_and_zero_exactly(a: float, b: float, part: float) -> None:
    low, high = min(a, b), max(a, b)
    quantisation = Quantisation.of(low, high)
    assert quantisation(np.zeros(1, np.float32))[0] == 0
    assert -128 <= quantisation.zero_point <= 127
    value = np.array([low + part * (high - low)], np.float32)
    # rounding the zero point moves the ends by up to half a step
    assert abs(quantisation(value) - value)[0] <= quantisation.scale * 1.01 + 1e-6


def test_narrowed_range() -> None:
    narrowed = Quantisation.of(-10, 20).narrowed(0.5, 0.8)
    assert narrowed.scale == pytest.approx((5 + 16) / 255, rel=0.01)


def test_rare_large_values_are_clipped_and_an_even_spread_is_not() -> None:
    rng = np.random.default_rng(0)

    def chosen_and_whole(values: NDArray) -> tuple[Quantisation, Quantisation]:
        observed = Observed(values.min(0), values.max(0), values)
        return ranges.plain_range([observed]), Quantisation.of(float(values.min()), float(values.max()))

    def error(quantisation: Quantisation, values: NDArray) -> float:
        return float(np.square(quantisation(values) - values).mean())

    rare = rng.laplace(size=(40_000, 1)).astype(np.float32)
    chosen, whole = chosen_and_whole(rare)
    assert chosen.scale < whole.scale
    assert error(chosen, rare) < 0.95 * error(whole, rare)
    even = rng.uniform(-3, 3, (20_000, 1)).astype(np.float32)
    chosen, whole = chosen_and_whole(even)
    assert chosen.scale == pytest.approx(whole.scale, rel=0.03)


def test_what_a_silu_makes_nothing_of_takes_no_steps() -> None:
    values = np.random.default_rng(0).uniform(-50, 8, (20_000, 1)).astype(np.float32)
    quantisation = ranges.silu_range(Observed(values.min(0), values.max(0), values), np.ones(1, np.float32))
    lowest = (-128 - quantisation.zero_point) * quantisation.scale
    assert -14 <= lowest <= -3
    wanted = ranges.silu(values)
    plain = np.square(ranges.silu(Quantisation.of(-50, 8)(values)) - wanted).mean()
    assert np.square(ranges.silu(quantisation(values)) - wanted).mean() < plain / 10


def test_box_range_decodes_no_worse_than_minima_and_maxima() -> None:
    logits = (np.random.default_rng(0).normal(size=(300, 64)) * 3).astype(np.float32)
    logits[:, ::5] += 8
    logits[::7, 1] = -40
    wanted = ranges.distances(logits)

    def error(quantisation: Quantisation) -> float:
        return float(np.abs(ranges.distances(quantisation(logits)) - wanted).mean())

    chosen = ranges.box_range(logits)
    assert error(chosen) < error(Quantisation.of(float(logits.min()), float(logits.max()))) / 1.5


def test_class_range_holds_every_score_that_a_threshold_may_have() -> None:
    low, high = np.full(1, -45, np.float32), np.full(1, 1.0, np.float32)
    quantisation = ranges.class_range(Observed(low, high, low[None]))
    for score in (0.003, 0.25, 0.9):
        logit = np.array([np.log(score / (1 - score))], np.float32)
        assert quantisation(logit) == pytest.approx(logit, abs=quantisation.scale)
    assert quantisation.scale < 0.04


def test_centred_boxes_decode_alike() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(64, 1, 1, 6)).astype(np.float32)
    bias = (rng.normal(size=64) + 5).astype(np.float32)
    convolution = Operator("CONV_2D", (0, 1, 2), (3,), 0)
    shapes = {0: (1, 4, 4, 6), 1: weights.shape, 2: bias.shape, 3: (1, 4, 4, 64)}
    graph = Graph((convolution,), {1: weights, 2: bias}, shapes, (0,), (3,))
    x = rng.normal(size=(4, 4, 6)).astype(np.float32)
    changed = exact.centre_boxes(graph, Head((Level(3, 8, 9),), 10))
    before, after = run(graph, x)[3].reshape(-1, 64), run(changed, x)[3].reshape(-1, 64)
    assert ranges.distances(after) == pytest.approx(ranges.distances(before), abs=1e-4)
    assert after.reshape(-1, 4, BINS).mean(2) == pytest.approx(0, abs=1e-5)
    samples = Observed(before.min(0), before.max(0), before)
    assert ranges.centred(samples).samples == pytest.approx(after, abs=1e-4)


def test_scaled_channels_change_nothing_in_float() -> None:
    graph = small_graph()
    assert exact.scalable(graph) == [1]
    x = np.random.default_rng(1).normal(size=(4, 4, 3)).astype(np.float32)
    before = run(graph, x)
    flat = before[1].reshape(-1, 8)
    scale = exact.channel_scales(flat.min(0), flat.max(0))
    changed, unscaled = exact.scale_channels(graph, {1: scale})
    after = run(changed, x)
    for tensor in graph.outputs:
        assert after[tensor] == pytest.approx(before[tensor], rel=1e-4, abs=1e-4)
    assert after[unscaled[1]] == pytest.approx(before[1], rel=1e-4, abs=1e-4)
    assert after[3] == pytest.approx(before[3] * scale, rel=1e-4, abs=1e-4)
    assert changed.silu_of(1) == 3

    spread = before[3].reshape(-1, 8).max(0)
    scaled_spread = after[3].reshape(-1, 8).max(0)
    assert scaled_spread.max() / scaled_spread.min() < spread.max() / spread.min() / 5


@given(st.lists(st.tuples(st.floats(-200, 0), st.floats(0, 200)), min_size=1, max_size=40))
def test_channel_scales_are_exact_in_int8(extremes: list[tuple[float, float]]) -> None:
    low, high = (np.array(end, np.float32) for end in zip(*extremes, strict=True))
    scale = exact.channel_scales(low, high)
    assert np.all((scale >= 1) & (scale <= 16))
    assert scale.min() == 1
    assert 127 / scale == pytest.approx(np.rint(127 / scale), rel=1e-5)


def test_activations_that_others_than_convolutions_read_are_left_alone() -> None:
    assert exact.scalable(small_graph("CONCATENATION")) == []
    assert small_graph("CONCATENATION").silu_of(1) == 3


def test_same_scale_groups_and_unknown_operators() -> None:
    graph = small_graph("CONCATENATION")
    assert sorted(map(sorted, graph.scale_groups())) == [[0], [1], [2], [3, 4, 6], [5]]
    assert graph.unknown() is None
    assert small_graph("SPACE_TO_DEPTH").unknown() == "SPACE_TO_DEPTH"


def test_variants_start_with_what_was_chosen() -> None:
    graph = small_graph()
    chosen = {tensor: Quantisation.of(-6, 30) for tensor in graph.activations()}
    variants = list(ranges.first_variants(graph, chosen, [1]))
    assert len(variants) == 6
    assert variants[0][1].scale == pytest.approx(chosen[1].scale, rel=1e-6)
    for variant in variants:
        assert variant[3] == variant[4]
        assert variant[5] == chosen[5]
    assert len({(variant[1], variant[3]) for variant in variants}) == 6
    assert len(list(ranges.first_variants(graph, chosen, []))) == 2


def head_outputs(rng: np.random.Generator, width: int = 16, height: int = 8) -> list[NDArray[np.float32]]:
    """What a raw head gives for an input of eight times this size, out of order."""
    outputs = []
    for part in (1, 2, 4):
        grid = (height // part, width // part)
        outputs += [rng.normal(size=(*grid, channels)) * 3 for channels in (32, 5, 64)]
    outputs.append(rng.normal(size=(2 * height, 2 * width, 32)))
    return [output.astype(np.float32) for output in reversed(outputs)]


def test_a_model_loses_nothing_against_itself_nor_by_a_shift_of_all_scores() -> None:
    outputs = compare.arrange(head_outputs(np.random.default_rng(0)))
    anchors = [np.arange(0, len(level.logits), 3) for level in outputs.levels]
    real = compare.detect(outputs, anchors)
    assert sum(len(one.logits) for one in real) > 40
    nothing = compare.shortfall([(one, one) for one in real])
    assert (nothing.logit, nothing.box, nothing.mask) == pytest.approx((0, 0, 0), abs=1e-6)

    parts = head_outputs(np.random.default_rng(0))
    shifted = compare.arrange([p - 0.5 if p.shape[2] == 5 else p for p in parts])
    lost = compare.shortfall(list(zip(real, compare.detect(shifted, anchors, real), strict=True)))
    assert lost.total == pytest.approx(0, abs=1e-4)
    assert compare.shortfall([]).total == 0


def test_noise_in_each_output_is_lost_there() -> None:
    rng = np.random.default_rng(0)
    parts = head_outputs(rng)
    outputs = compare.arrange(parts)
    anchors = [np.arange(len(level.logits)) for level in outputs.levels]
    real = compare.detect(outputs, anchors)

    def lost(channels: int, noise: float) -> compare.Shortfall:
        noisy = [p + rng.normal(size=p.shape) * noise * (p.shape[2] == channels) for p in parts]
        found = compare.detect(compare.arrange([p.astype(np.float32) for p in noisy]), anchors, real)
        return compare.shortfall(list(zip(real, found, strict=True)))

    for channels, name in ((5, "logit"), (64, "box"), (32, "mask")):
        little, much = lost(channels, 0.1), lost(channels, 1.0)
        assert 0 < getattr(little, name) < getattr(much, name)
        others = {"logit", "box", "mask"} - {name}
        assert all(getattr(much, other) == pytest.approx(0, abs=1e-6) for other in others)


def test_anchors_that_are_compared_are_the_best_ones() -> None:
    logits = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    chosen = compare.with_a_score(logits)
    assert len(chosen) == compare.MOST_ANCHORS
    assert np.all(np.diff(chosen) > 0)
    assert logits[chosen].min() >= np.delete(logits, chosen).max()
    few = np.array([-3, 0.5, -1.8, -1.6], np.float32)
    assert compare.with_a_score(few).tolist() == [1, 3]
    assert compare.with_a_score(few - 10).tolist() == []


def test_head_is_told_by_shapes() -> None:
    shapes = {i: (1, *output.shape) for i, output in enumerate(head_outputs(np.random.default_rng(0)))}
    graph = Graph((), {}, shapes, (), tuple(shapes))
    head = find_head(graph)
    assert shapes[head.prototypes] == (1, 16, 32, 32)
    assert [shapes[level.boxes] for level in head.levels] == [(1, 8, 16, 64), (1, 4, 8, 64), (1, 2, 4, 64)]
    assert [shapes[level.classes][3] for level in head.levels] == [5, 5, 5]
    with pytest.raises(ValueError, match="no raw head"):
        find_head(Graph((), {}, shapes, (), tuple(shapes)[:-1]))
