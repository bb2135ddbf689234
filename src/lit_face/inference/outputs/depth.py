"""Depth images of the size of the photo."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.inference.outputs.export import Export
from lit_face.io.images import write_image
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize

LEVELS = 65534  # of 16 bits, 0 is kept for "no face"


def depth_image(export: Export) -> tuple[NDArray[np.float32], int, int]:
    """Draw the depth of a face.

    Returns:
        Depth (h,w) in pixels, smaller = nearer, NaN where the face is not, of the part of the photo
        that holds the face; and the photo's row and column where that part starts.
    """
    height, width = export.face.photo_size
    reconstruction = export.face.reconstruction
    points = reconstruction.image_vertices
    low, high = points[0, :, :2].amin(0).floor(), points[0, :, :2].amax(0).ceil() + 1
    left, top = (max(0, int(edge)) for edge in low)
    right, bottom = min(width, int(high[0])), min(height, int(high[1]))
    if right <= left or bottom <= top:
        return np.zeros((0, 0), np.float32), 0, 0
    moved = points - points.new_tensor([left, top, 0.0])
    face_index = rasterize(moved, reconstruction.faces, (bottom - top, right - left))
    fragments = fragments_of(moved, reconstruction.faces, face_index)
    depth = torch.full((face_index.numel(),), torch.nan)
    depth[fragments.pixel] = fragments.interpolate(moved)[:, 2]
    return depth.view(bottom - top, right - left).numpy(), top, left


def write_depth(export: Export, folder: Path) -> None:
    """Write depth.png (16 bits), depth.json (its scale) and depth_view.png (near is white).

    In depth.png 0 is "no face"; else depth in pixels = nearest + step * (value - 1).
    """
    depth, top, left = depth_image(export)
    inside = np.isfinite(depth)
    nearest = float(depth[inside].min()) if inside.any() else 0.0
    extent = max(float(depth[inside].max()) - nearest if inside.any() else 0.0, 1e-6)
    share = np.where(inside, (depth - nearest) / extent, 0.0)
    place = slice(top, top + depth.shape[0]), slice(left, left + depth.shape[1])
    levels = np.zeros(export.face.photo_size, np.uint16)
    levels[place] = np.where(inside, 1 + np.rint(share * LEVELS), 0)
    if not cv2.imwrite(str(folder / "depth.png"), levels):
        raise OSError(f"{folder / 'depth.png'}: OpenCV could not write it; is the disk full?")
    facts = {
        "nearest_px": nearest,
        "step_px": extent / LEVELS,
        "rule": "depth_px = nearest_px + step_px * (value - 1); value 0: no face",
    }
    (folder / "depth.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    view = np.zeros(export.face.photo_size, np.uint8)
    view[place] = np.where(inside, 255 - np.rint(share * 215), 0)
    write_image(folder / "depth_view.png", view)
