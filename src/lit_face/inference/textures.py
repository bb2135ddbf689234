"""The colours of a photo on a face: UV textures of any size, and colours of vertices."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.sampling import sample_image
from lit_face.geometry.uv import UVResampling, uv_resampling
from lit_face.inference.crops import window_of, window_points
from lit_face.types import Reconstruction

PADDING = 4  # texels around the face that repeat its edge, for viewers that filter


@dataclass(frozen=True, eq=False)
class Texture:
    """A photo on the UV layout of a face.

    Attributes:
        image: (S,S,3) uint8 RGB, row 0 is v = 1.
        covered: (S,S) bool, texels of the mesh.
        visible: (S,S) bool, those of them that the photo shows.
    """

    image: NDArray[np.uint8]
    covered: NDArray[np.bool_]
    visible: NDArray[np.bool_]


def photo_texture(
    photo: NDArray[np.uint8],
    reconstruction: Reconstruction,
    size: int = 256,
    blank_invisible: bool = False,
) -> Texture:
    """Read the photo at every texel of a UV map.

    Args:
        photo: (H,W,3) uint8 RGB.
        reconstruction: one face, in pixels of the photo, with visibility.
        size: side S of the texture, texels.
        blank_invisible: make texels black that the photo does not show.

    Raises:
        ValueError: size below 2.
    """
    resampling = resampling_of(reconstruction.uv, reconstruction.faces, size)
    points = resampling.apply(reconstruction.image_vertices[0, :, :2])
    colors = photo_colors(photo, points, _spacing(reconstruction, size))
    seen = torch.ones(len(points))
    if reconstruction.visibility is not None:
        seen = resampling.apply(reconstruction.visibility[0, :, None])[:, 0]
    covered = resampling.mask.numpy()
    visible = resampling.to_map((seen >= 0.5).float()[:, None])[0].bool().numpy()
    image = resampling.to_map(colors).permute(1, 2, 0)
    pixels = padded((image.clamp(0, 1) * 255).round().to(torch.uint8).numpy(), covered)
    if blank_invisible:
        pixels[covered & ~visible] = 0
    return Texture(pixels, covered, visible)


def photo_colors(photo: NDArray[np.uint8], points: Tensor, spacing: float = 1.0) -> Tensor:
    """Read a photo at points (N,2): (N,3) in [0,1]; beyond the edge, the edge's colour.

    Args:
        photo: (H,W,3) uint8 RGB.
        points: x, y in pixels.
        spacing: between neighbouring points, pixels; where it is 2 or more, means of that many
            pixels are read.
    """
    if not bool(points.isfinite().all()):
        raise ValueError("the face has coordinates that are not finite")
    height, width = photo.shape[:2]
    points = points.clamp(points.new_zeros(2), points.new_tensor([width - 1, height - 1]))
    factor = 2 ** max(0, math.floor(math.log2(max(spacing, 1.0))))
    low, high = points.amin(0), points.amax(0)
    side = float((high - low).max())
    window, origin = window_of(photo, (float(low[0]), float(low[1])), side, factor)
    image = torch.from_numpy(window).permute(2, 0, 1)[None].float() / 255
    inner = window_points(points, origin, factor)
    return sample_image(image, inner[None], padding="border")[0].T


_KEPT = 4  # meshes and sizes whose texels are remembered
_resamplings: OrderedDict[tuple[bytes, int], UVResampling] = OrderedDict()
_lock = threading.Lock()


def resampling_of(uv: Tensor, faces: Tensor, size: int) -> UVResampling:
    """Return where the texels of a map lie on a mesh; remembered for the last few meshes."""
    key = (hashlib.blake2b(uv.numpy().tobytes() + faces.numpy().tobytes()).digest(), size)
    with _lock:
        if key not in _resamplings:
            _resamplings[key] = uv_resampling(uv, faces, size)
            while len(_resamplings) > _KEPT:
                _resamplings.popitem(last=False)
        _resamplings.move_to_end(key)
        return _resamplings[key]


def file_uv(uv: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the UV coordinates that files hold for a texture of `size` texels.

    Here the first and last texel's centres are at 0 and 1; in .obj and .glb files these are the
    texels' outer edges. Without this, everything sits up to half a texel off.
    """
    return ((uv * (size - 1) + 0.5) / size).astype(np.float32)


def _spacing(reconstruction: Reconstruction, size: int) -> float:
    """Return how many pixels of the photo lie between neighbouring texels, about."""
    corners = reconstruction.faces
    points, uv = reconstruction.image_vertices[0, :, :2], reconstruction.uv
    in_photo = (points[corners[:, 0]] - points[corners[:, 1]]).norm(dim=1).sum()
    in_map = (uv[corners[:, 0]] - uv[corners[:, 1]]).norm(dim=1).sum() * (size - 1)
    return float(in_photo / in_map.clamp(min=1e-9))


def padded(image: NDArray[np.uint8], covered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Repeat the colours at the edge of the covered part (S,S) for some texels beyond it."""
    if covered.all() or not covered.any():
        return image
    far, label = cv2.distanceTransformWithLabels(
        (~covered).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros((int(label.max()) + 1, 3), np.uint8)
    of_label[label[covered]] = image[covered]
    near = ~covered & (far <= PADDING)
    image[near] = of_label[label[near]]
    return image
