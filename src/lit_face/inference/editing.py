"""Texture editing: parts of a face, or all of it, replaced from another photo or a texture file.

Two reconstructions of one method share their mesh, so each pixel of the edited face is a point of
the surface, and the point's pixel in the other photo is known: colours go from photo to photo
without a texture map between them that would blur.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.sampling import sample_image
from lit_face.inference.face import Face
from lit_face.inference.textures import photo_colors
from lit_face.io.images import read_image
from lit_face.rendering.interpolate import Fragments, fragments_of
from lit_face.rendering.rasterize import rasterize
from lit_face.types import Reconstruction

Blend = Literal["poisson", "none"]
Picture = NDArray[np.uint8]

_ROOM = 8  # pixels around the face that the blending sees
_EDGE = 0.015  # of the face's extent: how far the edit stays away from the silhouette
_SMALLEST = 16  # pixels of an edit that can be blended
_LARGEST = 1024  # pixels of a side that are blended as they are


@dataclass(frozen=True, eq=False)
class Reference:
    """A face of another photo.

    Attributes:
        photo: (H,W,3) uint8 RGB.
        face: one of its faces, reconstructed with the same model.
    """

    photo: Picture
    face: Face


def edit_face(
    photo: Picture,
    face: Face,
    source: Reference | Picture,
    region: NDArray[np.floating] | NDArray[np.bool_] | Tensor,
    blend: Blend = "poisson",
) -> Picture:
    """Replace a region of a face.

    What the photo (or the reference's photo) does not show stays as it is.

    Args:
        photo: (H,W,3) uint8 RGB; not changed.
        face: the face in it to edit.
        source: a face of another photo, or a texture (S,S,3) uint8 on the UV layout, as
            `reconstruct.py outputs=[texture]` writes it.
        region: UV map (S,S), of which values from 0.5 are edited (`region_mask`).
        blend: 'poisson' keeps the photo's colours at the border of the region and takes the
            source's gradients inside (Perez et al. 2003); 'none' copies.

    Returns:
        The edited photo; pixels outside of the region are those of the photo.

    Raises:
        ValueError: shapes that do not fit, another mesh, or an unknown blend.
    """
    if blend not in ("poisson", "none"):
        raise ValueError(f"blend should be 'poisson' or 'none', found {blend!r}.")
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise ValueError(f"photo should be (H,W,3) uint8, found {photo.dtype} {photo.shape}.")
    reconstruction = face.reconstruction
    window = _window(reconstruction.image_vertices[0], photo.shape[:2])
    if window is None:
        return photo.copy()
    rows, columns = window
    fragments = _fragments(reconstruction, window)
    weight = _region_weight(fragments, reconstruction, region)
    if isinstance(source, Reference):
        colors, shown = _reference_colors(fragments, reconstruction, source)
        weight = weight * shown
    else:
        colors = _texture_colors(fragments, reconstruction, source)
    inside = fragments.to_image((weight >= 0.5).float()[:, None])[0, 0].bool().numpy()
    closed = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    mask = (closed & _inner_face(fragments)).astype(bool)
    result = photo.copy()
    if mask.sum() < _SMALLEST:
        return result
    pasted = fragments.to_image(colors.clamp(0, 1) * 255)[0].permute(1, 2, 0)
    part = result[rows, columns]
    new = np.where(mask[..., None], pasted.round().to(torch.uint8).numpy(), part)
    result[rows, columns] = _blended(part, new, mask) if blend == "poisson" else new
    return result


def region_mask(region: str | Sequence[str], regions: Mapping[str, Tensor]) -> NDArray[np.float32]:
    """Return the UV map of a region.

    Args:
        region: names ('eyes', 'nose', 'mouth', 'face'), or the file of a picture on the UV layout
            that is bright where the face is edited; several are joined.
        regions: of the predictor: name -> (S,S).

    Raises:
        ValueError: no such name.
        FileNotFoundError: no such picture.
    """
    joined: NDArray[np.float32] | None = None
    for name in [region] if isinstance(region, str) else region:
        if name in regions:
            mask = regions[name].detach().cpu().float().numpy()
        elif Path(name).suffix:
            mask = read_image(name).mean(axis=2, dtype=np.float32) / 255
        else:
            known = ", ".join(regions) or "none"
            raise ValueError(
                f"There is no region '{name}'; this model knows {known}. A picture of the region "
                "on the UV layout (mask.png) does as well."
            )
        if joined is not None and joined.shape != mask.shape:
            mask = cv2.resize(mask, joined.shape[::-1], interpolation=cv2.INTER_LINEAR)
        joined = mask if joined is None else np.maximum(joined, mask)
    if joined is None:
        raise ValueError("region should name at least one region or picture.")
    return joined


def _window(points: Tensor, size: tuple[int, int]) -> tuple[slice, slice] | None:
    """Return rows and columns of the photo around a face, None where it is outside."""
    low = points[:, :2].amin(0).floor().long() - _ROOM
    high = points[:, :2].amax(0).ceil().long() + _ROOM + 1
    left, top = (max(0, int(edge)) for edge in low)
    right, bottom = min(size[1], int(high[0])), min(size[0], int(high[1]))
    if right <= left or bottom <= top:
        return None
    return slice(top, bottom), slice(left, right)


def _fragments(reconstruction: Reconstruction, window: tuple[slice, slice]) -> Fragments:
    """Return the pixels of the window (a batch of one) that show the face."""
    rows, columns = window
    origin = torch.tensor([columns.start, rows.start, 0.0])
    points, faces = reconstruction.image_vertices - origin, reconstruction.faces
    size = (rows.stop - rows.start, columns.stop - columns.start)
    return fragments_of(points, faces, rasterize(points, faces, size))


def _region_weight(
    fragments: Fragments,
    reconstruction: Reconstruction,
    region: NDArray[np.floating] | NDArray[np.bool_] | Tensor,
) -> Tensor:
    """Return (N,) how much of each fragment belongs to the region and is seen."""
    mask = torch.as_tensor(region).float()
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        raise ValueError(f"region should be a square UV map (S,S), found {tuple(mask.shape)}.")
    weight = _at_uv(mask[None, None], fragments, reconstruction)[:, 0]
    return weight * _shown(fragments, reconstruction)


def _shown(fragments: Fragments, reconstruction: Reconstruction) -> Tensor:
    """Return (N,) 1 where the photo of a face shows the fragments' surface points."""
    if reconstruction.visibility is None:
        return torch.ones(len(fragments.pixel))
    seen = fragments.interpolate(reconstruction.visibility[..., None])
    return (seen[:, 0] >= 0.5).float()


def _at_uv(maps: Tensor, fragments: Fragments, reconstruction: Reconstruction) -> Tensor:
    """Read a corner-aligned UV map (1,C,S,S) at the fragments: (N,C)."""
    size = maps.shape[-1]
    uv = fragments.interpolate(reconstruction.uv[None])
    texels = torch.stack([uv[:, 0], 1 - uv[:, 1]], dim=1) * (size - 1)
    return sample_image(maps, texels[None], padding="border")[0].T


def _reference_colors(
    fragments: Fragments, reconstruction: Reconstruction, source: Reference
) -> tuple[Tensor, Tensor]:
    """Return colours (N,3) of the same surface points in the other photo, and where it has them."""
    other = source.face.reconstruction
    if not torch.equal(other.faces, reconstruction.faces):
        raise ValueError(
            "The two faces have different meshes; reconstruct both photos with the same model."
        )
    points = fragments.interpolate(other.image_vertices[..., :2])
    extents = [(v.amax(1) - v.amin(1))[0, :2].max() for v in
               (other.image_vertices, reconstruction.image_vertices)]  # fmt: skip
    colors = photo_colors(source.photo, points, float(extents[0] / extents[1].clamp(min=1)))
    window = _window(other.image_vertices[0], source.photo.shape[:2])
    if window is None:
        return colors, torch.zeros(len(points))
    inner = torch.from_numpy(_inner_face(_fragments(other, window))).float()
    origin = points.new_tensor([window[1].start, window[0].start])
    inside = sample_image(inner[None, None], (points - origin)[None], "nearest")[0, 0]
    return colors, _shown(fragments, other) * inside


def _texture_colors(
    fragments: Fragments, reconstruction: Reconstruction, texture: Picture
) -> Tensor:
    if texture.dtype != np.uint8 or texture.ndim != 3 or texture.shape[2] != 3:
        raise ValueError(
            f"A texture should be (S,S,3) uint8, found {texture.dtype} {texture.shape}."
        )
    if texture.shape[0] != texture.shape[1]:
        raise ValueError(f"A texture should be square, found {texture.shape[:2]} (rows, columns).")
    maps = torch.from_numpy(np.ascontiguousarray(texture)).permute(2, 0, 1)[None].float() / 255
    return _at_uv(maps, fragments, reconstruction)


def _inner_face(fragments: Fragments) -> NDArray[np.uint8]:
    """Return (H,W) 1 where a face is, a little away from its silhouette.

    At the silhouette a photo shows hair or background, which an edit would let in. The edge of
    the photo is no silhouette: beyond it the face goes on.
    """
    _, height, width = fragments.shape
    face = np.zeros((height, width), np.uint8)
    face.reshape(-1)[fragments.pixel.numpy()] = 1
    side = 2 * max(1, round(_EDGE * max(cv2.boundingRect(face)[2:]))) + 1
    inner = cv2.erode(face, np.ones((side, side), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(inner)


def _blended(old: Picture, new: Picture, mask: NDArray[np.bool_]) -> Picture:
    """Clone the gradients of `new` into `old`, where the mask says, and nowhere else.

    What is added to `new` is smooth (it solves Laplace's equation), so for large faces it is found
    on a smaller copy.
    """
    height, width = mask.shape
    if max(height, width) <= _LARGEST:
        return np.where(mask[..., None], _poisson(old, new, mask), old)
    scale = _LARGEST / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small_old, small_new = (cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (old, new))
    small_mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
    if small_mask.sum() < _SMALLEST:
        return new
    added = _poisson(small_old, small_new, small_mask).astype(np.float32) - small_new
    weight = small_mask.astype(np.float32)[..., None]
    added, weight = (
        cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
        for values in (added * weight, weight)
    )
    added = added / np.maximum(weight, 1e-3)[..., None]
    blended = (new + added).clip(0, 255).round().astype(np.uint8)
    return np.where(mask[..., None], blended, old)


def _poisson(old: Picture, new: Picture, mask: NDArray[np.bool_]) -> Picture:
    """Clone the gradients of `new` into `old` around a mask; see `_blended`."""
    # Where the edge of the photo cuts the region, everything is mirrored there: then nothing is
    # prescribed at that edge, and colours are matched at the region's other borders alone.
    height, width = mask.shape
    sides = [height * mask[0].any(), height * mask[-1].any(),
             width * mask[:, 0].any(), width * mask[:, -1].any()]  # fmt: skip
    top, bottom, left, right = (int(side) for side in sides)

    def enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        mirrored = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_REFLECT)
        return np.asarray(cv2.copyMakeBorder(mirrored, 2, 2, 2, 2, cv2.BORDER_REPLICATE))

    inner = enlarged(mask.astype(np.uint8) * 255)
    inner[[0, 1, -2, -1]] = 0
    inner[:, [0, 1, -2, -1]] = 0
    # OpenCV places the mask by the middle of its bounding box.
    x, y, box_width, box_height = cv2.boundingRect(inner)
    centre = (x + box_width // 2, y + box_height // 2)
    cloned = cv2.seamlessClone(enlarged(new), enlarged(old), inner, centre, cv2.NORMAL_CLONE)
    return np.asarray(cloned[top + 2 : top + 2 + height, left + 2 : left + 2 + width])
