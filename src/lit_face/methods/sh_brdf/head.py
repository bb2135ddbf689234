"""The part of a morphable model that the method uses: leading components, faces, UV maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor, nn

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.uv import texel_uv, uv_resampling
from lit_face.morphable_models.albedo_mm import AlbedoMM, srgb_slope
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.contour import contour_candidates
from lit_face.rendering.color import srgb_to_linear
from lit_face.rendering.transfer import light_transfer

PLAIN_SPECULAR = 0.04  # reflectance of skin at normal incidence, for models without specular albedo
SHADOW_BANDS = 5  # what is darker or lighter than its surroundings changes slowly with the light
_OF_INTENSITY = 0.15  # reflectance of the built-in heads' specular intensities, which go up to 1
_FOREIGN_MM = 5.0  # a vertex whose texel lies farther away shares its UV place with another part


class StatisticalHead(nn.Module):
    """Coefficients to vertices and albedo maps, without the morphable model's files.

    Built empty from plain numbers, it is filled by its state_dict; `of_model` fills it from a
    morphable model.

    Args:
        vertices: V.
        faces: F.
        identity: coefficients.
        expression: likewise.
        albedo: likewise.
        specular: how many of them drive the specular albedo too.
        map_size: side S of UV maps, texels.
        contour: N, candidates of a jaw point.
        linear_albedo: albedo components add up in linear light (AlbedoMM), not in sRGB values.
        shadow_bands: bands of the light that the head shadows; 0 for none.
        persistent: whether the state_dict holds the buffers. A method in training, which has the
            morphable model, leaves them out.

    Attributes:
        faces: (F,3) int64; those whose texels belong to them alone.
        landmark_index: (68,) int64. contour: (17,N) int64 vertices that a jaw point may be.
        coverage: (S,S) 1 where a face is.
        face: (V,) in [0,1], what photos show of a face: no neck, scalp, ears, teeth.
    """

    mean: Tensor
    identity_basis: Tensor
    expression_basis: Tensor
    albedo_mean: Tensor
    albedo_basis: Tensor
    specular_mean: Tensor
    specular_basis: Tensor
    faces: Tensor
    uv: Tensor
    landmark_index: Tensor
    contour: Tensor
    coverage: Tensor
    face: Tensor
    map_vertices: Tensor
    map_weights: Tensor
    transfer: Tensor

    def __init__(
        self,
        vertices: int,
        faces: int,
        identity: int,
        expression: int,
        albedo: int,
        specular: int,
        map_size: int,
        contour: int,
        linear_albedo: bool = False,
        shadow_bands: int = 0,
        persistent: bool = True,
    ) -> None:
        super().__init__()
        self.map_size, self.linear_albedo = map_size, linear_albedo
        self.shadow_bands = shadow_bands
        v, s = vertices, map_size
        empty = {
            "mean": torch.zeros(v, 3),
            "identity_basis": torch.zeros(v, 3, identity),
            "expression_basis": torch.zeros(v, 3, expression),
            "albedo_mean": torch.zeros(v, 3),
            "albedo_basis": torch.zeros(v, 3, albedo),
            "specular_mean": torch.zeros(v, 1),
            "specular_basis": torch.zeros(v, 1, specular),
            "faces": torch.zeros(faces, 3, dtype=torch.int64),
            "uv": torch.zeros(v, 2),
            "landmark_index": torch.zeros(68, dtype=torch.int64),
            "contour": torch.zeros(17, contour, dtype=torch.int64),
            "coverage": torch.zeros(s, s),
            "face": torch.zeros(v),
            "map_vertices": torch.zeros(s * s, 3, dtype=torch.int64),
            "map_weights": torch.zeros(s * s, 3),
        }
        if shadow_bands:
            empty["transfer"] = torch.zeros(v, shadow_bands**2)
        for name, value in empty.items():
            self.register_buffer(name, value, persistent=persistent)

    @classmethod
    def of_model(
        cls,
        model: MorphableModel,
        map_size: int,
        identity: int = 80,
        expression: int = 64,
        albedo: int = 80,
        shadow_bands: int = 0,
        persistent: bool = True,
    ) -> StatisticalHead:
        """Take the leading components of a morphable model; fewer where it has fewer.

        Shadows are those of the mean face.
        """
        identity = min(identity, model.identity_size)
        expression = min(expression, model.expression_size)
        albedo = min(albedo, model.albedo_size)
        specular_mean, specular_basis = _specular(model, albedo)
        faces = _own_faces(model, map_size)
        contour = contour_candidates(model)
        resampling = uv_resampling(model.uv, faces, map_size)
        rows = _nearest_rows(resampling.texels, map_size)
        linear = isinstance(model, AlbedoMM)
        mean, basis = model.albedo_mean, model.albedo_basis[..., :albedo]
        if linear:
            mean = srgb_to_linear(mean)
            basis = basis / srgb_slope(mean)[..., None]
        nothing = torch.zeros_like(model.mean[:, 0])
        face = torch.maximum(model.regions["face"], model.regions.get("eyeballs", nothing))
        face = face * (1 - model.regions.get("mouth_interior", nothing))
        values = {
            "mean": model.mean,
            "identity_basis": model.identity_basis[..., :identity],
            "expression_basis": model.expression_basis[..., :expression],
            "albedo_mean": mean,
            "albedo_basis": basis,
            "specular_mean": specular_mean,
            "specular_basis": specular_basis,
            "faces": faces,
            "uv": model.uv,
            "landmark_index": model.landmark_index,
            "contour": contour,
            "coverage": resampling.mask.float(),
            "face": face.float(),
            "map_vertices": resampling.vertex_index[rows],
            "map_weights": resampling.weights[rows],
        }
        head = cls(
            vertices=len(model.mean),
            faces=len(faces),
            identity=identity,
            expression=expression,
            albedo=albedo,
            specular=specular_basis.shape[-1],
            map_size=map_size,
            contour=contour.shape[1],
            linear_albedo=linear,
            shadow_bands=shadow_bands,
            persistent=persistent,
        )
        if shadow_bands:
            values["transfer"] = light_transfer(model.mean.cpu(), model.faces.cpu(), shadow_bands)
        for name, value in values.items():
            getattr(head, name).copy_(value.detach())
        return head.to(model.mean.device)

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty head is built."""
        return {
            "_target_": "lit_face.methods.sh_brdf.head.StatisticalHead",
            "vertices": len(self.mean),
            "faces": len(self.faces),
            **self.counts,
            "specular": self.specular_basis.shape[-1],
            "map_size": self.map_size,
            "contour": self.contour.shape[1],
            "linear_albedo": self.linear_albedo,
            "shadow_bands": self.shadow_bands,
        }

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of identity, expression and albedo coefficients."""
        return {
            name: getattr(self, f"{name}_basis").shape[-1]
            for name in ("identity", "expression", "albedo")
        }

    @fp32_region()
    def vertices(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Return (B,V,3) head space, mm, of coefficients (B,Ki), (B,Ke), standard deviations."""
        offsets = identity @ self.identity_basis.flatten(0, 1).mT
        offsets = offsets + expression @ self.expression_basis.flatten(0, 1).mT
        return self.mean + offsets.view(-1, *self.mean.shape)

    @fp32_region()
    def albedo_maps(self, albedo: Tensor) -> tuple[Tensor, Tensor]:
        """Return the statistical diffuse (B,3,S,S) and specular (B,1,S,S) maps, linear.

        Args:
            albedo: (B,Ka) standard deviations; its leading entries drive the specular albedo too.
        """
        offsets = albedo @ self.albedo_basis.flatten(0, 1).mT
        diffuse = self.albedo_mean + offsets.view(-1, *self.albedo_mean.shape)
        if not self.linear_albedo:
            diffuse = srgb_to_linear(diffuse)
        leading = albedo[:, : self.specular_basis.shape[-1]]
        offsets = leading @ self.specular_basis.flatten(0, 1).mT
        specular = self.specular_mean + offsets.view(-1, *self.specular_mean.shape)
        maps = self.to_map(torch.cat([diffuse, specular], dim=2))
        return maps[:, :3], maps[:, 3:]

    @fp32_region()
    def to_map(self, values: Tensor) -> Tensor:
        """Interpolate (B,V,C) at the texels: (B,C,S,S); texels without a face take the nearest."""
        corners = values.index_select(1, self.map_vertices.flatten())
        corners = corners.view(len(values), -1, 3, values.shape[2])
        texels = (corners * self.map_weights[..., None]).sum(2)
        size = self.map_size
        return texels.mT.reshape(len(values), values.shape[2], size, size)


