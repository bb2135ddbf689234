"""PRNet's own post-processing, rule by rule as released, for parity.

`lit_face.rendering` decides visibility and draws meshes by better rules; these functions repeat
those of PRNet, whose published pictures and masks were made with them, in compiled code. Points are
in the house's image space (x right, y down, smaller depth = nearer; PRNet's z is minus the depth).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numba import njit
from scipy import ndimage
from torch import Tensor

from lit_face.geometry.sampling import Mode, sample_image
from lit_face.geometry.similarity2d import apply_similarity
from lit_face.io.files import atomic_write
from lit_face.io.images import write_image

_EMPTY = -999999.0
_NOTHING_YET = -99999.0  # nearest z of a pixel before the first vertex
_DEPTH_TOLERANCE = 2.0  # pixels
_DILATIONS = 2


class FlatRendering(NamedTuple):
    """A mesh drawn with one colour and one depth a triangle.

    Attributes:
        image: (B,C,H,W), 0 where empty.
        face_index: (B,H,W) int64, -1 where empty.
    """

    image: Tensor
    face_index: Tensor


def unwarp(maps: Tensor, transform: Tensor) -> Tensor:
    """Bring position maps from pixels of the crop to those of the photo; depth is scaled with them.

    Args:
        maps: (B,3,S,S) pixels of the crop.
        transform: (B,3,3) pixels of the photo to pixels of the crop.
    """
    points = apply_similarity(torch.linalg.inv(transform), maps.flatten(2).mT)
    return points.mT.reshape(maps.shape)


def vertex_colors(image: Tensor, image_vertices: Tensor) -> Tensor:
    """Take each vertex's colour (B,V,C) from the nearest pixel, the border's where it lies outside.

    Args:
        image: (B,C,H,W).
        image_vertices: (B,V,3) pixels; they are not changed.
    """
    return sample_image(image, image_vertices[..., :2], "nearest", "border").mT


def texture(image: Tensor, maps: Tensor, mode: Mode = "bilinear") -> Tensor:
    """Read the photo at every texel (B,C,S,S), 0 outside; visible or not.

    Args:
        image: (B,C,H,W).
        maps: (B,3,S,S) pixels of the photo.
        mode: PRNet's demo reads bilinearly, its texture editing takes the nearest pixel.
    """
    return sample_image(image, maps[:, :2].permute(0, 2, 3, 1), mode)


def render_flat(
    image_vertices: Tensor, faces: Tensor, colors: Tensor, size: tuple[int, int]
) -> FlatRendering:
    """Draw a mesh as PRNet does: a triangle has the mean colour and depth of its corners.

    Args:
        image_vertices: (B,V,3) pixels.
        faces: (F,3) int64.
        colors: (B,V,C).
        size: height and width.
    """
    index = torch.stack([_flat_faces(points, faces, size) for points in image_vertices])
    face_colors = colors[:, faces].mean(dim=2)
    rows = torch.arange(len(index))[:, None, None]
    image = torch.where(index[..., None] >= 0, face_colors[rows, index.clamp(min=0)], 0)
    return FlatRendering(image.permute(0, 3, 1, 2), index)


def depth_image(
    image_vertices: Tensor, faces: Tensor, size: tuple[int, int], to_one: bool = False
) -> Tensor:
    """Draw nearness (B,1,H,W), minus the depth in pixels; PRNet's rearmost vertex has 0.

    Args:
        image_vertices: (B,V,3) pixels.
        faces: (F,3) int64.
        size: height and width.
        to_one: divide by the largest value of a vertex, to look at it.
    """
    nearness = -image_vertices[..., 2:]
    if to_one:
        nearness = nearness / nearness.amax(dim=1, keepdim=True)
    return render_flat(image_vertices, faces, nearness, size).image


def box_depth_buffer(image_vertices: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    """Fill each triangle's bounding box with its mean nearness: (B,H,W), -999999 where empty."""
    buffers = [_draw(points, faces, size, "box")[1] for points in image_vertices]
    return torch.from_numpy(np.stack(buffers))


