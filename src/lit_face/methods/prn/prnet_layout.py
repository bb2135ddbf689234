"""The UV layout of PRNet from its own files, `Data/uv-data` of its repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lit_face.geometry.meshes import face_normals, grid_faces
from lit_face.io.images import read_image
from lit_face.methods.prn.reader import NEIGHBOURS, PositionMapReader

SIZE = 256
_FEATURE_WEIGHT = 58  # grey level of uv_weight_mask.png from which eyes, nose and mouth count
_BRIDGE_ROW, _NOSE_ROW, _MOUTH_ROW, _BRIDGE_WIDTH = 58, 91, 120, 25  # texels


def read_prnet_layout(folder: str | Path) -> PositionMapReader:
    """Build the reader of PRNet's position maps.

    Args:
        folder: holds face_ind.txt, uv_kpt_ind.txt and canonical_vertices.npy; triangles.txt (else
            the grid's triangles are used) and uv_weight_mask.png (else no regions are known) are
            optional.

    Returns:
        The reader; its mean face has no known scale: unit 'normalised'.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file has another content; the message names it.
    """
    folder = Path(folder)
    names = ("face_ind.txt", "uv_kpt_ind.txt", "canonical_vertices.npy")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {', '.join(missing)}; give the folder Data/uv-data of the PRNet "
            "repository."
        )
    texels = _integers(folder / "face_ind.txt", SIZE * SIZE).reshape(-1)
    points = _integers(folder / "uv_kpt_ind.txt", SIZE).reshape(2, -1)
    if not (texels.diff() > 0).all() or points.shape[1] != 68:
        raise ValueError(
            f"{folder}: face_ind.txt should ascend and uv_kpt_ind.txt should name 68 points, "
            f"found {points.shape[1]}."
        )
    mask = torch.zeros(SIZE * SIZE, dtype=torch.bool).index_fill(0, texels, True).view(SIZE, SIZE)
    landmarks = points[1] * SIZE + points[0]
    if not mask.flatten()[landmarks].all():
        raise ValueError(f"{folder}: uv_kpt_ind.txt names texels that face_ind.txt does not have.")
    mean_face = _mean_face(folder / "canonical_vertices.npy", len(texels))
    places = torch.searchsorted(texels, landmarks)[:, None].expand(-1, NEIGHBOURS)
    weights = torch.eye(NEIGHBOURS)[0].expand(68, -1)
    faces = _triangles(folder / "triangles.txt", mask, mean_face)
    regions = _regions(folder / "uv_weight_mask.png", mask)
    return PositionMapReader.of_arrays(
        mask, mean_face, (places, weights), regions, "normalised", faces=faces
    )


def _integers(path: Path, limit: int) -> Tensor:
    try:
        values = torch.from_numpy(np.loadtxt(path)).long()
    except ValueError as error:
        raise ValueError(f"{path} is not a table of numbers: {error}.") from error
    if values.numel() == 0 or values.min() < 0 or values.max() >= limit:
        raise ValueError(f"{path} should hold whole numbers from 0 to {limit - 1}.")
    return values


def _mean_face(path: Path, count: int) -> Tensor:
    canonical = np.load(path, allow_pickle=False)
    if canonical.shape != (count, 3):
        raise ValueError(f"{path} should be ({count},3), found {canonical.shape}.")
    upright = torch.from_numpy(canonical.astype(np.float64)) * torch.tensor([1.0, -1.0, 1.0])
    low, high = upright.amin(dim=0), upright.amax(dim=0)
    return upright - (low + high) / 2 * torch.tensor([0.0, 1.0, 1.0])  # x is centred


def _triangles(path: Path, mask: Tensor, mean_face: Tensor) -> Tensor:
    """Return triangles counter-clockwise seen from outside, whichever way the file winds them."""
    if not path.is_file():
        return grid_faces(mask)
    faces = _integers(path, len(mean_face)).reshape(-1, 3)
    inwards = face_normals(mean_face[None], faces, unit=False)[0, :, 2].sum() < 0
    return faces.flip(1) if inwards else faces


def _regions(path: Path, mask: Tensor) -> dict[str, Tensor]:
    """Split the T-shaped area of eyes, nose and mouth, which PRNet weighs as one."""
    if not path.is_file():
        return {"face": mask.float()}
    weight = read_image(path)[:, :, 0]
    if weight.shape != mask.shape:
        raise ValueError(f"{path} should be {SIZE} x {SIZE} texels, found {weight.shape}.")
    parts, _ = ndimage.label(weight >= _FEATURE_WEIGHT)
    features = torch.from_numpy(parts == np.bincount(parts.flat)[1:].argmax() + 1)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    bridge = (rows >= _BRIDGE_ROW) & ((columns - (SIZE - 1) / 2).abs() < _BRIDGE_WIDTH / 2)
    nose = (rows < _MOUTH_ROW) & ((rows >= _NOSE_ROW) | bridge)
    mouth = rows >= _MOUTH_ROW
    areas = {"eyes": ~nose & ~mouth, "nose": nose, "mouth": mouth, "face": mask}
    return {
        name: (area if name == "face" else area & features & mask).float()
        for name, area in areas.items()
    }
