"""The Basel Face Model 2009 from the files as released, without MATLAB.

Paysan et al. (2009), "A 3D Face Model for Pose and Illumination Invariant Face Recognition".
Registration at unibas, non-commercial; neither the files nor what is made of them may be passed on.

`morphable_model=bfm2009` reads them directly. To make face3d's BFM.mat, BFM_UV.mat and BFM_info.mat
of them (what its MATLAB script does), for other programs:

    python -m lit_face.morphable_models.bfm2009 FOLDER OUT
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.io.files import cache_root
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.bfm import BFM, bfm_of, write_bfm_arrays
from lit_face.morphable_models.bfm2009_files import ORIGINAL_VERTICES, Parts2009, read_parts
from lit_face.morphable_models.bfm2009_writer import write_bfm2009
from lit_face.morphable_models.bfm_files import TRIMMED_VERTICES, BFMArrays
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.layout_files import read_landmark_file, read_uv_file
from lit_face.morphable_models.procedural import procedural_head
from lit_face.morphable_models.topology import Layout, TopologyTransfer
from lit_face.morphable_models.winding import outward_faces

log = logging.getLogger(__name__)

Donor = Callable[[], MorphableModel]
# Vertices of the untrimmed model, counted from 0, of iBUG points counted from 0: eos's
# share/ibug_to_bfm2009.txt, from the MPEG-4 feature points of the release.
_ANCHORS = {
    17: 38792, 19: 40087, 21: 40514, 22: 41091, 24: 41511, 26: 42825, 30: 8319, 33: 8334,
    36: 2088, 39: 5959, 42: 10603, 45: 14472, 48: 5006, 51: 8344, 54: 11714, 57: 8374, 62: 8354,
    66: 8366,
}  # fmt: skip
# What face3d's generate.m mends in the trimmed model, counted from 1: three coordinates that lie
# amid others' (each becomes the mean of its neighbours'), and triangles that close the mouth.
_BAD_UV = {10032: (10033, 10158), 10155: (10534, 10157, 10661), 10280: (10916, 10286)}
_MOUTH_CORNERS = (
    (6420, 6542, 6664), (6420, 6294, 6167), (6167, 6297, 6420), (6167, 6297, 6296),
    (6167, 6296, 6295), (6167, 6295, 6039), (6168, 6295, 6039),
)  # fmt: skip


def bfm2009(
    root: str | Path | None = None,
    landmarks68: str | Path | None = None,
    uv: str | Path | None = None,
    donor: Donor | None = procedural_head,
) -> BFM:
    """Load the original model with somebody's expressions (millimetres).

    Args:
        root: folder with 01_MorphableModel.mat; expressions: Model_Expression.mat (3DDFA, the 29
            modes of 300W-LP) or Exp_Pca.bin and std_exp.txt (Deep3D, 79 modes); and, as far as
            there, model_info.mat or BFM_exp_idx.mat (which 53,215 of the 53,490 vertices are
            kept; landmarks, regions), Model_tri_mouth.mat, BFM_UV.mat. Subfolders raw, 3ddfa and
            stn are looked into. None writes the procedural head in this layout into the cache,
            once, and reads it with the same reader.
        landmarks68: vertices (after trimming) of the iBUG points; see `read_landmark_file`.
        uv: coordinates (after trimming); see `read_uv_file`.
        donor: returns the model whose landmarks and UV are carried over by barycentric
            correspondence where the files have none. None: an error instead.

    Raises:
        FileNotFoundError, ValueError: what is missing or misshapen, in one message.
    """
    return bfm_of(read_bfm2009(root, landmarks68, uv, donor), "bfm2009")


def read_bfm2009(
    root: str | Path | None = None,
    landmarks68: str | Path | None = None,
    uv: str | Path | None = None,
    donor: Donor | None = procedural_head,
) -> BFMArrays:
    """Read the raw arrays, trimmed and joined; see `bfm2009`."""
    parts = read_parts(_miniature() if root is None else root)
    count = len(parts.fields["shapeMU"]) // 3
    keep = np.arange(count) if parts.trim is None else parts.trim
    mean = _rows(parts.fields["shapeMU"][:, None], keep)[:, 0] + parts.expression_mean
    triangles = _triangles(parts, keep, count)
    mouth = parts.mouth_triangles
    if len(keep) == TRIMMED_VERTICES and len(mouth):
        mouth = np.concatenate([mouth, np.array(_MOUTH_CORNERS) - 1])
    index, coordinates = parts.landmark_index, _uv(parts, keep)
    regions = _regions(parts, keep)
    if landmarks68 is not None:
        index = read_landmark_file(landmarks68, len(keep)).numpy()
    if uv is not None:
        coordinates = read_uv_file(uv, len(keep)).double().numpy()
    if index is None or coordinates is None:
        layout = _carried(donor, mean, triangles, _anchors(index, keep, count))
        index = layout.landmark_index.numpy() if index is None else index
        if coordinates is None:  # another model's layout, so its regions, too
            coordinates = layout.uv.double().numpy()
            regions = {name: weight.numpy() for name, weight in layout.regions.items()}
    return BFMArrays(
        mean=mean,
        identity_basis=_rows(parts.fields["shapePC"], keep),
        identity_std=parts.fields["shapeEV"],
        expression_basis=parts.expression_basis,
        expression_std=parts.expression_std,
        texture_mean=_rows(parts.fields["texMU"][:, None], keep)[:, 0],
        texture_basis=_rows(parts.fields["texPC"], keep),
        texture_std=parts.fields["texEV"],
        triangles=triangles.astype(np.int32),
        mouth_triangles=mouth.astype(np.int32),
        landmark_index=np.asarray(index).astype(np.int32),
        uv=coordinates,
        regions=regions,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write face3d's three files."""
    parser = argparse.ArgumentParser(
        prog="python -m lit_face.morphable_models.bfm2009",
        description="Make face3d's BFM.mat, BFM_UV.mat and BFM_info.mat, without MATLAB.",
    )
    parser.add_argument("folder", help="with 01_MorphableModel.mat and its companions")
    parser.add_argument("out", help="folder to write into")
    parser.add_argument("--landmarks68", help="vertices of the 68 points, where files lack them")
    parser.add_argument("--uv", help="UV coordinates, where BFM_UV.mat is absent")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    raw = read_bfm2009(options.folder, options.landmarks68, options.uv)
    paths = write_bfm_arrays(raw, options.out)
    if raw.expression_basis.shape[1] != 29:
        log.warning(
            "%d expressions: the parameters of 300W-LP belong to 3DDFA's 29.",
            raw.expression_basis.shape[1],
        )
    log.info("Wrote %s, %s and %s: %d vertices.", paths.model, paths.uv, paths.info, len(raw.uv))