def prnet_visibility(
    image_vertices: Tensor, faces: Tensor, size: tuple[int, int], dilations: int = _DILATIONS
) -> Tensor:
    """Tell by PRNet's rule whether vertices are seen: (B,V), 1 seen and 0 not.

    A vertex counts as seen where it is at most 2 pixels away from a depth buffer of bounding boxes
    and not behind a vertex of the same pixel that came before it. As that misses half of what is
    seen, all corners of a triangle that has one seen corner are then seen, twice.
    `lit_face.rendering.visibility` has a rule without these detours.

    Args:
        image_vertices: (B,V,3) pixels.
        faces: (F,3) int64.
        size: height and width.
        dilations: 2 in PRNet, 0 for the first step alone.
    """
    rows = []
    for points in image_vertices:
        _, buffer = _draw(points, faces, size, "box")
        seen = _seen_vertices(_prnet_frame(points), buffer, _DEPTH_TOLERANCE)
        corners = faces.cpu().numpy()
        for _ in range(dilations):
            seen[corners[seen[corners].any(axis=1)]] = True
        rows.append(torch.from_numpy(seen))
    return torch.stack(rows).to(image_vertices)


def uv_visibility_mask(visibility: Tensor, texels: Tensor, faces: Tensor, uv_size: int) -> Tensor:
    """Draw what is seen into the UV map and clean it as PRNet does: (B,S,S) bool.

    Args:
        visibility: (B,T) of the map's texels.
        texels: (T,) flat indices (row * S + column).
        faces: (F,3) between these texels.
        uv_size: S.
    """
    rows = torch.div(texels, uv_size, rounding_mode="floor")
    points = torch.stack([texels % uv_size, rows, torch.zeros_like(rows)], dim=1).double()
    size = (uv_size, uv_size)
    drawn = render_flat(
        points.expand(len(visibility), -1, -1), faces, visibility[..., None].double(), size
    )
    square = np.ones((4, 4), dtype=bool)
    cleaned = []
    for mask in drawn.image[:, 0].numpy() > 0:
        mask = ndimage.binary_erosion(ndimage.binary_closing(mask), square)
        cleaned.append(ndimage.binary_erosion(ndimage.binary_closing(mask), square, iterations=3))
    return torch.from_numpy(np.stack(cleaned))


def write_prnet_obj(
    path: str | Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    colors: np.ndarray | None = None,
    uv: np.ndarray | None = None,
    texture_picture: np.ndarray | None = None,
    absolute: bool = False,
) -> None:
    """Write the .obj text that PRNet writes: corners in reverse order, numbers as Python has them.

    Args:
        path: `.obj` file; with `uv`, `<stem>.mtl` and `<stem>_texture.png` are written beside it.
        vertices: (V,3) as they shall stand in the file; PRNet turns y over before (h - 1 - y).
        faces: (F,3).
        colors: (V,3), appended to the vertices as given.
        uv: (V,2), u right and v DOWN as PRNet has them.
        texture_picture: (H,W,3) uint8 RGB, needed with `uv`.
        absolute: name the files beside it by absolute paths, as PRNet does; they break when the
            folder moves.
    """
    path = Path(path)
    table = vertices if colors is None else np.concatenate([vertices, colors], axis=1)
    lines = ["v " + " ".join(f"{number}" for number in row) for row in table]
    texts = {path: lines}
    corner = "{0}"
    if uv is not None:
        if texture_picture is None:
            raise ValueError(f"{path}: uv needs a texture picture.")
        folder = f"{path.parent.resolve()}/" if absolute else ""
        picture = path.with_name(f"{path.stem}_texture.png")
        write_image(picture, texture_picture)
        material = ["newmtl FaceTexture", f"map_Kd {folder}{picture.name}"]
        lines.insert(0, f"mtllib {folder}{path.stem}.mtl")
        lines += [f"vt {u} {1 - v}" for u, v in uv]
        lines.append("usemtl FaceTexture")
        texts = {path.with_suffix(".mtl"): material, path: lines}
        corner = "{0}/{0}"
    lines += ["f " + " ".join(corner.format(i + 1) for i in face[::-1]) for face in faces]
    for file, content in texts.items():
        with atomic_write(file) as temporary:
            temporary.write_text("\n".join(content) + "\n")


