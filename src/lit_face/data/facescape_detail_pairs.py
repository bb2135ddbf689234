"""What the displacement generator learns from: a texture, and the relief that belongs to it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.facescape_layout import FaceScapeFolder
from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.line_query import signed_distance_along
from lit_face.geometry.surface_maps import (
    SurfaceMaps,
    enlarged_maps,
    smoothed_map,
    surface_normals,
)
from lit_face.geometry.uv_template import core_window
from lit_face.io.displacement_maps import (
    decode_displacement,
    encode_displacement,
    facial_window,
    read_displacement_map,
)
from lit_face.io.files import atomic_write
from lit_face.io.images import read_image
from lit_face.io.meshes import read_mesh
from lit_face.rendering.drawing import to_pixels
from lit_face.rendering.texture_blending import blend_texture

_MASK_SIZE = 512  # texels of facial_mask.png
_FLAT_REACH = 9  # texels: a toolkit map is known this near to any relief
_KEYS = ("texture", "levels", "valid", "size")


@dataclass(frozen=True, eq=False)
class DetailPair:
    """A texture and its relief; texel-centred, row 0 on top.

    Attributes:
        texture: (T,T,3) uint8 RGB.
        displacement: (T,T) float32 mm, outwards, within 0.914 mm.
        valid: (T,T) bool, where the displacement is known.
    """

    texture: NDArray[np.uint8]
    displacement: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class DetailOptions:
    """How pairs are made.

    Attributes:
        map_size: side T.
        sigma: of the Gaussian that turns the scan into a smooth surface, as a regularised cost
            volume gives it; texels of the base maps. Only for scans.
        limit: scan points further than this from the smooth surface are no relief, mm.
    """

    map_size: int = 512
    sigma: float = 1.0
    limit: float = 2.0


def scan_pair(folder: FaceScapeFolder, sample: str, options: DetailOptions) -> DetailPair:
    """Make a pair of a processed sample: photos blended on a smoothed scan, and what it lacks.

    Raises:
        DatasetNotFoundError: maps, scan or photos are missing.
        ValueError: a file of another shape, or no relief in it.
    """
    surface = smooth_surface(folder, sample, options)
    texture, seen = _blended(folder, sample, surface)
    path = folder.scan_file(sample)
    if not path.is_file():
        raise DatasetNotFoundError(
            f"No scan {path}: pairs with source 'scan' need the raw scans; run `python -m "
            "lit_face.data.facescape preprocess` where they are, or set data.source=tu."
        )
    scan = read_mesh(path)
    points, normals = (
        maps[:, surface.mask].T.double().numpy() for maps in (surface.position, surface.normal)
    )
    vertices = scan.vertices.astype(np.float64) * folder.scale(sample)
    distance, is_hit = signed_distance_along(points, normals, vertices, scan.faces, options.limit)
    mask = surface.mask.numpy()
    valid, displacement = np.zeros_like(mask), np.zeros(mask.shape, np.float32)
    valid[mask], displacement[mask] = is_hit, distance
    valid &= seen
    if not valid.any():
        raise ValueError(
            f"{path}: nowhere within {options.limit} mm of the base mesh of {sample}; do scan, "
            "maps and Rt_scale_dict.json belong together?"
        )
    kept = decode_displacement(encode_displacement(displacement))  # clipped as the files are
    return DetailPair(texture, kept * valid, valid)


def smooth_surface(folder: FaceScapeFolder, sample: str, options: DetailOptions) -> SurfaceMaps:
    """Return the smoothed true surface of a sample at the pairs' side, mm."""
    scale = folder.scale(sample)
    position = _map(folder, "pos_map", sample, 3) * scale
    normal = _map(folder, "norm_map", sample, 3)
    movement = _map(folder, "mv_map", sample, 1) * scale
    mask = (position != 0).any(0) & _facial_mask(folder, position.shape[-1])
    known = mask & (movement[0] != 0)
    if folder.map_file("valid_map", sample).is_file():
        known = mask & (_map(folder, "valid_map", sample, 1)[0] > 0)
    normal = torch.nn.functional.normalize(normal, dim=0)
    smooth = position + normal * smoothed_map(movement, known, options.sigma)
    normals = surface_normals(smooth, mask, normal)
    return enlarged_maps(smooth, normals, mask, options.map_size)


def toolkit_pair(root: Path, sample: str, options: DetailOptions) -> DetailPair:
    """Read a pair of the toolkit's models: texture and displacement map, facial window.

    Args:
        root: folder of the TU models.
        sample: "<person>/<e>_<name>".
        options: only `map_size` matters.
    """
    texture_file, relief_file = toolkit_files(root, sample)
    texture, relief = read_image(texture_file), read_displacement_map(relief_file, None)
    side = options.map_size
    sides = {len(texture), len(relief)}
    if texture.shape[0] != texture.shape[1] or not all(value % 1024 == 0 for value in sides):
        raise ValueError(
            f"{texture_file}: texture and displacement map should be squares of a multiple of "
            f"1024 texels (released: 4096), found {texture.shape[:2]} and {relief.shape}."
        )
    window = relief[facial_window(len(relief))]
    near = cv2.dilate((window != 0).astype(np.uint8), np.ones((_FLAT_REACH,) * 2, np.uint8))
    color = _shrunk(texture[facial_window(len(texture))], side)
    valid = cv2.resize(near, (side, side), interpolation=cv2.INTER_NEAREST) > 0
    return DetailPair(color.astype(np.uint8), _shrunk(window, side) * valid, valid)


