"""Reading images at points: the one place that calls `grid_sample`.

Points are in pixels, the centre of the first pixel at (0, 0), and reading an image at its own pixel
centres returns it to the last bit.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.precision import check_precision, fp32_region

Mode = Literal["bilinear", "nearest"]
Padding = Literal["zeros", "border", "reflection"]


@fp32_region()
def sample_image(
    image: Tensor, points_px: Tensor, mode: Mode = "bilinear", padding: Padding = "zeros"
) -> Tensor:
    """Read images at points.

    Args:
        image: (B,C,H,W) float32 or float64.
        points_px: (B,...,2) x, y in pixels of the image.
        mode: 'bilinear', or 'nearest' (halves go to the even neighbour).
        padding: outside of the image lie zeros (bilinear fades over the last pixel), the border's
            values, or the picture reflected about the centres of its outermost pixels.

    Returns:
        (B,C,...) in the image's dtype; differentiable in both (nearest: in the image alone).

    Raises:
        TypeError: half precision.
        ValueError: unknown mode or padding.
    """
    check_precision("image", image)
    check_precision("points_px", points_px)
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f"mode should be 'bilinear' or 'nearest', found {mode!r}.")
    height, width = image.shape[-2:]
    flat = points_px.to(image.dtype).flatten(1, -2) if points_px.ndim > 2 else points_px[:, None]
    limits = flat.new_tensor([width - 1, height - 1])
    if padding == "border":
        flat = flat.clamp(min=limits.new_zeros(2), max=limits)
    elif padding == "reflection":
        period = 2 * limits.clamp(min=0.5)  # an image one pixel wide: any point is that pixel
        flat = (limits - (flat.remainder(period) - limits).abs()).clamp(min=0)
    elif padding != "zeros":
        raise ValueError(f"padding should be 'zeros', 'border' or 'reflection', found {padding!r}.")
    # On a side that is a power of two, pixels to [-1, 1] and back is exact in floating point.
    wide, high = _power_of_two(width), _power_of_two(height)
    canvas = F.pad(image, (0, wide - width, 0, high - height))
    grid = (2 * flat + 1) / flat.new_tensor([wide, high]) - 1
    values = F.grid_sample(
        canvas, grid[:, :, None], mode=mode, padding_mode="zeros", align_corners=False
    )
    return values.reshape(*image.shape[:2], *points_px.shape[1:-1])


@fp32_region()
def warp_image(
    image: Tensor,
    transform: Tensor,
    size: tuple[int, int],
    padding: Padding = "zeros",
    antialias: bool = False,
) -> Tensor:
    """Warp images by an affine map of pixel coordinates, bilinearly.

    Args:
        image: (B,C,H,W), float, or uint8, which gives float values from 0 to 255.
        transform: (B,3,3) pixels of the image to pixels of the result, last row (0, 0, 1).
        size: height and width of the result.
        padding: as in `sample_image`.
        antialias: where a picture shrinks, read it from its half, quarter, ... (means of 2 x 2
            pixels), whichever is nearest in scale.

    Returns:
        (B,C,*size).
    """
    dtype = image.dtype if image.is_floating_point() else torch.float32
    points = source_points(transform, size, dtype)
    if not antialias:
        return sample_image(image.to(dtype), points, padding=padding)
    shrinking = torch.linalg.det(transform[:, :2, :2].double()).abs().clamp(min=1e-12).rsqrt()
    levels = torch.log2(shrinking).round().long().clamp(min=0)
    result = points.new_empty(len(image), image.shape[1], *size)
    for level in levels.unique().tolist():
        rows = (levels == level).nonzero().squeeze(1)
        factor = 2**level
        picked = image[rows].to(dtype)
        smaller = picked if factor == 1 else F.avg_pool2d(picked, factor)
        moved = (points[rows] - (factor - 1) / 2) / factor
        result[rows] = sample_image(smaller, moved, padding=padding)
    return result


def source_points(transform: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Return (B,H,W,2): for each pixel of the result, where `transform` took it from."""
    inverse: Tensor = torch.linalg.inv(
        transform.double()
    )  # exact for the identity and whole shifts
    height, width = size
    device = transform.device
    rows = torch.arange(height, device=device, dtype=torch.float64)
    columns = torch.arange(width, device=device, dtype=torch.float64)
    points = columns[None, :, None] * inverse[:, None, None, :2, 0]
    points = points + rows[:, None, None] * inverse[:, None, None, :2, 1]
    return (points + inverse[:, None, None, :2, 2]).to(dtype)


def pixel_centres(size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Return (H,W,2) float32 x, y of every pixel of an image."""
    rows, columns = torch.meshgrid(
        torch.arange(size[0], device=device), torch.arange(size[1], device=device), indexing="ij"
    )
    return torch.stack([columns, rows], dim=-1).float()


def _power_of_two(side: int) -> int:
    return 1 << (side - 1).bit_length()
