"""AlbedoMM: diffuse and specular albedo for the meshes of the Basel Face Model 2017.

Smith et al. (2020), "A Morphable Face Albedo Model". Academic research only. The files hold linear
intensities; the house keeps diffuse albedo as sRGB values.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.io.hdf5 import read_datasets, write_datasets
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear

_KINDS = ("diffuseAlbedo", "specularAlbedo")


class AlbedoMM(MorphableModel):
    """A morphable model whose albedo is linear in light intensity, not in sRGB values.

    `albedo(coefficients)` is exact: the offset is added to linear intensities and the sum encoded.
    `albedo_mean` and `albedo_basis` are sRGB values too, for users that read them directly: the
    mean is exact, the basis is the tangent there, so sums of it are right for small coefficients
    only. `specular_mean` and `specular_basis` are linear intensities, as the file has them.

    One set of coefficients drives both: the model's own sampler does that, and so does `sample`.
    """

    def albedo(self, coefficients: Tensor) -> Tensor:
        """Return diffuse albedo (B,V,3), sRGB values, not clipped, for coefficients (B,Ka)."""
        offset = super().albedo(coefficients) - self.albedo_mean
        mean = srgb_to_linear(self.albedo_mean)
        return linear_to_srgb(mean + offset / srgb_slope(mean))

    def sample(self, count: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Draw `count` faces; 'specular' is 'albedo', as the two are coupled."""
        out = super().sample(count, generator)
        return {**out, "specular": out["albedo"]}


def srgb_slope(linear: Tensor) -> Tensor:
    """Return the derivative of the sRGB curve at linear intensities."""
    power = 1.055 / 2.4 * linear.clamp(min=0.0031308) ** (1 / 2.4 - 1)
    return torch.where(linear <= 0.0031308, 12.92, power)


def with_albedo_mm(arrays: ModelArrays, path: str | Path) -> ModelArrays:
    """Return the arrays with the albedo of an AlbedoMM file instead of their own.

    Args:
        arrays: of the Basel Face Model 2017 with the same mesh (bfm or face12).
        path: albedoModel2020_bfm_albedoPart.h5 or albedoModel2020_face12_albedoPart.h5.

    Raises:
        ModuleNotFoundError: h5py is not installed.
        FileNotFoundError, ValueError: what is missing or misshapen; another number of vertices
            names the file that fits.
    """
    raw = read_albedo_mm(path, len(arrays.mean))
    mean, basis = raw["diffuseAlbedo"]
    linear = torch.from_numpy(mean)
    slope = srgb_slope(linear)
    specular_mean, specular_basis = raw["specularAlbedo"]
    return replace(
        arrays,
        albedo_mean=linear_to_srgb(linear),
        albedo_basis=torch.from_numpy(basis) * slope[:, :, None],
        # One intensity, repeated over the channels.
        specular_mean=torch.from_numpy(specular_mean.mean(1, keepdims=True)),
        specular_basis=torch.from_numpy(specular_basis.mean(1, keepdims=True)),
    )


def read_albedo_mm(
    path: str | Path, vertices: int
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Read mean (V,3) and basis (V,3,K) a standard deviation, linear intensities, by kind.

    Raises:
        ModuleNotFoundError, FileNotFoundError, ValueError: see `with_albedo_mm`.
    """
    shapes: dict[str, int | tuple[int | None, ...]] = {}
    for kind in _KINDS:
        shapes[f"{kind}/model/mean"] = (None,)
        shapes[f"{kind}/model/pcaBasis"] = (None, None)
        shapes[f"{kind}/model/pcaVariance"] = (None,)
    data, _, problems = read_datasets(path, shapes)
    found = {name: len(values) // 3 for name, values in data.items() if "Variance" not in name}
    for name, count in found.items():
        if count != vertices:
            problems.append(
                f"'{name}' has {count} vertices, the shape model {vertices}: take "
                "..._bfm_albedoPart.h5 for the bfm mesh, ..._face12_albedoPart.h5 for face12"
            )
    for kind in _KINDS:
        basis, variance = data.get(f"{kind}/model/pcaBasis"), data.get(f"{kind}/model/pcaVariance")
        if basis is not None and variance is not None and basis.shape[1] != len(variance):
            problems.append(f"'{kind}': {basis.shape[1]} modes, but {len(variance)} variances")
    mean = data.get("diffuseAlbedo/model/mean")
    if mean is not None and not 0.01 < float(np.median(mean)) < 1:
        problems.append(
            f"'diffuseAlbedo/model/mean' has the median {float(np.median(mean)):.3g}, expected "
            "linear intensities in [0, 1]"
        )
    if problems:
        raise ValueError(
            f"{path} cannot be used:" + "".join(f"\n- {problem}" for problem in problems)
        )
    out = {}
    for kind in _KINDS:
        std = np.sqrt(np.maximum(data[f"{kind}/model/pcaVariance"], 0))
        basis = (data[f"{kind}/model/pcaBasis"] * std).reshape(vertices, 3, -1)
        out[kind] = data[f"{kind}/model/mean"].reshape(vertices, 3), basis
    return out


def write_albedo_mm(model: MorphableModel, path: str | Path, modes: int = 8) -> None:
    """Write a model's albedo in AlbedoMM's layout (linear intensities).

    The sRGB basis is turned into a linear one by its tangent at the mean, so a model that is
    linear in sRGB comes back with the same mean and slopes, not with the same far samples.

    Args:
        model: whose albedo; without a specular part, a plain 0.05 is written.
        path: the .h5 file.
        modes: at most so many leading modes, of both parts together.
    """
    linear = srgb_to_linear(model.albedo_mean.cpu())
    basis = model.albedo_basis.cpu()[..., :modes] / srgb_slope(linear)[:, :, None]
    specular_mean = torch.full_like(linear, 0.05)
    specular = torch.zeros_like(basis)
    if model.specular_mean is not None and model.specular_basis is not None:
        specular_mean = model.specular_mean.cpu().expand(-1, 3)
        count = min(modes, model.specular_basis.shape[2])
        specular[..., :count] = model.specular_basis.cpu()[..., :count]
    datasets: dict[str, NDArray[Any] | str] = {}
    for kind, mean, part in zip(_KINDS, (linear, specular_mean), (basis, specular), strict=True):
        flat = part.reshape(-1, part.shape[2])
        norm = flat.norm(dim=0)
        datasets[f"{kind}/model/mean"] = mean.reshape(-1).numpy()
        datasets[f"{kind}/model/pcaBasis"] = (flat / norm.clamp(min=1e-12)).numpy()
        datasets[f"{kind}/model/pcaVariance"] = norm.square().numpy()
    write_datasets(path, datasets)