def _flat_faces(points: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.from_numpy(_draw(points, faces, size, "triangle")[0])


def _draw(
    points: Tensor, faces: Tensor, size: tuple[int, int], shape: Literal["triangle", "box"]
) -> tuple[np.ndarray, np.ndarray]:
    """Return face index (H,W) int64 and nearness (H,W) float64 of triangles of constant depth."""
    face_index = np.full(size, -1, dtype=np.int64)
    nearest = np.full(size, _EMPTY)
    corners = np.ascontiguousarray(faces.cpu().numpy())
    _draw_flat(_prnet_frame(points), corners, face_index, nearest, shape == "box")
    return face_index, nearest


def _prnet_frame(points: Tensor) -> np.ndarray:
    array = points.detach().cpu().double().numpy() * np.array([1.0, 1.0, -1.0])
    return np.ascontiguousarray(array)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _draw_flat(points, faces, face_index, nearest, whole_box):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Draw triangles at their mean z, larger = nearer; edges opposite the first corner are out."""
    height, width = nearest.shape
    for face in range(faces.shape[0]):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        ax, bx, cx = points[a, 0], points[b, 0], points[c, 0]
        ay, by, cy = points[a, 1], points[b, 1], points[c, 1]
        left = max(int(np.ceil(min(ax, min(bx, cx)))), 0)
        right = min(int(np.floor(max(ax, max(bx, cx)))), width - 1)
        top = max(int(np.ceil(min(ay, min(by, cy)))), 0)
        bottom = min(int(np.floor(max(ay, max(by, cy)))), height - 1)
        depth = (points[a, 2] + points[b, 2] + points[c, 2]) / 3.0
        v0x, v0y, v1x, v1y = cx - ax, cy - ay, bx - ax, by - ay
        dot00, dot01, dot11 = v0x * v0x + v0y * v0y, v0x * v1x + v0y * v1y, v1x * v1x + v1y * v1y
        determinant = dot00 * dot11 - dot01 * dot01
        inverse = 0.0 if determinant == 0 else 1.0 / determinant
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                if not depth > nearest[row, column]:
                    continue
                if not whole_box:
                    v2x, v2y = column - ax, row - ay
                    dot02, dot12 = v0x * v2x + v0y * v2y, v1x * v2x + v1y * v2y
                    u = (dot11 * dot02 - dot01 * dot12) * inverse
                    v = (dot00 * dot12 - dot01 * dot02) * inverse
                    if not (u >= 0 and v >= 0 and u + v < 1):
                        continue
                nearest[row, column] = depth
                face_index[row, column] = face


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _seen_vertices(points, buffer, tolerance):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return (V,) bool: near the depth buffer, and not behind a vertex that came before."""
    height, width = buffer.shape
    front = np.full(buffer.shape, _NOTHING_YET)
    seen = np.zeros(points.shape[0], dtype=np.bool_)
    for vertex in range(points.shape[0]):
        x, y, z = points[vertex, 0], points[vertex, 1], points[vertex, 2]
        if not (np.floor(x) >= 0 and np.ceil(x) <= width - 1):
            continue
        if not (np.floor(y) >= 0 and np.ceil(y) <= height - 1):
            continue
        row, column = int(np.round(y)), int(np.round(x))
        if abs(z - buffer[row, column]) < tolerance and z >= front[row, column]:
            front[row, column] = z
            seen[vertex] = True
    return seen
