"""Errors of faces with colours of vertices against photos and, on the miniature, the truth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.benchmarks.celeba_judges import Judges
from lit_face.benchmarks.photometric_errors import shares_topology
from lit_face.benchmarks.photometric_render import batch_rows, finite_rows, rows_of
from lit_face.data.ffhq_truth import TrueFaces
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import sample_image
from lit_face.metrics.albedo import albedo_rmse, scale_invariant_rmse
from lit_face.metrics.photometric import masked_l1, masked_psnr, masked_ssim, share_inside
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.color import srgb_to_linear
from lit_face.rendering.rasterize import rasterize
from lit_face.rendering.renderer import RasterRenderer
from lit_face.types import FaceBatch, Reconstruction, required

FINE, COARSE = "albedo", "coarse_albedo"  # of `Reconstruction.vertex_colors`
_WHO = "benchmark=celeba"
_VISIBILITY_SIDE = 512


@dataclass
class ColorErrors:
    """Measures batches of reconstructions whose vertices have colours.

    Attributes:
        judges: of identity.
        model: whose vertices the truth has; None without truth.
        skin: (V,) in [0,1], where albedo counts.
    """

    judges: Judges
    model: MorphableModel | None = None
    skin: Tensor | None = None
    renderer: RasterRenderer = field(default_factory=RasterRenderer)

    @fp32_region()
    @torch.no_grad()
    def __call__(
        self, face: Reconstruction, name: str, batch: FaceBatch, true: TrueFaces | None
    ) -> dict[str, np.ndarray]:
        """Return errors (B,) by name, NaN for a face that is not finite.

        Args:
            face: of the batch, with camera, light (B,K,3) and colours.
            name: of the colours.
            batch: pictures with skin masks.
            true: the truth, its camera in pixels of the pictures.

        Raises:
            ValueError: the face has no camera, light or colours.
        """
        rows = finite_rows(face)
        if not bool(rows.any()):
            return {"photo_l1": np.full(len(batch), np.nan)}
        picked, pictures = rows_of(face, rows), batch_rows(batch, rows)
        errors = self._picture(picked, name, pictures)
        if true is not None and self.model is not None and shares_topology(picked, self.model):
            errors |= self._albedo(picked, name, pictures, true.map(lambda value: value[rows]))
        found = {}
        for key, values in errors.items():
            full = values.new_full((len(rows), *values.shape[1:]), torch.nan, dtype=torch.float32)
            full[rows] = values.float()
            found[key] = full.cpu().numpy()
        return found

    def _picture(self, face: Reconstruction, name: str, batch: FaceBatch) -> dict[str, Tensor]:
        photo = batch.image.float()
        skin = required(batch.skin_mask, "skin_mask", _WHO).float()
        shown, seen = render_colors(self.renderer, face, name, photo)
        mask = skin * seen
        counts = mask.flatten(1).sum(1)
        length = ((shown - photo).square().sum(1, keepdim=True).sqrt() * mask).flatten(1).sum(1)
        return {
            "photo_l1": masked_l1(shown, photo, mask),
            "photo_l21": length / counts,
            "psnr": masked_psnr(shown, photo, mask),
            "ssim": masked_ssim(shown, photo, mask),
            "coverage": share_inside(skin, seen),
            **self.judges(photo, shown, mask, identity_points(face, batch)),
        }

    def _albedo(
        self, face: Reconstruction, name: str, batch: FaceBatch, true: TrueFaces
    ) -> dict[str, Tensor]:
        model, skin = required(self.model, "model", _WHO), required(self.skin, "skin", _WHO)
        found = srgb_to_linear(colors_of(face, name))
        weight = skin.expand(len(found), -1)
        shown = shown_vertices(model, true, required(batch.skin_mask, "skin_mask", _WHO))
        return {
            "albedo": albedo_rmse(found, true.diffuse, weight),
            "albedo_gain_free": scale_invariant_rmse(found, true.diffuse, weight),
            "albedo_shown": albedo_rmse(found, true.diffuse, weight * shown),
            "albedo_hidden": albedo_rmse(found, true.diffuse, weight * (1 - shown)),
            "_albedo": found[:, skin > 0.5].flatten(1),
        }


def colors_of(face: Reconstruction, name: str) -> Tensor:
    """Return colours of vertices (B,V,3), sRGB in [0,1].

    Raises:
        ValueError: there are none; says which methods give them.
    """
    if name not in (face.vertex_colors or {}):
        raise ValueError(
            f"benchmark=celeba renders colours of vertices, and this method's reconstructions have "
            f"no vertex_colors['{name}']; deep3d and gcn have them. For maps use "
            "benchmark=ffhq_photometric."
        )
    return dict(face.vertex_colors or {})[name].float().clamp(0, 1)


def render_colors(
    renderer: RasterRenderer, face: Reconstruction, name: str, photo: Tensor, lit: bool = True
) -> tuple[Tensor, Tensor]:
    """Render faces in their own camera and light.

    Args:
        renderer: shades in linear light.
        face: finite.
        name: of the colours.
        photo: (B,3,H,W), gives the size.
        lit: false shows the colours themselves.

    Returns:
        Pictures (B,3,H,W), sRGB in [0,1], and masks (B,1,H,W).

    Raises:
        ValueError: the face has no camera, light (B,K,3) or colours.
    """
    if face.camera is None or not isinstance(face.light, Tensor):
        raise ValueError(
            "benchmark=celeba renders with the method's camera and light, spherical harmonics "
            "(B,K,3); this method's reconstructions lack them."
        )
    size = (photo.shape[-2], photo.shape[-1])
    light = face.light.float() if lit else None
    picture = renderer(
        face.vertices.float(), face.faces, face.camera, size, colors_of(face, name), light
    )
    return picture.image.clamp(0, 1), picture.mask


def identity_points(face: Reconstruction, batch: FaceBatch) -> Tensor:
    """Return the landmarks that align faces for judges: the data's, else the method's."""
    return face.landmarks if batch.landmarks is None else batch.landmarks


def shown_vertices(model: MorphableModel, true: TrueFaces, skin_mask: Tensor) -> Tensor:
    """Return (B,V): 1 for vertices whose skin the picture shows, by the truth."""
    points = true.camera.project(true.vertices)
    # On a fine grid, so that hardly a small triangle falls between pixels.
    factor = max(1.0, _VISIBILITY_SIDE / skin_mask.shape[-1])
    fine = torch.cat([(points[..., :2] + 0.5) * factor - 0.5, points[..., 2:] * factor], dim=-1)
    size = (round(factor * skin_mask.shape[-2]), round(factor * skin_mask.shape[-1]))
    seen = rasterize(fine, model.faces, size).flatten(1)
    corners = model.faces[seen.clamp(min=0)]  # (B,P,3)
    is_seen = (seen >= 0)[..., None].expand_as(corners).flatten(1).to(points)
    visible = points.new_zeros(points.shape[:2])
    visible.scatter_reduce_(1, corners.flatten(1), is_seen, "amax")
    skin = sample_image(skin_mask.float(), points[..., :2])[:, 0]
    return visible * (skin > 0.5)


def with_mean_colors(face: Reconstruction, model: MorphableModel) -> Reconstruction:
    """Give a face that is the model's mean its mean albedo."""
    mean = model.albedo_mean.clamp(0, 1).expand(len(face.vertices), -1, -1)
    return replace(face, vertex_colors={FINE: mean.to(face.vertices)})


def side_by_side(
    renderer: RasterRenderer, face: Reconstruction, batch: FaceBatch
) -> tuple[list[Tensor], bool]:
    """Return columns (B,3,H,W) of pictures for the report, and whether there is a coarse face.

    The photo; coarse and refined in their light; coarse and refined albedo; four times the
    difference of the last picture and the photo.
    """
    photo = batch.image.float()
    names = [name for name in (COARSE, FINE) if name in (face.vertex_colors or {})]
    lit, plain, error = [], [], photo.new_zeros(photo.shape)
    for name in names:
        shown, seen = render_colors(renderer, face, name, photo)
        albedo, _ = render_colors(renderer, face, name, photo, lit=False)
        lit.append(torch.lerp(photo, shown, seen))
        plain.append(albedo)
        error = (4 * (shown - photo).abs() * seen).clamp(0, 1)
    return [photo, *lit, *plain, error], len(names) == 2


def enlarged(pictures: Tensor, smallest: int) -> Tensor:
    """Enlarge pictures whose side is below `smallest` by a whole factor."""
    factor = max(1, -(-smallest // pictures.shape[-1]))
    return F.interpolate(pictures, scale_factor=factor, mode="nearest")
