"""Jaw points of 2D annotations: they follow the visible contour, so they slide over the cheek."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_face.morphable_models.base import MorphableModel

JAW = 17
_BAND_MM = 4.0  # candidates lie this close to a jaw point's height
_CANDIDATES = 24


def contour_candidates(model: MorphableModel, count: int = _CANDIDATES) -> Tensor:
    """Choose the vertices that may stand for each jaw point when the head turns.

    They lie at the jaw point's height on its side of the face, from the point towards the nose. The
    chin (point 8) has no other.

    Returns:
        (17,count) int64; the jaw point itself first, repeated where there are fewer.
    """
    mean = model.mean
    allowed = model.regions["face"] >= 0.5
    if "skin" in model.regions:
        allowed = allowed & (model.regions["skin"] >= 0.5)
    table = model.landmark_index[:JAW, None].repeat(1, count)
    for point in range(JAW):
        x, y, z = mean[table[point, 0]].tolist()
        if point == JAW // 2:
            continue
        side = 1.0 if x > 0 else -1.0
        inward = (side * mean[:, 0] < side * x) & (side * mean[:, 0] > 0.15 * side * x)
        near = allowed & inward & ((mean[:, 1] - y).abs() < _BAND_MM) & (mean[:, 2] > z - 1)
        found = near.nonzero()[:, 0]
        if len(found):
            order = (mean[found, 0] * side).argsort(descending=True)
            picked = torch.linspace(0, len(found) - 1, min(count - 1, len(found))).long()
            chosen = found[order[picked.to(order.device)]]
            table[point, 1 : 1 + len(chosen)] = chosen
    return table


def visible_contour(image_vertices: Tensor, landmark_index: Tensor, candidates: Tensor) -> Tensor:
    """Return the 68 landmarks with the jaw on the visible contour.

    Of each jaw point's candidates, the one farthest out in the picture, along the line from eye to
    eye, is taken; gradients go to that vertex.

    Args:
        image_vertices: (B,V,3) pixels, depth.
        landmark_index: (68,) int64.
        candidates: (17,N) int64 (`contour_candidates`).

    Returns:
        (B,68,3).
    """
    landmarks = image_vertices[:, landmark_index]
    across = (landmarks[:, 42:48] - landmarks[:, 36:42])[..., :2].mean(1).detach()
    points = image_vertices[:, candidates.flatten()].unflatten(1, tuple(candidates.shape))
    outward = (points[..., :2] * across[:, None, None]).sum(-1).detach()
    right_side = torch.arange(JAW, device=points.device) < JAW // 2
    outward = torch.where(right_side[:, None], -outward, outward)
    best = outward.argmax(2)[:, :, None, None].expand(-1, -1, 1, 3)
    return torch.cat([points.gather(2, best)[:, :, 0], landmarks[:, JAW:]], dim=1)
