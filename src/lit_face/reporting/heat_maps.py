"""Pictures of where a surface is off, in mm: meshes seen from three sides, coloured by distance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.rendering.drawing import to_pixels
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize

SIDES = (("from the subject's right", -45.0), ("frontal", 0.0), ("from the subject's left", 45.0))
_UNSIGNED, _SIGNED = "viridis", "coolwarm"  # of even steps to the eye, and to most colour-blind
_UNKNOWN = (0.3, 0.3, 0.3)  # of vertices without a distance
_SHADE = 0.35  # of the light that falls off towards the rim
_FINE = 2  # samples a pixel and axis
_MARGIN = 0.04  # around the mesh, share of the picture's side
_PERCENTILE = 95
_DPI = 100


@dataclass(frozen=True, eq=False)
class HeatMesh:
    """A mesh with a distance at each vertex.

    Attributes:
        vertices: (V,3) mm, y up and z out of the face; see `upright`.
        faces: (F,3), counter-clockwise seen from outside.
        distance: (V,) mm; NaN where it is unknown.
    """

    vertices: Any
    faces: Any
    distance: Any


def heat_maps(
    meshes: Mapping[str, HeatMesh],
    limit: float | None = None,
    size: int = 280,
    sides: Sequence[tuple[str, float]] = SIDES,
    label: str = "distance, mm",
) -> NDArray[np.uint8]:
    """Draw meshes, a row each, from several sides, with one bar of colours for all.

    Where a distance is negative, colours run from blue over grey to red; otherwise from dark to
    bright. Unknown is dark grey.

    Args:
        meshes: title -> mesh.
        limit: distance at the end of the bar; None takes one that a twentieth lies beyond.
        size: of a picture, pixels.
        sides: title and yaw in degrees; positive shows the subject's left.
        label: of the bar.

    Returns:
        (H,W,3) RGB.

    Raises:
        ValueError: no meshes, or distances that do not fit the vertices.
    """
    if not meshes:
        raise ValueError("heat_maps needs a mesh at least.")
    for title, mesh in meshes.items():
        if len(mesh.distance) != len(mesh.vertices):
            raise ValueError(
                f"{title}: {len(mesh.distance)} distances for {len(mesh.vertices)} vertices."
            )
    values = np.concatenate([np.asarray(mesh.distance, np.float64) for mesh in meshes.values()])
    values = values[np.isfinite(values)]
    is_signed = bool((values < 0).any())
    end = _nice(float(np.percentile(np.abs(values), _PERCENTILE)) if len(values) else 1.0)
    end = end if limit is None else limit
    scale = Normalize(-end if is_signed else 0.0, end)
    colors = ScalarMappable(scale, colormaps[_SIGNED if is_signed else _UNSIGNED])
    rows, columns = len(meshes), len(sides)
    figure = Figure(
        figsize=((columns * size + 110) / _DPI, (rows * (size + 24) + 24) / _DPI),
        dpi=_DPI, layout="constrained",
    )  # fmt: skip
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for line, (title, mesh) in zip(axes, meshes.items(), strict=True):
        for axis, (side, yaw) in zip(line, sides, strict=True):
            axis.imshow(heat_picture(mesh, colors, yaw, size))
            axis.set_axis_off()
            axis.set_title(f"{title}, {side}" if title else side, fontsize=8)
    is_beyond = bool(len(values)) and float(np.abs(values).max()) > end
    extend = ("both" if is_signed else "max") if is_beyond else "neither"
    bar = figure.colorbar(colors, ax=axes, extend=extend, fraction=0.05, aspect=18)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@fp32_region()
def heat_picture(
    mesh: HeatMesh, colors: ScalarMappable, yaw: float, size: int
) -> NDArray[np.uint8]:
    """Draw one mesh from one side on white, (size,size,3).

    Args:
        mesh: see `HeatMesh`.
        colors: distance to colour.
        yaw: degrees; positive shows the subject's left.
        size: side of the picture, pixels.
    """
    vertices = torch.as_tensor(np.asarray(mesh.vertices), dtype=torch.float32)
    faces = torch.as_tensor(np.asarray(mesh.faces), dtype=torch.int64)
    values = torch.as_tensor(np.asarray(mesh.distance), dtype=torch.float32)[:, None]
    centre = (vertices.amin(0) + vertices.amax(0)) / 2
    extent = float(2 * (vertices - centre).norm(dim=1).max())
    turn = axis_angle_to_matrix(torch.tensor([0.0, math.radians(-yaw), 0.0]))
    turned = (vertices - centre) @ turn.T * torch.tensor([1.0, -1.0, -1.0])
    side = size * _FINE
    pixels = turned * (side * (1 - 2 * _MARGIN) / extent)
    pixels[:, :2] += (side - 1) / 2
    found = rasterize(pixels[None], faces, (side, side))
    fragments = fragments_of(pixels[None], faces, found)
    # Of normals in the picture's frame, which is right-handed, z away from the viewer.
    normals = fragments.interpolate(vertex_normals(pixels[None], faces))
    facing = F.normalize(normals, dim=1)[:, 2].abs()
    heat = fragments.interpolate(values[None])[:, 0].numpy()
    rgb = colors.to_rgba(np.nan_to_num(heat))[:, :3]
    rgb = np.where(np.isfinite(heat)[:, None], rgb, _UNKNOWN)
    shade = (1 - _SHADE) + _SHADE * facing
    lit = torch.from_numpy(rgb).float() * shade[:, None]
    picture = torch.where(found[:, None] >= 0, fragments.to_image(lit), torch.ones(1))
    return np.asarray(to_pixels(F.avg_pool2d(picture, _FINE))[0])


@fp32_region()
def upright(vertices: Tensor, faces: Tensor, uv: Tensor) -> Tensor:
    """Turn a face so that y is up and z out of it, by how its UV layout lies on it.

    Args:
        vertices: (V,3) in any frame.
        faces: (F,3) int64, counter-clockwise seen from outside.
        uv: (V,2) of a layout that shows the face upright, v up.

    Returns:
        (V,3), turned only.
    """
    out = F.normalize(vertex_normals(vertices[None], faces)[0].mean(0), dim=0)
    place = uv - uv.mean(0)
    slopes = torch.linalg.lstsq(place.double(), (vertices - vertices.mean(0)).double()).solution
    up = slopes[1].to(out)
    up = F.normalize(up - (up @ out) * out, dim=0)
    axes = torch.stack([torch.linalg.cross(up, out), up, out])
    return vertices @ axes.T


def _nice(value: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    value = max(value, 1e-3)
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))
