"""The picture of a reconstruction, and the rows of a batch that can be rendered at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera
from lit_face.rendering.material import Radiance
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.scene import material_of, render_face
from lit_face.types import FaceBatch, Reconstruction

_BATCHED = (
    "image_vertices", "vertices", "landmarks", "visibility", "camera", "light", "coefficients",
    "textures", "vertex_colors",
)  # fmt: skip


def has_statistical_maps(face: Reconstruction) -> bool:
    """Whether the albedo maps are a statistical part and a residual one."""
    return {"diffuse_statistical", "specular_statistical"} <= set(face.textures or {})


def finite_rows(face: Reconstruction) -> Tensor:
    """Return (B,) bool: which faces have finite numbers everywhere."""
    finite = torch.ones(len(face), dtype=torch.bool, device=face.vertices.device)
    for name in _BATCHED:
        for value in _tensors(getattr(face, name)):
            finite &= value.isfinite().flatten(1).all(1)
    return finite


def rows_of(face: Reconstruction, rows: Tensor) -> Reconstruction:
    """Pick faces of a batch; what they share stays."""
    changes: dict[str, Any] = {name: _picked(getattr(face, name), rows) for name in _BATCHED}
    return replace(face, **changes)


def batch_rows(batch: FaceBatch, rows: Tensor) -> FaceBatch:
    """Pick pictures of a batch."""
    names = [name for name, keep in zip(batch.sample_id, rows.tolist(), strict=True) if keep]
    picked = batch.map(lambda tensor: tensor[rows])
    picked.sample_id = names
    return picked


def render(
    renderer: RasterMaterialRenderer,
    face: Reconstruction,
    size: tuple[int, int],
    statistical: bool = False,
) -> Radiance:
    """Render faces that `can_be_rendered`.

    Args:
        renderer: shades them.
        face: finite.
        size: height and width, pixels.
        statistical: leave the residual maps out.

    Raises:
        ValueError: the face has no maps, camera or light.
    """
    return render_face(renderer, face, size, material_of(face, statistical))


def _picked(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[rows]
    if isinstance(value, AffineCamera | PerspectiveCamera):
        return value.map(lambda tensor: tensor[rows])
    if isinstance(value, Mapping):
        return {name: _picked(item, rows) for name, item in value.items()}
    return value


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, AffineCamera | PerspectiveCamera):
        return [item for item in vars(value).values() if isinstance(item, Tensor)]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    return []
