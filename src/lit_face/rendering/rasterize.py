"""Which face is seen in which pixel. Everything else is recomputed from that, differentiably.

Default rules: a pixel belongs to a triangle if its centre lies inside or on an edge (so a shared
edge belongs to both neighbours and no crack opens), whatever the winding; the smallest depth wins,
and at equal depth the lower face index. Triangles without area at the pixel, or with a coordinate
that is not finite, are not drawn. Depth is interpolated affinely on the screen.

face3d rules (parity with the PRN data generator): one of the edges is
excluded, LARGER z is nearer, and in the two outermost pixel rows and columns the inside test can be
skipped (`lit_face.geometry.face3d_raster` also returns its depth and weights).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lit_face.geometry.precision import check_precision
from lit_face.rendering.kernels import torch_scatter

Rules = Literal["default", "face3d"]
Kernel = Literal["numba", "torch"]

FACE3D_BORDER = 2  # pixels, as in lit_face.geometry.face3d_raster


def rasterize(
    image_vertices: Tensor,
    faces: Tensor,
    size: tuple[int, int],
    rules: Rules = "default",
    kernel: Kernel | None = None,
    perspective: bool = False,
) -> Tensor:
    """Find the face that is seen in each pixel.

    Args:
        image_vertices: (B,V,3) float32 or float64: x right, y down in pixels with the centre of
            the first pixel at (0, 0), and depth, smaller = nearer. Evaluated in float32.
        faces: (F,3) int64.
        size: height and width, pixels.
        rules: see the module.
        kernel: 'numba' (CPU only) or 'torch' (any device); None takes the fastest that fits. Both
            return the same faces.
        perspective: depth is the distance in front of a pinhole camera: then its inverse, not
            itself, is affine on the screen; triangles that reach behind the camera are left out.

    Returns:
        (B,H,W) int64 face index, -1 where nothing is seen. Not differentiable.

    Raises:
        ValueError: shapes, names or devices that do not fit.
        TypeError: vertices of half precision.
    """
    check_mesh(image_vertices, faces)
    on_cpu = image_vertices.device.type == "cpu"
    kernel = kernel or ("numba" if on_cpu else "torch")
    if kernel not in ("numba", "torch"):
        raise ValueError(f"kernel should be 'numba' or 'torch', found {kernel!r}.")
    if kernel == "numba" and not on_cpu:
        raise ValueError(
            f"kernel='numba' runs on the CPU, vertices are on {image_vertices.device}."
        )
    points = image_vertices.detach()
    if perspective:
        depth = points[..., 2:]
        inverse = torch.where(depth > 0, -1 / depth, torch.inf)
        points = torch.cat([points[..., :2], inverse], dim=-1)
    points = points.float()
    if rules == "default":
        if kernel == "torch":
            return torch_scatter.rasterize_default(points, faces, size)
        from lit_face.rendering.kernels import numba_cpu  # numba takes its time to import

        return numba_cpu.rasterize_default(points, faces, size)
    if rules == "face3d":
        if kernel == "torch":
            return torch_scatter.rasterize_face3d(points, faces, size, FACE3D_BORDER)
        from lit_face.rendering.kernels import numba_cpu

        return numba_cpu.rasterize_face3d(points, faces, size, FACE3D_BORDER)
    raise ValueError(f"rules should be 'default' or 'face3d', found {rules!r}.")


def check_mesh(vertices: Tensor, faces: Tensor) -> None:
    """Check shapes, dtypes and devices of (B,V,3) vertices and (F,3) faces.

    Raises:
        ValueError: says which argument, what was expected and what was found.
        TypeError: vertices that are not float32 or float64.
    """
    check_precision("vertices", vertices)
    if vertices.ndim != 3 or vertices.shape[-1] != 3:
        raise ValueError(f"vertices should be (B,V,3), found {tuple(vertices.shape)}.")
    if faces.ndim != 2 or faces.shape[-1] != 3 or faces.dtype != torch.int64:
        raise ValueError(f"faces should be (F,3) int64, found {tuple(faces.shape)} {faces.dtype}.")
    if faces.device != vertices.device:
        raise ValueError(f"vertices are on {vertices.device} and faces on {faces.device}.")
    if faces.device.type == "cpu" and len(faces):  # elsewhere the check would stall the device
        low, high = (int(bound) for bound in faces.aminmax())
        if low < 0 or high >= vertices.shape[1]:
            raise ValueError(
                f"faces use vertices {low} to {high}, but there are {vertices.shape[1]} vertices."
            )
