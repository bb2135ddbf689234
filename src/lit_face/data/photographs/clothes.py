"""Shoulders and clothes of a procedural photograph: rings from the neck's rim downwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.data.random import uniform
from lit_face.morphable_models.procedural import ProceduralHead

_COLOR, _CUT = range(440, 442)
# Ring: share of the way from the rim to the shoulder's outline, and height below the rim, mm.
_RINGS = ((0.0, -6.0), (0.06, 2.0), (0.18, 9.0), (0.36, 18.0), (0.58, 31.0), (0.80, 52.0),
          (0.95, 86.0), (1.0, 140.0), (1.0, 330.0))  # fmt: skip
_SHOULDERS = (205.0, 118.0)  # half-width and half-depth, mm
_EVERY = 2  # of the head's columns
_CLOTH_RINGS = 9


@dataclass(frozen=True, eq=False)
class Surface:
    """A ring surface: vertices, normals (B,S,3); faces (G,3); texture (S,2) degrees and mm down."""

    vertices: Tensor
    normals: Tensor
    faces: Tensor
    texture: Tensor


@dataclass(frozen=True, eq=False)
class Clothes:
    """A bust: the chest's skin and the cloth over it.

    Attributes:
        color: (B,2,3) linear rgb of two cloths.
        pattern: (B,) 0 plain, 1 stripes across, 2 stripes down.
    """

    chest: Surface
    cloth: Surface
    color: Tensor
    pattern: Tensor


def dress(head: ProceduralHead, vertices: Tensor, keys: Tensor) -> Clothes:
    """Put shoulders under heads (B,V,3) mm, one outfit a key (B,)."""
    rows, columns = (int(n) for n in head.grid_shape)
    keep = torch.arange(0, columns, _EVERY, device=vertices.device)
    rim = vertices[:, (rows - 1) * columns :][:, keep]
    angle = head.material[(rows - 1) * columns + keep, 0]
    path, drop = _bust(rim, angle)
    draw = uniform(keys, _CUT, 4)
    front = angle.cos().clamp(min=0)
    # The neckline: how many rings down the cloth begins; a V is deep and narrow.
    start = 0.9 + 3.4 * (draw[:, :1] ** 2) * (0.15 + 0.85 * front ** (1 + 5 * draw[:, 1:2]))
    share = torch.linspace(0, 1, _CLOTH_RINGS, device=keys.device)[None, :, None] ** 1.3
    place = start[:, None] + share * (len(_RINGS) - 1 - start[:, None])
    lower = place.long().clamp(max=len(_RINGS) - 2)
    weight = (place - lower)[..., None]
    index = lower[..., None].expand(-1, -1, -1, 3)
    cloth = path.gather(1, index) * (1 - weight) + path.gather(1, index + 1) * weight
    away = torch.stack([angle.sin(), torch.full_like(angle, 0.8), angle.cos()], dim=-1)
    cloth = cloth + 3.0 * away * torch.where(share[..., None] > 0, 1.0, 0.15)
    depth = torch.cat([drop[:1] * 0, torch.linspace(6, 330, _CLOTH_RINGS - 1, device=keys.device)])
    color = uniform(keys, _COLOR, 2, 4)
    value = 0.02 + 0.75 * color[..., 3:] ** 2.2
    return Clothes(
        chest=_surface(path[:, :7], angle, -drop[:7]),
        cloth=_surface(cloth, angle, -depth),
        color=(value * (0.35 + 1.3 * color[..., :3])).clamp(0.005, 0.9),
        pattern=(draw[:, 2] * 6).long().clamp(max=5).sub(3).clamp(min=0),
    )


def _bust(rim: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Rings (B,K,C,3) from the neck's rim (B,C,3) over the shoulders, and their drop (K,) in mm."""
    rings = rim.new_tensor(_RINGS)
    out, drop = rings[:, 0], rings[:, 1]
    outline = torch.stack(
        [
            _SHOULDERS[0] * angle.sin(),
            torch.full_like(angle, -150.0),
            _SHOULDERS[1] * angle.cos() - 32.0,
        ],
        dim=-1,
    )
    path = rim[:, None] + out[:, None, None] * (outline - rim[:, None])
    height = rim[:, None, :, 1] * (1 - out[:, None]) - 140 * out[:, None]
    # The trapezius is high at the sides of the neck, the chest low in front.
    slope = 40 * angle.cos().clamp(min=0) * (out * (1 - out))[:, None]
    path[..., 1] = height - drop[:, None] - slope
    return path, drop


def _surface(rings: Tensor, angle: Tensor, level: Tensor) -> Surface:
    count, columns = rings.shape[1:3]
    local = torch.arange(count * columns, device=rings.device).view(count, columns)
    a, b, c, d = local[:-1, :-1], local[:-1, 1:], local[1:, :-1], local[1:, 1:]
    texture = torch.stack(
        [angle.rad2deg().expand(count, -1), level[:, None].expand(-1, columns)], dim=-1
    )
    return Surface(
        vertices=rings.flatten(1, 2),
        normals=grid_normals(rings).flatten(1, 2),
        faces=torch.stack([a, c, d, a, d, b], dim=-1).reshape(-1, 3),
        texture=texture.flatten(0, 1),
    )


def grid_normals(points: Tensor) -> Tensor:
    """Outward unit normals of a grid (B,R,C,3) whose rows run down and columns to the left side.

    First and last column coincide (the back seam).
    """
    wrapped = torch.cat([points[:, :, -2:-1], points, points[:, :, 1:2]], dim=2)
    across = wrapped[:, :, 2:] - wrapped[:, :, :-2]
    padded = torch.cat([points[:, :1], points, points[:, -1:]], dim=1)
    down = padded[:, 2:] - padded[:, :-2]
    return functional.normalize(torch.linalg.cross(down, across), dim=-1)
