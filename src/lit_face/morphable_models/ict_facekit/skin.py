"""Albedo for a model that was released without: the procedural head's, carried over."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lit_face.morphable_models.correspondence import SurfacePoints, closest_points, warp_mesh
from lit_face.morphable_models.ict_facekit.layout import PARTS
from lit_face.morphable_models.procedural import ProceduralHead

_TEETH, _GUM, _SOCKET = (0.86, 0.82, 0.74), (0.46, 0.21, 0.20), (0.30, 0.12, 0.11)
_BALL_SCALE = 12.0 / 15.0  # a person's eyeball over the released one
_SKIN_FACES = 22288  # face and head with neck


def head_anchors(vertices: Tensor, landmarks: Tensor) -> Tensor:
    """Return (78,3): the 68 landmarks and ten places around the head that any head has."""
    x, y, z = vertices.unbind(1)
    middle = (x.abs() < 8).float()
    behind = z < landmarks[[0, 16], 2].mean()
    neck = y < y.min() + 12
    eyes_y, chin_y = landmarks[36:48, 1].mean(), landmarks[8, 1]
    level = (y - eyes_y).abs() < 6
    lower = (y - (eyes_y + chin_y) / 2).abs() < 6
    places = [
        (y + 1e3 * middle).argmax(),
        (-z + 1e3 * (middle * level)).argmax(),
        (-z + 1e3 * (middle * lower)).argmax(),
        (y + 0.7 * z + 1e3 * middle).argmax(),
        (y - z + 1e3 * middle).argmax(),
        (z + 1e3 * (middle * neck)).argmax(),
        (-z + 1e3 * (middle * neck)).argmax(),
        (x + 1e3 * neck).argmax(),
        (x + 0.3 * y + 1e3 * (behind * (y > eyes_y + 40))).argmax(),
        (-x + 0.3 * y + 1e3 * (behind * (y > eyes_y + 40))).argmax(),
    ]
    return torch.cat([landmarks, vertices[torch.stack(places)]])


def grid_on_model(
    head: ProceduralHead, mean: Tensor, faces: Tensor, marks: Tensor
) -> SurfacePoints:
    """Put every vertex of the procedural head onto another head's skin."""
    skin = faces[:_SKIN_FACES]
    outside = mean[: PARTS["head_neck"][1]]
    start = head_anchors(head.mean, head.mean[head.landmark_index])
    shape = warp_mesh(head.mean, start, head_anchors(outside, mean[marks]), (mean, skin))
    return closest_points(shape, mean, skin)


def model_on_head(
    head: ProceduralHead, mean: Tensor, faces: Tensor, marks: Tensor
) -> SurfacePoints:
    """Put every vertex of another model onto the procedural head."""
    outside = mean[: PARTS["head_neck"][1]]
    start = head_anchors(outside, mean[marks])
    visible = head.regions["mouth_interior"] + head.regions["eyeballs"] < 0.5
    head_skin = head.faces[visible[head.faces].all(1)]
    goal = head_anchors(head.mean, head.mean[head.landmark_index])
    shape = warp_mesh(mean, start, goal, (head.mean, head_skin))
    return closest_points(shape, head.mean, head_skin)


def iris_offsets(neutral: Tensor) -> Tensor:
    """(V,2) mm from the middle of the iris, as large as a person's; far away off the eyeballs."""
    offsets = torch.full((len(neutral), 2), 50.0)
    for side in ("eyeball_left", "eyeball_right"):
        ball = slice(*PARTS[side])
        points = neutral[ball]
        centre = (points.amax(0) + points.amin(0)) / 2
        offset = (points[:, :2] - centre[:2]) * _BALL_SCALE
        front = points[:, 2] > centre[2]
        offsets[ball] = torch.where(front[:, None], offset, 50.0)
    return offsets


def paint(carried: Tensor, head_values: Tensor, head: ProceduralHead, iris: Tensor) -> Tensor:
    """Give eyeballs the procedural eyes' values (V,C,K), matched by the distance to the iris."""
    values = carried.clone()
    start, stop = PARTS["eyeball_left"][0], PARTS["eyeball_right"][1]
    source = (head.regions["eyeballs"] > 0.5).nonzero()[:, 0]
    radius = head.iris_offset[source].norm(dim=1)
    wanted = iris[start:stop].norm(dim=1).clamp(max=float(radius.max()))
    nearest = (wanted[:, None] - radius[None]).abs().argmin(1)
    values[start:stop] = head_values[source[nearest]]
    return values


def inside_colors(count: int) -> tuple[Tensor, Tensor]:
    """Return which vertices (V,) lie inside the head, and their colours (V,3), sRGB."""
    inside, color = np.zeros(count, dtype=bool), np.zeros((count, 3), dtype=np.float32)
    for part, value in (
        ("mouth_socket", _SOCKET), ("eye_sockets", _GUM), ("gums_tongue", _GUM), ("teeth", _TEETH),
    ):  # fmt: skip
        inside[slice(*PARTS[part])] = True
        color[slice(*PARTS[part])] = value
    return torch.from_numpy(inside), torch.from_numpy(color)
