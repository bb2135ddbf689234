"""Hair, hats and scarves of a procedural photograph: a shell over the procedural head's own grid.

The shell is a coarser copy of the head's grid, pushed outwards where hair grows and drawn under the
skin elsewhere, so that the rasteriser itself cuts the hairline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lit_face.data.photographs.clothes import grid_normals
from lit_face.data.random import normal, uniform
from lit_face.morphable_models.procedural import ProceduralHead

_STYLE, _LIMIT, _VOLUME, _LUMPS, _JITTER, _DYE, _PART = range(420, 427)

# Azimuth (degrees) at which a hairline is given; level t (mm) down to which hair grows.
_AZIMUTH = (0, 14, 28, 42, 54, 64, 74, 84, 94, 104, 116, 126, 145, 180)
_HAIRLINES = {
    "short": (99, 98, 95, 86, 70, 48, 22, 24, 42, 46, 34, -8, -56, -60),
    "medium": (97, 96, 93, 83, 64, 34, -8, -34, -42, -46, -52, -70, -84, -86),
    "long": (98, 97, 93, 81, 60, 26, -30, -110, -150, -152, -152, -152, -152, -152),
    "fringe": (60, 60, 58, 55, 50, 36, 4, -20, -36, -46, -56, -72, -86, -88),
    "fringe_long": (62, 60, 57, 52, 46, 24, -40, -120, -150, -152, -152, -152, -152, -152),
    "receding": (122, 120, 108, 98, 86, 56, 26, 26, 42, 44, 30, -10, -54, -58),
    "hat": (72, 72, 71, 69, 66, 62, 57, 54, 50, 46, 42, 38, 32, 30),
    "scarf": (84, 83, 80, 72, 56, 20, -48, -170, -170, -170, -170, -170, -170, -170),
}
_STYLES = tuple(_HAIRLINES)
# How often each; the rest has no hair at all or only what the albedo paints.
_CHANCES = (0.30, 0.12, 0.17, 0.05, 0.05, 0.12, 0.05, 0.04)
_TOP_VOLUME = (11.0, 12.0, 10.0, 12.0, 12.0, 6.0, 11.0, 9.0)
_SIDE_VOLUME = (6.5, 12.0, 12.0, 12.0, 13.0, 5.0, 7.0, 6.0)
_INSET = 4.0  # mm under the skin where nothing grows
_EDGE = 30.0  # mm below the lowest hairline at which the shell ends


@dataclass(frozen=True, eq=False)
class Shell:
    """What covers the head.

    Attributes:
        vertices, normals: (B,S,3) head space, mm. faces: (G,3).
        color: (B,3) linear rgb. is_cloth: (B,) 1 for hats and scarves.
        texture: (S,2) azimuth in degrees and level in mm, where the strands run.
        shade: (B,S) darkening towards the roots.
        density: (B,S) 0 where hair is too thin to hide the skin, 1 where it is full.
        bare: (B,) 1 where the head itself shows no hair (shaven or bald).
        covers_ears: (B,) 1 where the ears are under it.
    """

    vertices: Tensor
    normals: Tensor
    faces: Tensor
    color: Tensor
    is_cloth: Tensor
    texture: Tensor
    shade: Tensor
    density: Tensor
    bare: Tensor
    covers_ears: Tensor


@lru_cache(maxsize=4)
def _layout(levels: tuple[float, ...], angles: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Choose grid rows and columns for the shell: at least 3.2 mm and 2.2 degrees apart."""
    rows, columns = len(levels), len(angles)
    keep_rows, last = [0], levels[0]
    for row in range(1, rows):
        if last - levels[row] >= 3.2 or row == rows - 1:
            keep_rows.append(row)
            last = levels[row]
    half = [columns // 2]
    for column in range(columns // 2 + 1, columns):
        if angles[column] - angles[half[-1]] >= 2.2 or column == columns - 1:
            half.append(column)
    keep_columns = [columns - 1 - c for c in half[:0:-1]] + half
    return torch.tensor(keep_rows), torch.tensor(keep_columns)


def shell_layout(head: ProceduralHead) -> tuple[Tensor, Tensor, Tensor]:
    """Return the vertices (R,C) that the shell copies, its faces (G,3) and its material (R,C,2)."""
    rows, columns = (int(n) for n in head.grid_shape)
    material = head.material.view(rows, columns, 2)
    side = int(torch.argmin((material[0, :, 0] - math.radians(70)).abs()))
    levels = tuple(material[:, side, 1].tolist())
    angles = tuple(material[0, :, 0].rad2deg().tolist())
    keep_rows, keep_columns = _layout(levels, angles)
    device = head.mean.device
    index = keep_rows[:, None] * columns + keep_columns[None, :]
    count = index.numel()
    local = torch.arange(count).view(index.shape)
    a, b, c, d = local[:-1, :-1], local[:-1, 1:], local[1:, :-1], local[1:, 1:]
    faces = torch.stack([a, c, d, a, d, b], dim=-1).reshape(-1, 3)
    kept_material = head.material[index.to(device)]
    may_grow = _may_grow(kept_material.cpu()).flatten()
    faces = faces[may_grow[faces].any(1)]  # none over eyes, cheeks and throat
    return index.to(device), faces.to(device), kept_material


def _may_grow(material: Tensor) -> Tensor:
    """Where (R,C) any hairstyle comes near, of azimuths (radians) and levels (R,C,2)."""
    around = material[..., 0].rad2deg().abs().numpy()
    lowest = np.interp(around, _AZIMUTH, np.min(list(_HAIRLINES.values()), axis=0))
    return material[..., 1] > torch.from_numpy(lowest) - _EDGE


def _growth(keys: Tensor, azimuth: Tensor, level: Tensor, style: Tensor) -> Tensor:
    """How far (B,R,C) mm each place lies inside the hairy part."""
    device = keys.device
    table = torch.tensor([_HAIRLINES[s] for s in _STYLES], device=device, dtype=torch.float32)
    knots = torch.tensor(_AZIMUTH, device=device, dtype=torch.float32)
    around = azimuth[0].abs().contiguous()
    right = torch.searchsorted(knots, around).clamp(1, len(knots) - 1)
    share = ((around - knots[right - 1]) / (knots[right] - knots[right - 1])).clamp(0, 1)
    lines = table[style]
    limit = lines[:, right - 1] * (1 - share) + lines[:, right] * share
    front = torch.exp(-((around / 48) ** 4))
    draw = uniform(keys, _LIMIT, 4, low=-1, high=1)
    limit = (
        limit + 5 * draw[:, :1] * front + 8 * draw[:, 1:2] * torch.exp(-(((around - 74) / 9) ** 2))
    )
    # A parting or swept fringe is lopsided; strands make the edge ragged.
    sweep = torch.sin(azimuth[0].deg2rad() * 2.2) * front
    limit = limit + 10 * draw[:, 2:3] * sweep
    lower = torch.where(limit < -100, 0.0, 1.0)
    fringe = table[style, :1] < 80
    ragged = torch.where(style[:, None] >= _STYLES.index("hat"), 0.0, 1.0) * lower
    ragged = ragged * torch.where(fringe, 1.0, 0.6)
    limit = limit + ragged * 2.2 * normal(keys, _JITTER, azimuth.shape[1])
    # Distance to the hairline, not height above it: the line is steep beside the face.
    slope = torch.gradient(limit, spacing=(azimuth[0] * 1.4,), dim=1)[0].abs()
    return (level - limit[:, None, :]) / (1 + slope**2).sqrt().clamp(max=4)[:, None, :]


def _symmetric_noise(keys: Tensor, rows: int, columns: int) -> Tensor:
    """Smooth lumps (B,rows,columns), equal at the two sides of the back seam."""
    noise = normal(keys, _LUMPS, 1, 7, 10)
    noise[..., -1] = noise[..., 0]
    field = functional.interpolate(noise, size=(rows, columns), mode="bilinear", align_corners=True)
    return field[:, 0]


def grow_hair(
    head: ProceduralHead, vertices: Tensor, normals: Tensor, albedo: Tensor, keys: Tensor
) -> Shell:
    """Give each head a haircut, a hat or a scarf.

    Args:
        head: the model.
        vertices: (B,V,3) head space, mm.
        normals: (B,V,3) unit, head space.
        albedo: (B,V,3) linear; the hair takes the colour that the scalp has in it.
        keys: (B,).
    """
    index, faces, material = shell_layout(head)
    azimuth, level = material[..., 0].rad2deg(), material[..., 1]
    chances = torch.tensor(_CHANCES, device=keys.device).cumsum(0)
    draw = uniform(keys, _STYLE, 2)
    style = torch.searchsorted(chances, draw[:, 0].contiguous())
    has_shell = style < len(_STYLES)
    style = style.clamp(max=len(_STYLES) - 1)
    growth = _growth(keys, azimuth, level, style)

    top = torch.tensor(_TOP_VOLUME, device=keys.device)[style]
    sides = torch.tensor(_SIDE_VOLUME, device=keys.device)[style]
    volume = uniform(keys, _VOLUME, 2, low=0.55, high=1.5)
    blend = ((level - 40) / 60).clamp(0, 1)
    thick = (top * volume[:, 0])[:, None, None] * blend
    thick = thick + (sides * volume[:, 1])[:, None, None] * (1 - blend)
    is_cloth = style >= _STYLES.index("hat")
    lumps = (
        _symmetric_noise(keys, *azimuth.shape) * torch.where(is_cloth, 0.04, 0.16)[:, None, None]
    )
    # A quick rise behind the hairline, then full volume some centimetres inside.
    inside = (growth / 5).clamp(0, 1)
    depth = (growth / 34).clamp(0, 1)
    rise = inside * inside * (3 - 2 * inside) * (0.22 + 0.78 * depth * (2 - depth))
    offset = thick * (1 + lumps) * rise - _INSET * (1 - inside)
    offset = torch.where(has_shell[:, None, None], offset, -_INSET)
    growth = torch.where(has_shell[:, None, None], growth, -50.0)
    fringe = torch.tensor([_HAIRLINES[s][0] < 80 for s in _STYLES], device=keys.device)[style]
    up_swept = torch.where(fringe | is_cloth, 0.0, 0.4 + 0.8 * draw[:, 1])
    position = _place(head, vertices, normals, index, azimuth, level, growth, offset, up_swept)
    # The shell alone is the hair; a hat leaves the painted hair around it.
    bare = torch.where(has_shell, ~is_cloth, draw[:, 1] < 0.6)
    hue = _shell_color(head, albedo, keys, is_cloth)
    shade = 0.45 + 0.55 * (growth / 26).clamp(0, 1)
    hides = torch.tensor([_HAIRLINES[s][9] < 0 for s in _STYLES], device=keys.device)[style]
    return Shell(
        vertices=position.flatten(1, 2),
        normals=grid_normals(position).flatten(1, 2),
        faces=faces,
        color=hue,
        is_cloth=is_cloth.float(),
        texture=torch.stack([azimuth, level], dim=-1).flatten(0, 1),
        shade=torch.where(is_cloth[:, None, None], 1.0, shade).flatten(1),
        density=torch.where(is_cloth[:, None, None], 1.0, growth / 9).clamp(0, 1).flatten(1),
        bare=bare.float(),
        covers_ears=(hides & has_shell).float(),
    )


def _place(
    head: ProceduralHead, vertices: Tensor, normals: Tensor, index: Tensor, azimuth: Tensor,
    level: Tensor, growth: Tensor, offset: Tensor, up_swept: Tensor,
) -> Tensor:  # fmt: skip
    """Push the shell out; below the ears it hangs from the widest level above."""
    smooth = vertices - head.ear_relief
    base = smooth[:, index.flatten()].view(len(vertices), *index.shape, 3)
    outward = normals[:, index.flatten()].view_as(base).clone()
    outward[:, 0] = outward[:, 1].mean(1, keepdim=True)  # the crown is a single point
    radial = torch.stack(
        [azimuth.deg2rad().sin(), torch.zeros_like(azimuth), azimuth.deg2rad().cos()], dim=-1
    )
    bridged = bridge_ears(base, azimuth[0], bulge=6.0)
    base = torch.where((growth > 0)[..., None], bridged, base)
    lower = ((35 - level) / 40).clamp(0, 1)
    beside_ear = ((azimuth.abs() - 103).abs() < 24) & (level < 50)
    lower = torch.where(beside_ear, 1.0, lower)[..., None]
    outward = outward * (1 - lower) + radial * lower
    # Without a fringe the hair over the forehead stands up and back.
    front = torch.exp(-((azimuth / 50) ** 4)) * ((level - 55) / 25).clamp(0, 1)
    swept = (up_swept[:, None, None] * front)[..., None]
    direction = functional.normalize(outward + swept * outward.new_tensor([0.0, 0.9, -0.2]), dim=-1)
    position = base + direction * offset[..., None]
    ear_row = int(torch.argmin((level[:, level.shape[1] // 2] - 12).abs()))
    axis = position.new_tensor([0.0, 0.0, -10.0])
    reach = ((base[:, ear_row] - axis) * radial[ear_row]).sum(-1)[:, None] * 0.97
    present = (growth / 8).clamp(0, 1)
    own = ((position - axis) * radial).sum(-1)
    hanging = torch.where(level < 0, reach - 0.04 * (-level) + offset, own)
    push = ((hanging - own).clamp(min=0) * present * (azimuth.abs() > 58))[..., None]
    return position + radial * push


def bridge_ears(points: Tensor, azimuth: Tensor, bulge: float) -> Tensor:
    """Replace the ears of a grid (B,R,C,3) by arcs from the cheek to the nape.

    Args:
        points: rows run down, columns to the subject's left, mm.
        azimuth: (C,) degrees of the columns.
        bulge: how far the arcs stand out of their chords, mm.
    """
    out = points
    for side in (-1, 1):
        angle = azimuth * side
        first, last = int((angle - 83).abs().argmin()), int((angle - 123).abs().argmin())
        share = ((angle - angle[first]) / (angle[last] - angle[first]))[:, None]
        chord = torch.lerp(points[:, :, first, None], points[:, :, last, None], share)
        arc = bulge * (share * (1 - share) * 4).clamp(min=0) * points.new_tensor([side, 0.0, 0.0])
        over = ((share > 0) & (share < 1))[None, None]
        out = torch.where(over, chord + arc, out)
    return out


def hide_ears(head: ProceduralHead, vertices: Tensor, covered: Tensor) -> Tensor:
    """Flatten the ears of heads (B,V,3) where `covered` (B,) is above 0."""
    rows, columns = (int(n) for n in head.grid_shape)
    grid = vertices.view(-1, rows, columns, 3)
    level = head.material[:, 1].view(rows, columns)
    azimuth = head.material[:columns, 0].rad2deg()
    beside = level[:, int((azimuth - 100).abs().argmin())]
    near = ((beside > -42) & (beside < 48))[:, None, None] & (covered > 0)[:, None, None, None]
    return torch.where(near, bridge_ears(grid, azimuth, bulge=2.0), grid).flatten(1, 2)


def _shell_color(head: ProceduralHead, albedo: Tensor, keys: Tensor, is_cloth: Tensor) -> Tensor:
    """Linear rgb (B,3): the painted scalp's mean, sometimes dyed; cloth has any colour."""
    scalp = head.regions["scalp"]
    hair = (albedo * scalp[:, None]).sum(1) / scalp.sum()
    draw = uniform(keys, _DYE, 5)
    hair = hair * (0.75 + 0.5 * draw[:, 3:4])
    value = 0.03 + 0.5 * draw[:, 3:4] ** 2
    cloth = value * (0.25 + 1.5 * draw[:, :3])
    return torch.where(is_cloth[:, None], cloth, hair).clamp(0.004, 0.85)