def _miniature() -> Path:
    head = procedural_head()
    folder = cache_root() / f"bfm2009-miniature-{model_digest(head)}"
    if not (folder / "BFM_UV.mat").is_file():
        log.info("Writing a miniature in BFM 2009's layout into %s", folder)
        write_bfm2009(head, folder)
    return folder


def _rows(matrix: NDArray[np.float32], keep: NDArray[np.int64]) -> NDArray[np.float32]:
    """Keep the x, y, z rows (3N,K) of some vertices."""
    return np.ascontiguousarray(matrix.reshape(-1, 3, matrix.shape[1])[keep]).reshape(
        -1, matrix.shape[1]
    )


def _triangles(parts: Parts2009, keep: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the trimmed mesh's triangles: as given, or those of 'tl' with all corners kept."""
    if parts.triangles is not None:
        if parts.triangles.max() >= len(keep):
            raise ValueError(
                f"model_info.mat: 'tri' names vertex {parts.triangles.max() + 1} of {len(keep)}."
            )
        return parts.triangles
    place = np.full(count, -1)
    place[keep] = np.arange(len(keep))
    renamed = place[parts.fields["tl"].astype(np.int64) - 1]
    return np.asarray(renamed[(renamed >= 0).all(axis=1)])


def _uv(parts: Parts2009, keep: NDArray[np.int64]) -> NDArray[np.float64] | None:
    if parts.uv is None:
        return None
    uv = parts.uv if len(parts.uv) == len(keep) else parts.uv[keep]
    if len(keep) == TRIMMED_VERTICES and len(parts.uv) == ORIGINAL_VERTICES:
        uv = uv.copy()
        for bad, around in _BAD_UV.items():
            uv[bad - 1] = uv[np.array(around) - 1].mean(axis=0)
    return uv


def _anchors(
    index: NDArray[np.int64] | None, keep: NDArray[np.int64], count: int
) -> dict[int, int]:
    """Return iBUG number -> trimmed vertex, of all that is known."""
    if index is not None:
        return dict(enumerate(index.tolist()))
    if count != ORIGINAL_VERTICES:
        return {}
    place = {vertex: row for row, vertex in enumerate(keep.tolist())}
    return {point: place[vertex] for point, vertex in _ANCHORS.items() if vertex in place}


def _carried(
    donor: Donor | None,
    mean: NDArray[np.float32],
    triangles: NDArray[np.int64],
    anchors: dict[int, int],
) -> Layout:
    """Return landmarks, UV and regions from the donor."""
    if donor is None or not anchors:
        raise ValueError(
            "BFM 2009: landmarks or UV coordinates are missing and cannot be carried over. Add "
            "model_info.mat and BFM_UV.mat, or give landmarks68=FILE and uv=FILE."
        )
    log.info("BFM 2009: landmarks or UV are carried over from another model.")
    vertices = mean.reshape(-1, 3) / np.float32(1000)
    faces = torch.from_numpy(outward_faces(vertices, triangles))
    return TopologyTransfer(
        donor(), torch.from_numpy(vertices), faces, anchors, cache=True
    ).layout()


def _regions(parts: Parts2009, keep: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    if parts.segbin is None:
        return {}
    masks = parts.segbin if parts.segbin.shape[1] == len(keep) else parts.segbin[:, keep]
    names = ("nose", "eyes", "mouth")
    return {name: mask.astype(np.float32) for name, mask in zip(names, masks, strict=False)}


if __name__ == "__main__":
    main()
