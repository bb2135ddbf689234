"""Holes to learn from: random strokes over what a map shows, and what another photo did not see.

Source of the strokes: Wang et al. (NeurIPS 2018), the drawing of its release, per sample and with
the axes in order.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PARTS, _VERTICES, _LENGTH, _BRUSH = 10, 20, 100.0, (10, 24)  # at 256 texels, as published
_SIZE = 256
_TRIES = 20

Mask = NDArray[np.bool_]


def draw_stroke(mask: NDArray[np.uint8], generator: np.random.Generator) -> None:
    """Draw one stroke into (S,S): up to 20 straight segments with round joints."""
    size = mask.shape[0]
    scale = size / _SIZE
    point = generator.uniform(0, size, 2)
    width = max(1, round(2 * generator.integers(_BRUSH[0] // 2, _BRUSH[1] // 2 + 1) * scale))
    for vertex in range(int(generator.integers(1, _VERTICES + 1))):
        angle = generator.uniform(0, 2 * np.pi)
        if vertex % 2 == 0:
            angle = 2 * np.pi - angle
        length = generator.uniform(0, _LENGTH) * scale
        reached = np.clip(point + length * np.array([np.cos(angle), np.sin(angle)]), 0, size - 1)
        ends = [tuple(int(value) for value in place) for place in (point, reached)]
        cv2.line(mask, ends[0], ends[1], 1, width)
        cv2.circle(mask, ends[1], width // 2, 1, -1)
        point = reached


def stroke_hole(
    visible: Mask, generator: np.random.Generator, coverage: tuple[float, float] = (0.1, 0.6)
) -> Mask:
    """Return strokes inside of what is visible (S,S).

    Args:
        visible: (S,S) texels with truth.
        generator: draws them; the same state gives the same strokes.
        coverage: smallest and largest share of the visible texels; up to 10 strokes are drawn
            until a share chosen between them is reached.
    """
    total = visible.sum()
    hole = np.zeros(visible.shape, np.uint8)
    for _ in range(_TRIES if total else 0):
        wanted = generator.uniform(*coverage)
        hole = np.zeros(visible.shape, np.uint8)
        for _ in range(_PARTS):
            draw_stroke(hole, generator)
            share = hole[visible].sum() / total
            if share >= wanted:
                break
        if coverage[0] <= share <= coverage[1]:
            break
    return hole.astype(bool) & visible


def borrowed_hole(visible: Mask, other: Mask, coverage: tuple[float, float]) -> Mask | None:
    """Return the visible texels (S,S) that another photo does not see, if these are in range."""
    hole = visible & ~other
    share = hole.sum() / max(visible.sum(), 1)
    return hole if coverage[0] <= share <= coverage[1] else None


def random_holes(
    visible: Tensor,
    seeds: list[int],
    borrowed: float = 0.0,
    coverage: tuple[float, float] = (0.1, 0.6),
) -> Tensor:
    """Draw a hole for each sample of a batch.

    Args:
        visible: (B,1,S,S) bool.
        seeds: B numbers; a sample's hole depends on its own, and on the next sample where it
            borrows that one's.
        borrowed: probability of hiding what the batch's next sample does not see, if that is in
            range: such holes look as those of photos do.
        coverage: see `stroke_hole`.

    Returns:
        (B,1,S,S) bool on the device of `visible`.
    """
    masks = visible[:, 0].cpu().numpy()
    holes = []
    for row, seed in enumerate(seeds):
        generator = np.random.default_rng(seed % 2**63)
        hole = None
        if generator.uniform() < borrowed:
            hole = borrowed_hole(masks[row], masks[(row + 1) % len(masks)], coverage)
        holes.append(stroke_hole(masks[row], generator, coverage) if hole is None else hole)
    return torch.from_numpy(np.stack(holes))[:, None].to(visible.device)
