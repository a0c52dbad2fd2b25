"""Whether a broken quantisation is caught and named: real models, really run, broken in their files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tflite_edits import float_twin, kind_of, read, rescale, scale_weights

from appliance.capture.scene import Scene
from appliance.config import PROJECT_ROOT
from appliance.convert import check
from appliance.convert.check.layers import Layer, blame, compare_layers
from appliance.convert.check.losses import Losses, compare
from appliance.convert.check.predictions import Predictions, from_fused, strides_of
from appliance.errors import LossTooGreat

DEMO = (PROJECT_ROOT / "models" / "demo.tflite").read_bytes()
WH = (512, 288)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Three pictures of the scene that the demo network knows."""
    scene = Scene(1, WH)
    return np.stack([scene.render(index)[0] for index in (0, 200, 400)])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo network in float."""
    path = tmp_path_factory.mktemp("float") / "float.tflite"
    path.write_bytes(float_twin(DEMO))
    return path


Refused = Callable[[bytes], str]


@pytest.fixture
def refused(real: Path, pictures: np.ndarray, tmp_path: Path) -> Refused:
    """What the check says about a broken model."""

    def say(content: bytes) -> str:
        broken = tmp_path / "broken.tflite"
        broken.write_bytes(content)
        with pytest.raises(LossTooGreat, match=r"^check: the int8 model says something else") as caught:
            check.quantised(real, broken, pictures, layers_file=tmp_path / "layers.txt")
        said = str(caught.value)
        assert "\n" not in said
        assert said.endswith(f"(all layers: {tmp_path / 'layers.txt'})")
        assert "<- here" in (tmp_path / "layers.txt").read_text()
        return said

    return say


def operators(kind: str, *, outputs: bool) -> list[int]:
    """Places of operators in the demo network."""
    model = read(DEMO)
    (graph,) = model.subgraphs
    ends = {int(tensor) for tensor in graph.outputs}
    return [
        number
        for number, operator in enumerate(graph.operators)
        if kind_of(model, operator) == kind and (int(operator.outputs[0]) in ends) == outputs
    ]


def test_good_model_passes(real: Path, pictures: np.ndarray, tmp_path: Path) -> None:
    good = tmp_path / "good.tflite"
    good.write_bytes(DEMO)
    losses, by_stride = check.quantised(real, good, pictures)
    assert losses.anchors > 100
    assert not losses.faint
    for kind, value in losses.kinds():
        assert 0 < value < 0.06, kind
    assert sum(one.anchors for one in by_stride.values()) == losses.anchors


def test_all_ranges_clipped_to_a_tenth(refused: Refused) -> None:
    said = refused(rescale(DEMO, 0.1, lambda model, number: True))
    assert "scores are off by 0." in said
    assert "most at stride" in said
    assert "first wrong is operator 2 of 257 (CONV_2D, 144 x 256 x 16" in said
    assert "of its values" in said


@pytest.mark.parametrize("place", [1, 20, 40])
def test_one_range_clipped_to_a_tenth(refused: Refused, place: int) -> None:
    number = operators("CONV_2D", outputs=False)[place]
    assert f"first wrong is operator {number + 1} of" in refused(
        rescale(DEMO, 0.1, lambda model, one: one == number)
    )


def test_steps_that_are_too_coarse(refused: Refused) -> None:
    number = operators("CONV_2D", outputs=False)[20]
    said = refused(rescale(DEMO, 20, lambda model, one: one == number))
    assert f"first wrong is operator {number + 1} of" in said
    assert "its steps are too coarse" in said


def test_weights_with_a_wrong_scale(refused: Refused) -> None:
    number = operators("CONV_2D", outputs=False)[1]
    said = refused(scale_weights(DEMO, 2, number))
    assert f"first wrong is operator {number + 1} of" in said
    assert "its weights or scales are wrong" in said


@pytest.mark.parametrize(
    ("channels", "lost", "named"),
    [
        (64, "boxes have an IoU of 0.", "box output at 64 x 36"),
        (1, "scores are off by 0.", "class output at 64 x 36"),
        (32, "mask coefficients are off by", "coefficient or prototype output at 64 x 36"),
    ],
)
def test_one_output_clipped_is_named(refused: Refused, channels: int, lost: str, named: str) -> None:
    def choose(model: object, number: int) -> bool:
        (graph,) = model.subgraphs  # type: ignore[attr-defined]
        tensor = int(graph.operators[number].outputs[0])
        return tensor in graph.outputs and list(graph.tensors[tensor].shape) == [1, 36, 64, channels]

    said = refused(rescale(DEMO, 0.1, choose))
    assert lost in said
    assert named in said
    assert "its range cuts off" in said


def test_outputs_that_share_one_scale(refused: Refused) -> None:
    """Of a raw head too: what is fine for boxes in pixels leaves a score a step or two."""
    model = read(DEMO)
    (graph,) = model.subgraphs
    ends = {int(tensor) for tensor in graph.outputs}
    scales = {float(graph.tensors[tensor].quantization.scale[0]) for tensor in ends}
    pixels = 512 / 255
    content = DEMO
    for scale in scales:
        content = rescale(
            content,
            pixels / scale,
            lambda model, number, scale=scale: (  # type: ignore[misc]
                int(model.subgraphs[0].operators[number].outputs[0]) in ends
                and float(
                    model.subgraphs[0]
                    .tensors[model.subgraphs[0].operators[number].outputs[0]]
                    .quantization.scale[0]
                )
                == scale
            ),
        )
    said = refused(content)
    assert "its steps are too coarse" in said


def test_layers_of_a_good_model_are_all_innocent(real: Path, pictures: np.ndarray) -> None:
    layers = list(compare_layers(real.read_bytes(), DEMO, pictures[0]))
    assert len(layers) > 200
    assert blame(layers, outputs_too=True) is None
    assert max(layer.own for layer in layers) < 0.15


def layer(**changed: float) -> Layer:
    values = {"error": 0.0, "before": 0.0, "own": 0.0, "cut": 0.0} | changed
    return Layer(number=7, of=9, kind="CONV_2D", name="a/b", shape=(2, 3, 4), is_output=False, **values)


def test_what_is_said_of_a_layer() -> None:
    assert str(layer(own=0.5, error=0.5, cut=0.2)).endswith(": its range cuts off 20% of its values")
    assert str(layer(own=0.5, error=0.5)).endswith(": its steps are too coarse")
    assert str(layer(error=0.5, before=0.1)).endswith(": its weights or scales are wrong")
    assert str(layer(error=0.5, before=0.4)) == "operator 7 of 9 (CONV_2D, 2 x 3 x 4, a/b)"
    assert blame([layer(error=0.5, before=0.4)], outputs_too=True) is None


class TestLosses:
    """On made-up predictions for an input of 64 x 64: 84 anchors."""

    @pytest.fixture
    def said(self) -> Predictions:
        rng = np.random.default_rng(0)
        corner = np.repeat(rng.uniform(0, 32, (28, 2)), 3, 0)  # three anchors for each object
        return Predictions(
            np.concatenate([corner, corner + 16], 1).astype(np.float32),
            rng.uniform(0.2, 1, 84).astype(np.float32),
            rng.normal(size=(84, 32)).astype(np.float32),
            rng.normal(size=(16, 16, 32)).astype(np.float32),
        )

    @staticmethod
    def compared(true: Predictions, found: Predictions) -> Losses:
        return compare([(true, found)], (64, 64))[0]

    def test_nothing_is_lost_between_equals(self, said: Predictions) -> None:
        losses, by_stride = compare([(said, said)], (64, 64))
        assert losses == Losses(50 + 16 + 4, False, 0.0, 0.0, 0.0, 0.0)
        assert [one.anchors for one in by_stride.values()] == [50, 16, 4]

    def test_each_kind_is_told_apart(self, said: Predictions) -> None:
        def with_(**changed: np.ndarray) -> Losses:
            parts = {name: getattr(said, name) for name in Predictions.__slots__} | changed
            return self.compared(said, Predictions(**parts))

        score = with_(scores=said.scores - np.float32(0.05))
        assert (score.score, score.box, score.mask) == pytest.approx((0.05, 0, 0), abs=1e-6)
        box = with_(boxes_xyxy=said.boxes_xyxy + np.float32([8, 0, 8, 0]))
        assert (box.score, box.box, box.mask) == pytest.approx((0, 2 / 3, 0), abs=1e-6)
        coefficient = with_(coefficients=said.coefficients * np.float32(1.1))
        assert coefficient.coefficient == pytest.approx(0.1, abs=1e-6)
        assert coefficient.mask == 0
        mask = with_(prototypes=-said.prototypes)
        assert mask.mask > 0.99
        assert mask.coefficient == 0

    def test_network_that_finds_nothing_is_compared_at_its_best(self, said: Predictions) -> None:
        faint = Predictions(said.boxes_xyxy, said.scores / 100, said.coefficients, said.prototypes)
        losses = self.compared(faint, faint)
        assert losses.faint
        assert losses.anchors == 50 + 16 + 4

    @pytest.mark.parametrize(("sure", "faint"), [(2, True), (3, False)])
    def test_network_that_finds_objects_now_and_then_is_not_trained(
        self, said: Predictions, sure: int, faint: bool
    ) -> None:
        nothing = Predictions(said.boxes_xyxy, said.scores / 100, said.coefficients, said.prototypes)
        pictures = [said] * sure + [nothing] * (4 - sure)
        losses, _ = compare(list(zip(pictures, pictures, strict=True)), (64, 64))
        assert losses.faint == faint

    def test_boxes_of_sure_anchors_that_agree_on_no_object_are_of_no_trained_network(
        self, said: Predictions
    ) -> None:
        alone = said.boxes_xyxy + np.arange(84, dtype=np.float32)[:, None] * np.float32([20, 0, 20, 0])
        said = Predictions(alone, said.scores, said.coefficients, said.prototypes)
        assert self.compared(said, said).faint

    def test_boxes_in_pixels_and_in_parts_of_the_input_are_the_same(self, said: Predictions) -> None:
        centres = (said.boxes_xyxy[:, :2] + said.boxes_xyxy[:, 2:]) / 2
        sizes = said.boxes_xyxy[:, 2:] - said.boxes_xyxy[:, :2]
        pixels = np.concatenate([centres, sizes], 1)
        for boxes in (pixels, pixels / 64):
            rows = np.concatenate([boxes, said.scores[:, None], said.coefficients], 1)
            found = from_fused(rows, said.prototypes, (64, 64))
            np.testing.assert_allclose(found.boxes_xyxy, said.boxes_xyxy, atol=1e-4)

    def test_strides(self) -> None:
        strides = strides_of((64, 32))
        assert strides.tolist() == [8] * 32 + [16] * 8 + [32] * 2


def test_float_forms_must_say_the_same(real: Path, pictures: np.ndarray) -> None:
    said, spec = check.run_tflite(real, pictures, range(16))
    assert check.same("a stage", said, said, spec.input_wh).box == 0
    moved = [Predictions(one.boxes_xyxy + 1, one.scores, one.coefficients, one.prototypes) for one in said]
    with pytest.raises(LossTooGreat, match=r"^check: a stage: boxes have an IoU of 0\.9\d+ only"):
        check.same("a stage", said, moved, spec.input_wh)
