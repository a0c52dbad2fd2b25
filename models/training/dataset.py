"""Training pictures without end: generated scenes, varied, with boxes and masks. Seeded, so repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from appliance.capture.scene import Labels, Photographs, Scene
from appliance.data import RgbImage
from appliance.geometry import Letterbox

SCENE_WH = (512, 288)
_LARGE_SCENES = 0.25
"""Share of the scenes that are made at twice that, for the edges and the aliasing of reduced pictures."""
_PICTURES_PER_SCENE = 16
_SCENES_AT_ONCE = 64
_SMALLEST_PX = 24
"""Objects of which less is visible, in input pixels, are not taught."""
PADDING = 114
FIRST_TRAINING_SEED = 1_000_000
"""Scenes below this seed are never trained on."""


@dataclass(frozen=True)
class Sample:
    """One picture in the model's input, (H, W, 3) uint8, and its labels, (H, W), numbered from 1."""

    rgb: RgbImage
    labels: Labels


def _scene(seed: int, images: tuple[RgbImage, ...]) -> Scene:
    rng = np.random.default_rng((seed, 7))
    behind: tuple[RgbImage, ...] = ()
    if rng.random() < 0.7:
        behind = (_recoloured(rng, images[int(rng.integers(len(images)))]),)
    times = 2 if rng.random() < _LARGE_SCENES else 1
    return Scene(seed, (SCENE_WH[0] * times, SCENE_WH[1] * times), photographs=Photographs(behind, images))


def _recoloured(rng: np.random.Generator, image: RgbImage) -> RgbImage:
    if rng.random() < 0.5:
        image = image[..., rng.permutation(3)]
    image = np.rot90(image, int(rng.integers(4)))
    return np.ascontiguousarray(image)


def _zoomed(rng: np.random.Generator, rgb: RgbImage, labels: Labels) -> tuple[RgbImage, Labels]:
    height, width = labels.shape
    part = rng.uniform(0.55, 1.0)
    cut_w, cut_h = round(width * part), round(height * part)
    left, top = int(rng.integers(width - cut_w + 1)), int(rng.integers(height - cut_h + 1))
    where = np.s_[top : top + cut_h, left : left + cut_w]
    return (
        np.asarray(cv2.resize(rgb[where], (width, height), interpolation=cv2.INTER_LINEAR), np.uint8),
        np.asarray(
            cv2.resize(labels[where], (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8
        ),
    )


def _varied(rng: np.random.Generator, rgb: RgbImage) -> RgbImage:
    """Colour, light, focus and noise as different cameras would have them."""
    real = rgb.astype(np.float32)
    if rng.random() < 0.5:
        real = real * rng.uniform(0.8, 1.2, 3).astype(np.float32)
    if rng.random() < 0.3:
        gray = real.mean(axis=2, keepdims=True)
        real = gray + (real - gray) * np.float32(rng.uniform(0.2, 1.5))
    if rng.random() < 0.7:
        real = (real - 128) * np.float32(rng.uniform(0.65, 1.25)) + np.float32(rng.uniform(98, 158))
    if rng.random() < 0.25:
        real = cv2.GaussianBlur(real, (0, 0), rng.uniform(0.3, 0.9)).astype(np.float32)
    if rng.random() < 0.4:
        real = real + rng.normal(0, rng.uniform(1, 7), real.shape).astype(np.float32)
    return np.clip(real, 0, 255).astype(np.uint8)


def letterboxed(rgb: RgbImage, labels: Labels, input_wh: tuple[int, int]) -> Sample:
    """The picture as the appliance would hand it to the model, and the labels with it."""
    left, top, width, height = Letterbox.fit((rgb.shape[1], rgb.shape[0]), input_wh).content_xywh
    image = np.full((input_wh[1], input_wh[0], 3), PADDING, np.uint8)
    truth = np.zeros((input_wh[1], input_wh[0]), np.uint8)
    where = np.s_[top : top + height, left : left + width]
    image[where] = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)  # as preprocess does
    truth[where] = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return Sample(image, _compact(truth))


def _compact(labels: Labels) -> Labels:
    counts = np.bincount(labels.reshape(-1), minlength=256)
    table = np.zeros(256, np.uint8)
    kept = [k for k in range(1, 256) if counts[k] >= _SMALLEST_PX]
    table[kept] = np.arange(1, len(kept) + 1)
    return table[labels]


def samples(seed: int, input_wh: tuple[int, int], images: tuple[RgbImage, ...]) -> Iterator[Sample]:
    """Never ends; neighbours come from different scenes. `images` are the photographs to cut them from."""
    rng = np.random.default_rng(seed)
    next_seed = FIRST_TRAINING_SEED + seed * 10_000_000
    scenes: list[tuple[Scene, int]] = []
    while True:
        if len(scenes) < _SCENES_AT_ONCE:
            scenes.append((_scene(next_seed, images), _PICTURES_PER_SCENE))
            next_seed += 1
        at = int(rng.integers(len(scenes)))
        scene, left = scenes[at]
        rgb, labels = scene.render(int(rng.integers(36_000)))
        if left > 1:
            scenes[at] = (scene, left - 1)
        else:
            scenes.pop(at)
        if rng.random() < 0.35:
            rgb, labels = _zoomed(rng, rgb, labels)
        if rng.random() < 0.5:
            rgb, labels = np.ascontiguousarray(rgb[:, ::-1]), np.ascontiguousarray(labels[:, ::-1])
        sample = letterboxed(rgb, labels, input_wh)
        yield Sample(_varied(rng, sample.rgb), sample.labels)


def boxes_xyxy(labels: Labels) -> NDArray[np.float32]:
    """Boxes around the visible pixels of objects 1 to n, (n, 4), pixels."""
    found = []
    for k in range(1, int(labels.max()) + 1):
        rows, columns = np.flatnonzero((labels == k).any(axis=1)), np.flatnonzero((labels == k).any(axis=0))
        found.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return np.array(found, np.float32).reshape(-1, 4)


class Batches(torch.utils.data.IterableDataset[dict[str, torch.Tensor]]):
    """Batches in the form that Ultralytics' segmentation loss takes, masks as one index map a picture."""

    def __init__(
        self, seed: int, input_wh: tuple[int, int], batch: int, mask_stride: int, images: tuple[RgbImage, ...]
    ) -> None:
        self.seed, self.input_wh, self.batch, self.mask_stride = seed, input_wh, batch, mask_stride
        self.images = images

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Without end."""
        cv2.setNumThreads(1)
        width, height = self.input_wh
        stream = samples(self.seed, self.input_wh, self.images)
        rng, stride = np.random.default_rng((self.seed, 1)), self.mask_stride
        while True:
            picked = [next(stream) for _ in range(self.batch)]
            images = np.stack([s.rgb for s in picked]).transpose(0, 3, 1, 2)
            # The middle of a mask's pixel lies between two input pixels; either, for no shift on average.
            row, column = stride // 2 - rng.integers(2, size=2)
            masks = np.stack([s.labels[row::stride, column::stride] for s in picked])
            boxes = [boxes_xyxy(s.labels) for s in picked]
            which = np.concatenate([np.full(len(b), i) for i, b in enumerate(boxes)])
            xyxy = np.concatenate(boxes) / np.array([width, height, width, height], np.float32)
            xywh = np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)
            yield {
                "img": torch.from_numpy(np.ascontiguousarray(images)),
                "batch_idx": torch.from_numpy(which).float(),
                "cls": torch.zeros(len(which), 1),
                "bboxes": torch.from_numpy(xywh).float(),
                "masks": torch.from_numpy(masks.copy()).float(),
            }