def toolkit_samples(root: Path) -> list[str]:
    """Return "<person>/<e>_<name>" of every displacement map below a folder, sorted.

    Raises:
        DatasetNotFoundError: there are none.
    """
    found = [f"{file.parent.parent.name}/{file.stem}" for file in root.glob("*/dpmap/*.png")]
    if not found:
        raise DatasetNotFoundError(
            f"No displacement maps in {root}: expected <person>/dpmap/<e>_<name>.png and "
            "<person>/models_reg/<e>_<name>.jpg of FaceScape's TU models. Set data.root to their "
            "folder, or data.source=scan for a processed folder with scans."
        )
    return sorted(found)


def toolkit_files(root: Path, sample: str) -> tuple[Path, Path]:
    """Return texture and displacement map of a sample."""
    person, name = sample.split("/")
    return (
        root / person / "models_reg" / f"{name}.jpg",
        root / person / "dpmap" / f"{name}.png",
    )


def scan_inputs(folder: FaceScapeFolder, sample: str) -> Iterator[Path]:
    """Yield the files that a pair of a processed sample is made of; some may be absent."""
    for kind in ("pos_map", "norm_map", "mv_map", "valid_map", "visibility_map"):
        yield folder.map_file(kind, sample)  # type: ignore[arg-type]
    yield folder.scan_file(sample)
    yield folder.params_file(sample)
    yield folder.mask_file
    for view in folder.views(sample):
        yield folder.image_file(sample, view)


def write_pair(path: Path, pair: DetailPair) -> None:
    """Write a pair, under a temporary name first."""
    with atomic_write(path) as temporary:
        np.savez_compressed(
            temporary, texture=pair.texture, levels=encode_displacement(pair.displacement),
            valid=np.packbits(pair.valid), size=len(pair.valid),
        )  # fmt: skip


def read_pair(path: Path) -> DetailPair:
    """Read a pair.

    Raises:
        ValueError: the file is cut; names it.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            texture, levels, packed, size = (stored[key] for key in _KEYS)
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); delete it, then it is made again."
        ) from error
    side = int(size)
    valid = np.unpackbits(packed, count=side * side).reshape(side, side).astype(bool)
    return DetailPair(texture, decode_displacement(levels) * valid, valid)


def _blended(
    folder: FaceScapeFolder, sample: str, surface: SurfaceMaps
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the texture (T,T,3) of a surface in mm, and which texels any view sees."""
    views = folder.views(sample)
    images = [
        torch.from_numpy(read_image(folder.image_file(sample, view))).movedim(-1, 0) / 255
        for view in views
    ]
    cameras = folder.cameras(sample, views)
    world = torch.from_numpy(cameras.Rt).float()
    camera = PerspectiveCamera(
        torch.from_numpy(cameras.K).float(), world[:, :, :3], world[:, :, 3] * folder.scale(sample)
    )
    visibility = None
    if folder.map_file("visibility_map", sample).is_file():
        visibility = _map(folder, "visibility_map", sample, len(views))
    found = blend_texture(surface, images, camera, visibility)
    return to_pixels(found.color), (found.weight > 0).numpy()


def _map(folder: FaceScapeFolder, kind: Any, sample: str, channels: int) -> Tensor:
    """Read a map as (C,S,S) float32; files are (S,S,3), (S,S), or (N,S,S) for visibility."""
    path = folder.map_file(kind, sample)
    if not path.is_file():
        raise DatasetNotFoundError(
            f"No map {path}; run `python -m lit_face.data.facescape maps` (docs/data/facescape.md)."
        )
    array = np.load(path, allow_pickle=False).astype(np.float32)
    if kind in ("pos_map", "norm_map") and array.ndim == 3:
        array = np.moveaxis(array, -1, 0)
    elif array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] != channels or array.shape[1] != array.shape[2]:
        raise ValueError(
            f"{path}: expected {channels} channel(s) of a square map, found {array.shape}."
        )
    return torch.from_numpy(np.ascontiguousarray(array))


def _facial_mask(folder: FaceScapeFolder, size: int) -> Tensor:
    """Return the core (S,S) of the facial mask, all ones where there is no such file."""
    if not folder.mask_file.is_file():
        return torch.ones(size, size, dtype=torch.bool)
    full = (read_image(folder.mask_file)[..., 0] > 0).astype(np.uint8)
    if full.shape != (_MASK_SIZE, _MASK_SIZE):
        raise ValueError(
            f"{folder.mask_file}: expected ({_MASK_SIZE}, {_MASK_SIZE}) texels, found {full.shape}."
        )
    core = cv2.resize(full[core_window(_MASK_SIZE)], (size, size), interpolation=cv2.INTER_NEAREST)
    return torch.from_numpy(core > 0)


def _shrunk(picture: NDArray[Any], side: int) -> NDArray[Any]:
    how = cv2.INTER_AREA if side < len(picture) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (side, side), interpolation=how))
