"""Errors of reconstructions against photos and, where it is known, against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lit_face.benchmarks.photometric_render import (
    batch_rows,
    finite_rows,
    has_statistical_maps,
    render,
    rows_of,
)
from lit_face.data.ffhq_truth import TrueFaces
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import sample_image
from lit_face.geometry.uv import uv_to_texels
from lit_face.metrics.albedo import albedo_rmse, scale_invariant_rmse
from lit_face.metrics.light import irradiance_error
from lit_face.metrics.nme import nme
from lit_face.metrics.photometric import (
    PerceptualDistance,
    masked_l1,
    masked_psnr,
    masked_ssim,
    overlap,
    share_inside,
)
from lit_face.metrics.skin_tone import typology_angle_deg
from lit_face.metrics.surface import aligned_errors
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.scene import can_be_rendered
from lit_face.types import FaceBatch, Reconstruction, required

CROP = 256  # pixels, the unit of `landmarks_px`
_INNER = slice(17, 68)
_SAME_UV = 1e-4


@dataclass
class PhotometricErrors:
    """Measures batches of reconstructions.

    Attributes:
        renderer: makes their pictures.
        lpips: where its weights are there.
        model: whose vertices the truth has; None without truth.
        skin: (V,) in [0,1], where albedo counts.
    """

    renderer: RasterMaterialRenderer
    lpips: PerceptualDistance | None = None
    model: MorphableModel | None = None
    skin: Tensor | None = None

    @fp32_region()
    @torch.no_grad()
    def __call__(
        self, face: Reconstruction, batch: FaceBatch, true: TrueFaces | None
    ) -> dict[str, np.ndarray]:
        """Return errors by name, one a picture; NaN everywhere for one that is not finite.

        Args:
            face: of the batch.
            batch: crops with landmarks and skin masks.
            true: the truth, its camera in pixels of the crops.

        Returns:
            (B,) each, and rows (B,D) `_identity` and `_albedo` to compare pictures of a person.
            Names depend on what the method estimates and on whether there is truth.
        """
        rows = finite_rows(face)
        if not bool(rows.any()):
            return {"landmarks_px": np.full(len(batch), np.nan)}
        picked, pictures = rows_of(face, rows), batch_rows(batch, rows)
        errors = self._landmarks(picked, pictures)
        if can_be_rendered(picked):
            errors |= self._picture(picked, pictures)
        if true is not None:
            errors |= self._truth(picked, true.map(lambda tensor: tensor[rows]))
        return {name: _spread(value, rows) for name, value in errors.items()}

    def _landmarks(self, face: Reconstruction, batch: FaceBatch) -> dict[str, Tensor]:
        true = required(batch.landmarks, "landmarks", "ffhq_photometric")[..., :2]
        distance = (face.landmarks[..., :2].float() - true).norm(dim=-1)
        distance = distance * (CROP / batch.image.shape[-1])
        return {
            "landmarks_px": distance.mean(1),
            "landmarks_inner_px": distance[:, _INNER].mean(1),
            "nme": 100 * nme(face.landmarks, true),
        }

    def _picture(self, face: Reconstruction, batch: FaceBatch) -> dict[str, Tensor]:
        size = (batch.image.shape[-2], batch.image.shape[-1])
        skin = required(batch.skin_mask, "skin_mask", "ffhq_photometric").float()
        picture = render(self.renderer, face, size)
        mask = skin * picture.mask
        photo, shown = batch.image.float(), linear_to_srgb(picture.image.clamp(0, 1))
        linear = srgb_to_linear(photo)
        errors = {
            "photo_l1": masked_l1(picture.image, linear, mask),
            "psnr": masked_psnr(shown, photo, mask),
            "ssim": masked_ssim(shown, photo, mask),
            "coverage_iou": overlap(skin, picture.mask),
            "skin_covered": share_inside(skin, picture.mask),
        }
        if self.lpips is not None:
            errors["lpips"] = self.lpips(shown, photo, mask)
        if has_statistical_maps(face):
            plain = render(self.renderer, face, size, statistical=True)
            shown = linear_to_srgb(plain.image.clamp(0, 1))
            errors |= {
                "statistical/photo_l1": masked_l1(plain.image, linear, mask),
                "statistical/psnr": masked_psnr(shown, photo, mask),
                "statistical/ssim": masked_ssim(shown, photo, mask),
            }
        return errors

    def _truth(self, face: Reconstruction, true: TrueFaces) -> dict[str, Tensor]:
        if self.model is None or self.skin is None:
            return {}
        errors: dict[str, Tensor] = {}
        if isinstance(face.light, Tensor):
            errors["light_rel"] = irradiance_error(face.light, true.light)
            errors["light_si_rel"] = irradiance_error(face.light, true.light, scale_invariant=True)
        if not shares_topology(face, self.model):
            return errors
        errors |= self._geometry(face, true)
        if "diffuse" in (face.textures or {}):
            errors |= self._albedo(face, true)
        if face.coefficients is not None and "identity" in face.coefficients:
            errors["_identity"] = face.coefficients["identity"]
        return errors

    def _geometry(self, face: Reconstruction, true: TrueFaces) -> dict[str, Tensor]:
        model = required(self.model, "model", "ffhq_photometric")
        weights = model.regions["face"].float()
        mesh = (face.vertices.float(), true.vertices, model.faces, weights)
        distance, angle = aligned_errors(*mesh)
        rigid, _ = aligned_errors(*mesh, scale=False)
        return {"vertices_mm": distance, "vertices_rigid_mm": rigid, "normals_deg": angle}

    def _albedo(self, face: Reconstruction, true: TrueFaces) -> dict[str, Tensor]:
        model = required(self.model, "model", "ffhq_photometric")
        skin = required(self.skin, "skin", "ffhq_photometric")
        textures = required(face.textures, "textures", "ffhq_photometric")
        seen = skin * _faces_viewer(true, model)
        diffuse = at_vertices(textures["diffuse"], model.uv)
        errors = {
            "albedo_rmse": albedo_rmse(diffuse, true.diffuse, seen),
            "albedo_si_rmse": scale_invariant_rmse(diffuse, true.diffuse, seen),
            "ita_error_deg": (typology_angle_deg(diffuse, skin) - true.tone_deg).abs(),
            "_albedo": diffuse[:, skin > 0.5].flatten(1),
        }
        if "specular" in textures:
            specular = at_vertices(textures["specular"], model.uv).mean(-1, keepdim=True)
            errors["specular_si_rmse"] = scale_invariant_rmse(specular, true.specular, seen)
        return errors


def shares_topology(face: Reconstruction, model: MorphableModel) -> bool:
    """Whether a reconstruction's vertices are the model's, by number and UV coordinates."""
    return face.uv.shape == model.uv.shape and bool(
        torch.allclose(face.uv.to(model.uv), model.uv, atol=_SAME_UV)
    )


def at_vertices(maps: Tensor, uv: Tensor) -> Tensor:
    """Read UV maps (B,C,S,S), or (B,C,1,1), at the vertices: (B,V,C)."""
    texels = uv_to_texels(uv, maps.shape[-1]).expand(len(maps), -1, -1)
    return sample_image(maps.float(), texels.to(maps.device), padding="border").mT


def _faces_viewer(true: TrueFaces, model: MorphableModel) -> Tensor:
    """Return (B,V): 1 where the true surface turns to the camera, less where it grazes."""
    away = torch.nn.functional.normalize(true.camera.matrix[:, 2, :3], dim=-1)
    normals = vertex_normals(true.vertices, model.faces)
    return (-(normals @ away[:, :, None])[..., 0]).clamp(0, 1)


def _spread(values: Tensor, rows: Tensor) -> np.ndarray:
    """Put values of some rows back into place (B,...); the others are NaN."""
    full = values.new_full((len(rows), *values.shape[1:]), torch.nan, dtype=torch.float32)
    full[rows] = values.float()
    result: np.ndarray = full.cpu().numpy()
    return result
