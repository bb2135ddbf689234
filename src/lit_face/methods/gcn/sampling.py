"""What the photo shows of a mesh: skin, colours of vertices, which are seen; mirrored vertices."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import Mode, sample_image
from lit_face.rendering.visibility import front_facing, vertex_visibility

SIDE = 224  # pixels; the frame of the radii
_DILATION, _EROSION = 2, 4  # radii, pixels
_SKIN_FROM = 0.5
MIRROR_TOLERANCE = 0.01  # of the diagonal of the mesh's box


@torch.no_grad()
def erode_skin(mask: Tensor) -> Tensor:
    """Take the border off a mask of skin: closes pinholes, then erodes twice.

    With ellipses of 5 and 9 pixels as in the reference, on pictures of other sizes in proportion
    (3 and 5 at 96). What lies outside of the picture never counts as not skin.

    Args:
        mask: (B,1,H,W) float in [0,1].

    Returns:
        The same shape and dtype; on a binary mask binary.
    """
    scale = mask.shape[-2] / SIDE
    dilation, erosion = (max(1, round(radius * scale)) for radius in (_DILATION, _EROSION))
    closed = _dilate(mask, dilation)
    return -_dilate(_dilate(-closed, erosion), erosion)


def sample_colours(image: Tensor, points: Tensor, interpolation: Mode = "bilinear") -> Tensor:
    """Read pictures at points; points outside read the border.

    Args:
        image: (B,C,H,W) float32 or float64.
        points: (B,V,2) x, y in pixels.
        interpolation: 'bilinear' or, as in the reference, 'nearest' (halves go to the even pixel).

    Returns:
        (B,V,C).
    """
    return sample_image(image, points, interpolation, padding="border").transpose(1, 2)


@fp32_region()
@torch.no_grad()
def seen_vertices(
    image_vertices: Tensor,
    faces: Tensor,
    size: tuple[int, int],
    skin: Tensor,
    depth_test: bool = True,
    perspective: bool = False,
    facing: Tensor | None = None,
) -> Tensor:
    """Tell for each vertex whether the photo shows it, and skin there.

    Args:
        image_vertices: (B,V,3) x, y in pixels, smaller depth = nearer.
        faces: (F,3) int64, counter-clockwise seen from outside.
        size: height and width of the photo, pixels.
        skin: (B,1,H,W) in [0,1], usually from `erode_skin`; read at the nearest pixel.
        depth_test: what another part of the face hides is not seen; the reference has no such
            test.
        perspective: the depth is the distance in front of a pinhole camera. Of depths that are
            relative to the head, as a `Reconstruction` has them, leave it false.
        facing: (B,V) bool, which vertices face the camera; None finds out from the picture. The
            reference has rotated normals that point to the viewer.

    Returns:
        (B,V), 1 for seen and 0 for hidden, in the dtype of the vertices.
    """
    height, width = size
    x, y, _ = image_vertices.unbind(-1)
    seen = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    if depth_test:
        seen &= vertex_visibility(image_vertices, faces, size, perspective=perspective) > 0
    seen &= front_facing(image_vertices, faces) if facing is None else facing
    seen &= sample_colours(skin, image_vertices[..., :2], "nearest")[..., 0] >= _SKIN_FROM
    return seen.to(image_vertices.dtype)


def mirror_pairs(mean_vertices: Tensor, tolerance: float = MIRROR_TOLERANCE) -> Tensor:
    """Find the pairs of mirrored vertices of a mean face.

    Args:
        mean_vertices: (V,3) head space; the face is symmetric about x = 0.
        tolerance: a vertex whose mirror image has no vertex nearer than this fraction of the
            diagonal of the mesh's box has no partner.

    Returns:
        (P,2) int64, each pair once, on the CPU: the nearest vertex of each vertex's mirror image.
        Vertices on the mid-line are their own image and left out.

    Raises:
        ValueError: no pair at all.
    """
    points = mean_vertices.detach().double().cpu().numpy()
    diagonal = float(np.linalg.norm(np.ptp(points, axis=0)))
    distance, partner = KDTree(points).query(points * (-1, 1, 1))
    own = np.linalg.norm(points - points[partner], axis=1)
    keep = (distance <= tolerance * diagonal) & (own > 1e-6 * diagonal)
    index = np.flatnonzero(keep)
    pairs = np.unique(np.sort(np.stack([index, partner[index]], axis=1), axis=1), axis=0)
    if not len(pairs):
        raise ValueError(
            f"None of the {len(points)} vertices has a mirrored one within {tolerance:g} of the "
            "mesh's diagonal; the mean face should be symmetric about x = 0."
        )
    return torch.from_numpy(pairs)


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """Flat dilation by OpenCV's ellipse, row by row from its tips."""
    half_widths = [round(math.sqrt(radius**2 - row**2)) for row in range(radius + 1)]
    widened = [mask]
    for _ in range(radius):
        widened.append(_step(widened[-1], 3))
    result = widened[half_widths[radius]]
    for row in range(radius - 1, -1, -1):
        result = torch.maximum(_step(result, 2), widened[half_widths[row]])
    return result


def _step(mask: Tensor, axis: int) -> Tensor:
    """Return the largest of each pixel and its two neighbours along an axis."""
    result, count = mask.clone(), mask.shape[axis] - 1
    for target, source in ((0, 1), (1, 0)):
        part = result.narrow(axis, target, count)
        torch.maximum(part, mask.narrow(axis, source, count), out=part)
    return result
