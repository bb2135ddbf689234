"""Which vertices of FLAME are face, eyes, neck, ...: FLAME_masks.pkl, or a rule without it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lit_face.geometry.meshes import vertex_normals
from lit_face.morphable_models.flame.files import FlameArrays

# House names and the file's vertex sets that make them up.
_SETS = {
    "face": ("face",),
    "eyes": ("eye_region",),
    "nose": ("nose",),
    "mouth": ("lips",),
    "lips": ("lips",),
    "eyeballs": ("left_eyeball", "right_eyeball"),
    "ears": ("left_ear", "right_ear"),
    "scalp": ("scalp",),
    "neck": ("neck",),
}
_FOREHEAD = 0.75  # of the distance from the line between the ears down to the chin


def flame_regions(
    raw: FlameArrays, masks: Mapping[str, Tensor], landmarks: Tensor, origin: Tensor
) -> dict[str, Tensor]:
    """Return name -> (W,) weights of the split vertices.

    Without masks there are 'face' (`face_by_landmarks`) and 'skin' alone.

    Args:
        raw: the model.
        masks: FLAME_masks.pkl's sets, or none.
        landmarks: (68,3) on the template, metres.
        origin: (W,) vertex of the file of each.
    """
    count = len(raw.template)
    regions = {
        name: torch.zeros(count).index_fill(0, torch.cat([masks[key] for key in keys]), 1.0)
        for name, keys in _SETS.items()
        if all(key in masks for key in keys)
    }
    if "face" not in regions:
        regions["face"] = face_by_landmarks(raw.template, raw.faces, landmarks)
    eyeballs = regions.get("eyeballs", torch.zeros(count))
    regions["skin"] = regions["face"] * (1 - eyeballs)
    return {name: weight[origin] for name, weight in regions.items()}


def face_by_landmarks(vertices: Tensor, faces: Tensor, landmarks: Tensor) -> Tensor:
    """Return (V,) 1 for vertices of the face, seen from the front.

    The face faces the viewer, lies in front of the foremost ear landmark's depth, and is inside of
    the jaw line below the ears' line and of half an ellipse above it.

    Args:
        vertices: (V,3), y up, z out of the face.
        faces: (F,3).
        landmarks: (68,3), the jaw's from ear to ear.
    """
    jaw = landmarks[:17, :2]
    middle = (jaw[0] + jaw[16]) / 2
    half_width = (jaw[16, 0] - jaw[0, 0]).abs() / 2
    down = middle[1] - jaw[8, 1]
    turn = torch.linspace(0, torch.pi, 19)[1:-1]
    arch = middle + torch.stack(
        [half_width * turn.cos(), _FOREHEAD * down * turn.sin()], 1
    ) * torch.tensor([1.0 if jaw[16, 0] > jaw[0, 0] else -1.0, 1])
    inside = _in_polygon(vertices[:, :2], torch.cat([jaw, arch]))
    behind = landmarks[[0, 16], 2].min()
    front = vertex_normals(vertices[None], faces)[0, :, 2] > 0
    return (inside & front & (vertices[:, 2] >= behind)).float()


def _in_polygon(points: Tensor, polygon: Tensor) -> Tensor:
    """Return (N,) bool, by the number of edges to the right of each point (N,2)."""
    start, end = polygon, polygon.roll(-1, 0)
    x, y = points[:, :1], points[:, 1:]
    spans = (start[:, 1] > y) != (end[:, 1] > y)
    rise = torch.where(end[:, 1] == start[:, 1], 1.0, end[:, 1] - start[:, 1])
    crossing = start[:, 0] + (y - start[:, 1]) / rise * (end[:, 0] - start[:, 0])
    crossings: Tensor = (spans & (x < crossing)).sum(1)
    return crossings % 2 == 1