def _specular(model: MorphableModel, albedo: int) -> tuple[Tensor, Tensor]:
    """Return reflectance at normal incidence, mean (V,1) and basis (V,1,Ks)."""
    mean, basis = model.specular_mean, model.specular_basis
    if mean is None or basis is None:
        plain = torch.full_like(model.mean[:, :1], PLAIN_SPECULAR)
        return plain, plain.new_zeros(len(plain), 1, 0)
    scale = 1.0 if isinstance(model, AlbedoMM) else _OF_INTENSITY
    return scale * mean.mean(-1, keepdim=True), scale * basis[..., :albedo].mean(1, keepdim=True)


def _own_faces(model: MorphableModel, map_size: int) -> Tensor:
    """Leave out faces whose place in the UV map belongs to another part (teeth, eye sockets)."""
    resampling = uv_resampling(model.uv, model.faces, map_size)
    positions = resampling(model.mean)
    grid = torch.stack([2 * model.uv[:, 0] - 1, 1 - 2 * model.uv[:, 1]], dim=-1)[None, None]
    found = F.grid_sample(positions[None], grid, mode="nearest", align_corners=True)[0, :, 0].mT
    owns = (found - model.mean).norm(dim=1) < _FOREIGN_MM + _texel_mm(model, map_size)
    return model.faces[owns[model.faces].all(dim=1)]


def _texel_mm(model: MorphableModel, map_size: int) -> float:
    """Return how far a texel reaches on the surface: four times the median face, per texel."""
    corners, places = model.mean[model.faces], model.uv[model.faces]
    length = (corners[:, 0] - corners[:, 1]).norm(dim=1)
    texels = (places[:, 0] - places[:, 1]).norm(dim=1) * (map_size - 1)
    return 4 * float((length / texels.clamp(min=1e-6)).median())


def _nearest_rows(texels: Tensor, size: int) -> Tensor:
    """For each of the S*S texels, the row in `texels` that is nearest in the map."""
    everywhere = texel_uv(torch.arange(size * size), size).numpy()
    _, rows = cKDTree(texel_uv(texels.cpu(), size).numpy()).query(everywhere)
    return torch.from_numpy(np.asarray(rows, np.int64)).to(texels.device)
