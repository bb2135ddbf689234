"""Where the 17 jaw landmarks slide to as a head turns: FLAME's dynamic table for any head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lit_face.morphable_models.flame.landmarks import LAST_DEGREE
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize

_PIXELS_PER_MM = 4.0
_STEPS = 80  # points tried along each path
_REACH = 0.7  # of the way from the jaw to the middle of the face


def vertex_embedding(index: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Return faces (N,) and barycentric weights (N,3) of points that are vertices (N,)."""
    corner = (faces[None] == index[:, None, None]).flatten(1).int().argmax(1)
    weights = torch.nn.functional.one_hot(corner % 3, 3).float()
    return torch.div(corner, 3, rounding_mode="floor"), weights


def contour_table(vertices: Tensor, faces: Tensor, landmark_index: Tensor) -> tuple[Tensor, Tensor]:
    """Return faces (79,17) and barycentric weights (79,17,3) by yaw; rows as in `landmarks`.

    Each landmark has a path over the face, seen from the front: straight from the landmark inwards,
    level above the mouth and towards the mouth below it. For each yaw the point of the path that
    lies farthest out in the picture is taken: the outline, where the cheek hides the jaw, else the
    jaw itself.

    Args:
        vertices: (V,3) head space, mm.
        faces: (F,3) int64.
        landmark_index: (68,) vertices.
    """
    marks = vertices[landmark_index]
    jaw, eyes, mouth = marks[:17], marks[27, 1], marks[[62, 66], 1].mean()
    middle = torch.stack([marks[33, 0].expand(17), jaw[:, 1].clamp(min=mouth, max=eyes)], 1)
    share = torch.linspace(0, _REACH, _STEPS)[:, None, None]
    path = jaw[:, :2] + share * (middle - jaw[:, :2])  # (steps,17,2)
    index, weights = _seen_from_front(vertices, faces, path.flatten(0, 1))
    own_index, own_weights = vertex_embedding(landmark_index[:17], faces)
    index, weights = index.view(_STEPS, 17), weights.view(_STEPS, 17, 3)
    index[0], weights[0] = own_index, own_weights
    points = (vertices[faces[index.clamp(min=0)]] * weights[..., None]).sum(-2)
    outward = torch.nn.functional.normalize(jaw[:, :2] - middle, dim=1)
    degrees = torch.cat([torch.arange(LAST_DEGREE + 1), -torch.arange(1, LAST_DEGREE + 1)])
    angle = torch.deg2rad(degrees.float())[:, None, None]
    across = points[..., 0] * angle.cos() + points[..., 2] * angle.sin()  # (79,steps,17)
    out = across * outward[:, 0] + points[..., 1] * outward[:, 1]
    best = torch.where(index >= 0, out, -torch.inf).argmax(1)  # (79,17)
    column = torch.arange(17)
    return index[best, column], weights[best, column]


def _seen_from_front(vertices: Tensor, faces: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return faces (N,), -1 for none, and weights (N,3) seen at x, y (N,2) from the front."""
    low, high = vertices[:, :2].amin(0), vertices[:, :2].amax(0)
    scale = _PIXELS_PER_MM * torch.tensor([1.0, -1.0])
    start = torch.stack([low[0], high[1]])
    width, height = ((high - low) * _PIXELS_PER_MM).ceil().int().add(1).tolist()
    image = torch.cat([(vertices[:, :2] - start) * scale, -vertices[:, 2:] * _PIXELS_PER_MM], 1)
    seen = rasterize(image[None], faces, (height, width))
    fragments = fragments_of(image[None], faces, seen)
    weights = torch.zeros(height * width, 3)
    weights[fragments.pixel] = fragments.weights
    pixel = ((places - start) * scale).round().long()
    inside = ((pixel >= 0) & (pixel < torch.tensor([width, height]))).all(1)
    flat = torch.where(inside, pixel[:, 1] * width + pixel[:, 0], 0)
    index = torch.where(inside, seen.flatten()[flat], -1)
    return index, weights[flat]


def as_release(embedding: dict[str, Tensor]) -> dict[str, object]:
    """Return an embedding with the released file's keys and types: some arrays, some tensors."""
    names = {"faces": "lmk_faces_idx", "weights": "lmk_bary_coords"}
    released: dict[str, object] = {}
    for key, value in embedding.items():
        kind, part = key.split("_")
        name = f"{kind}_{names[part]}"
        if kind == "dynamic":
            released[name] = value
        elif kind == "full":
            released[name] = value[None].numpy()
        else:
            released[name] = value.numpy().astype(np.float64 if part == "weights" else np.int64)
    return released
