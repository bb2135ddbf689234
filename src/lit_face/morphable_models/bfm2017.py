"""The Basel Face Models 2017 and 2019 (.h5, statismo's layout) in house units.

Gerig et al. (2018), "Morphable Face Models - An Open Framework". Registration at unibas,
non-commercial; the file may not be passed on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lit_face.io.files import cache_root
from lit_face.morphable_models.albedo_mm import AlbedoMM, with_albedo_mm, write_albedo_mm
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.layout_files import (
    landmark_file_beside,
    read_landmark_file,
    read_uv_file,
    uv_file_beside,
)
from lit_face.morphable_models.procedural import procedural_head
from lit_face.morphable_models.statismo import (
    KNOWN_VERTICES,
    NAMED_LANDMARKS,
    Floats,
    StatismoArrays,
    find_h5,
    read_statismo,
    write_bfm2017,
)
from lit_face.morphable_models.topology import Layout, TopologyTransfer
from lit_face.morphable_models.winding import outward_faces

log = logging.getLogger(__name__)

_NEAR_MM = 5.0  # a landmark lies on the mesh
_MODES = {"identity": 10, "expression": 8, "albedo": 6}  # of the miniature


def bfm2017(
    root: str | Path | None = None,
    landmarks68: str | Path | None = None,
    uv: str | Path | None = None,
    albedo: str | Path | None = None,
    donor: Callable[[], MorphableModel] | None = procedural_head,
) -> MorphableModel:
    """Load a Basel Face Model 2017 or 2019 as a `MorphableModel` (millimetres).

    The mean is the shape's mean plus the expression's. Colours are taken as sRGB values. The files
    name a dozen landmarks and have no UV; the rest comes, in this order, from the options below,
    from files beside the model (`<stem>_landmarks68.txt`, `<stem>_uv.mat`, or another suffix of
    `layout_files`), or from the donor by barycentric correspondence (regions always do).

    Args:
        root: the .h5 file, or a folder that holds one. None writes the procedural head in this
            layout into the cache, once, and reads it with the same reader.
        landmarks68: vertices of the 68 iBUG points, counted from 0; see `read_landmark_file`.
        uv: coordinates; see `read_uv_file`.
        albedo: AlbedoMM's ..._albedoPart.h5, instead of the file's own colours.
        donor: returns the model whose landmarks, UV and regions are carried over. None: nothing is
            carried over, and every vertex belongs to the face.

    Raises:
        ModuleNotFoundError: h5py is not installed; gives the pip command.
        FileNotFoundError: no model file, or an option's file is missing.
        ValueError: everything that is missing or misshapen, in one message.
    """
    path = _miniature() if root is None else find_h5(root)
    raw = read_statismo(path)
    mean = raw.shape_mean + raw.expression_mean
    faces = outward_faces(mean, raw.faces)
    landmark_file = landmarks68 or landmark_file_beside(path)
    uv_file = uv or uv_file_beside(path)
    index = None if landmark_file is None else read_landmark_file(landmark_file, len(mean))
    anchors = dict(enumerate(index.tolist())) if index is not None else named_anchors(raw, path)
    layout = _donated(donor, mean, faces, anchors)
    coordinates = None if uv_file is None else read_uv_file(uv_file, len(mean))
    if index is None:
        index = _from(layout, "landmark_index", path, "landmarks68=FILE")
    if coordinates is None:
        coordinates = _from(layout, "uv", path, "uv=FILE")
    regions = {"face": torch.ones(len(mean))} if layout is None else layout.regions
    arrays = ModelArrays(
        mean=torch.from_numpy(mean),
        faces=torch.from_numpy(faces),
        uv=coordinates,
        landmark_index=index,
        identity_basis=_basis(raw, "shape"),
        expression_basis=_basis(raw, "expression"),
        identity_std=torch.from_numpy(raw.sigmas["shape"]),
        expression_std=torch.from_numpy(raw.sigmas["expression"]),
        albedo_mean=torch.from_numpy(raw.color_mean),
        albedo_basis=_basis(raw, "color"),
        regions=regions,
    )
    name = "bfm2019" if "2019" in KNOWN_VERTICES.get(len(mean), "") else "bfm2017"
    if albedo is not None:
        return AlbedoMM(with_albedo_mm(arrays, albedo), name)
    return MorphableModel(arrays, name)


def named_anchors(raw: StatismoArrays, path: Path) -> dict[int, int]:
    """Return iBUG number -> vertex for the landmarks that the file names.

    The file does not say whether its landmarks lie on the neutral mean or on the one with the mean
    expression: the closer of the two counts.

    Raises:
        ValueError: landmarks that lie off the mesh.
    """
    names = [name for name in NAMED_LANDMARKS if name in raw.landmarks]
    if not names:
        return {}
    points = np.stack([raw.landmarks[name] for name in names])
    used = np.unique(raw.faces)
    found = [
        cKDTree(mean[used]).query(points)
        for mean in (raw.shape_mean, raw.shape_mean + raw.expression_mean)
    ]
    distance, nearest = min(found, key=lambda pair: float(pair[0].mean()))
    if distance.max() > _NEAR_MM:
        worst = names[int(distance.argmax())]
        raise ValueError(
            f"{path}: the landmark '{worst}' is {distance.max():.1f} mm off the mesh; give "
            "landmarks68=FILE."
        )
    numbers = [NAMED_LANDMARKS[name] for name in names]
    return dict(zip(numbers, used[nearest].tolist(), strict=True))


def _miniature() -> Path:
    head = procedural_head()
    folder = cache_root() / f"bfm2017-miniature-{model_digest(head)}"
    path = folder / "model2017-miniature.h5"
    if not path.is_file():
        log.info("Writing a miniature in BFM 2017's layout into %s", folder)
        write_albedo_mm(head, folder / "albedoModel2020_miniature_albedoPart.h5")
        write_bfm2017(head, path, _MODES)
    return path


def _donated(
    donor: Callable[[], MorphableModel] | None,
    mean: Floats,
    faces: NDArray[np.int64],
    anchors: Mapping[int, int],
) -> Layout | None:
    if donor is None or not anchors:
        return None
    vertices, triangles = torch.from_numpy(mean), torch.from_numpy(faces)
    return TopologyTransfer(donor(), vertices, triangles, anchors, cache=True).layout()


def _from(layout: Layout | None, field: str, path: Path, option: str) -> Any:
    if layout is None:
        raise ValueError(
            f"{path}: the file itself has no {field.replace('_', ' ')}; give {option}, or a donor "
            "to carry them over from (morphable_model.donor)."
        )
    return getattr(layout, field)


def _basis(raw: StatismoArrays, kind: str) -> torch.Tensor:
    scaled = raw.bases[kind] * raw.sigmas[kind]
    return torch.from_numpy(scaled).view(len(raw.shape_mean), 3, -1)
