"""Write any model as the Basel Face Model 2009 and the files around it, for the miniature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.io
from numpy.typing import NDArray

from lit_face.io.files import atomic_write
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.bfm2009_files import MODEL_FILE

Floats = NDArray[np.float32]
_MICROMETRES = 1000.0
_EXTRA = 50  # vertices that trimming drops
_MODES = {"identity": 8, "expression": 6, "albedo": 4}
_MOUTH_TRIANGLES = 100


def write_bfm2009(
    model: MorphableModel, folder: str | Path, expressions: Literal["3ddfa", "deep3d"] = "3ddfa"
) -> None:
    """Write 01_MorphableModel.mat, expressions, model_info.mat (or BFM_exp_idx.mat) and BFM_UV.mat.

    Micrometres, indices from 1, a few modes only. Before the model's vertices come some that
    trimming drops.

    Args:
        model: any.
        folder: is created.
        expressions: '3ddfa' (Model_Expression.mat, model_info.mat with landmarks and regions) or
            'deep3d' (Exp_Pca.bin, std_exp.txt, BFM_exp_idx.mat, nothing else).
    """
    folder = Path(folder)
    mean = model.mean.cpu().numpy()
    identity, identity_std = _modes(model.identity_basis.cpu().numpy(), _MODES["identity"], 1000.0)
    albedo, albedo_std = _modes(model.albedo_basis.cpu().numpy(), _MODES["albedo"], 255.0)
    expression, expression_std = _modes(
        model.expression_basis.cpu().numpy(), _MODES["expression"], 1000.0
    )
    faces = model.faces.cpu().numpy()[:, [0, 2, 1]]  # the release winds them the other way
    lips = 0.5 * expression[:, 0] * expression_std[0]
    shape = mean.reshape(-1) * np.float32(_MICROMETRES)
    if expressions == "3ddfa":
        shape -= lips  # its mean face is the sum; Deep3D leaves the expressions' mean out
    _save(
        folder / MODEL_FILE,
        {
            "shapeMU": _grown(shape[:, None]),
            "shapePC": _grown(identity),
            "shapeEV": identity_std[:, None],
            "texMU": _grown(model.albedo_mean.cpu().numpy().reshape(-1, 1) * np.float32(255)),
            "texPC": _grown(albedo),
            "texEV": albedo_std[:, None],
            "tl": (faces + _EXTRA + 1).astype(np.float64),
        },
    )
    trim = np.arange(len(mean), dtype=np.float64)[:, None] + _EXTRA + 1
    uv = np.concatenate([np.zeros((_EXTRA, 2)), model.uv.cpu().numpy()])
    if expressions == "deep3d":
        _write_deep3d(folder, lips, expression, expression_std, trim)
        return
    _save(
        folder / "Model_Expression.mat",
        {"mu_exp": lips[:, None], "w_exp": expression, "sigma_exp": expression_std[:, None]},
    )
    regions = [model.regions.get(name) for name in ("nose", "eyes", "mouth")]
    masks = np.stack([np.zeros(len(mean)) if r is None else r.cpu().numpy() > 0.5 for r in regions])
    segbin = np.concatenate([masks, 1 - masks.any(0, keepdims=True)]).T.astype(np.uint8)
    info = {
        "trimIndex": trim,
        "tri": (faces[:-_MOUTH_TRIANGLES] + 1).T.astype(np.float64),
        "keypoints": model.landmark_index.cpu().numpy()[None] + 1.0,
        "segbin": np.concatenate([np.zeros((_EXTRA, 4), np.uint8), segbin]),
    }
    _save(folder / "model_info.mat", info)
    _save(folder / "Model_tri_mouth.mat", {"tri_mouth": (faces[-_MOUTH_TRIANGLES:] + 1.0).T})
    _save(folder / "BFM_UV.mat", {"UV": uv})


def _write_deep3d(
    folder: Path, mean: Floats, basis: Floats, std: Floats, trim: NDArray[np.float64]
) -> None:
    with atomic_write(folder / "Exp_Pca.bin") as temporary:
        temporary.write_bytes(
            np.int32(basis.shape[1]).tobytes()
            + mean.astype("<f4").tobytes()
            + np.ascontiguousarray(basis.T, dtype="<f4").tobytes()
        )
    with atomic_write(folder / "std_exp.txt") as temporary:
        np.savetxt(temporary, std[None])
    _save(folder / "BFM_exp_idx.mat", {"trimIndex": trim})


def _modes(basis: Floats, count: int, unit: float) -> tuple[Floats, Floats]:
    """Return orthonormal leading modes (3V,K) and their standard deviations in the file's unit.

    A few bits of the mantissas are dropped so that the files compress.
    """
    flat = basis[..., :count].reshape(-1, min(count, basis.shape[2])) * np.float32(unit)
    std = np.linalg.norm(flat, axis=0)
    order = np.argsort(-std, kind="stable")
    columns = flat[:, order] / np.maximum(std[order], 1e-12)
    coarse = (columns.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFFC00)).view(np.float32)
    return coarse, std[order].astype(np.float32)


def _grown(rows: Floats) -> Floats:
    """Put the vertices that trimming drops in front."""
    return np.concatenate([np.zeros((3 * _EXTRA, rows.shape[1]), np.float32), rows])


def _save(path: Path, content: Mapping[str, object]) -> None:
    with atomic_write(path) as temporary:
        scipy.io.savemat(temporary, dict(content), do_compression=True)
