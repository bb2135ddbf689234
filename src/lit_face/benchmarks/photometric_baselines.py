"""What a method must beat: the mean face, upright, in plain light or in the best light."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lit_face.benchmarks.face_errors import SurfacePoints, mean_face
from lit_face.benchmarks.photometric_render import render
from lit_face.data.transforms import Alignment
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.uv import uv_resampling
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.color import srgb_to_linear
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.types import FaceBatch, Reconstruction, required

BANDS = 3
_MAP_SIZE = 256
_ROUGHNESS = 0.4
_PLAIN_SPECULAR = 0.04  # reflectance of skin at normal incidence, for models without specular
_OF_INTENSITY = 0.15  # reflectance of the built-in heads' specular intensities, which go up to 1
_RIDGE = 1e-3  # of the mean square of a coefficient's picture


@dataclass
class MeanFace:
    """Reconstructs every picture as the mean face of a model.

    Attributes:
        model: gives shape, diffuse and specular albedo.
        margin: of the crops.
        exposure: radiance of the light, see `calibrate`.
        alignment: of the crops, see `mean_face`.
    """

    model: MorphableModel
    margin: float
    exposure: float = 1.0
    alignment: Alignment = "box"

    def __post_init__(self) -> None:
        model = self.model
        self._points = SurfacePoints(model, model.uv)
        resampling = uv_resampling(model.uv, model.map_faces, _MAP_SIZE)
        self._albedo = resampling(srgb_to_linear(model.albedo_mean.clamp(0, 1)))[None]
        gloss = torch.full_like(model.mean[:, :1], _PLAIN_SPECULAR)
        if model.specular_mean is not None:
            gloss = _OF_INTENSITY * model.specular_mean
        self._gloss = resampling(gloss)[None]
        self._renderer = RasterMaterialRenderer()

    def __call__(self, batch: FaceBatch) -> Reconstruction:
        """Return the mean face under white frontal light, radiance `exposure` (1 - z)."""
        count, device = len(batch), batch.image.device
        face = mean_face(self.model, self._points, batch, self.margin, self.alignment)
        light = torch.zeros(count, BANDS * BANDS, 3, device=device)
        light[:, 0] = self.exposure * math.sqrt(4 * math.pi)
        light[:, 3] = -self.exposure * math.sqrt(4 * math.pi / 3)
        textures = {
            "diffuse": self._albedo.to(device).expand(count, -1, -1, -1),
            "specular": self._gloss.to(device).expand(count, -1, -1, -1),
            "roughness": torch.full((count, 1, 1, 1), _ROUGHNESS, device=device),
        }
        coefficients = {"identity": torch.zeros(count, self.model.identity_size, device=device)}
        return replace(
            face,
            landmarks=face.landmarks.expand(count, -1, -1),
            light=light,
            textures=textures,
            coefficients=coefficients,
        )

    @fp32_region()
    @torch.no_grad()
    def calibrate(self, batches: Iterable[FaceBatch]) -> None:
        """Choose the exposure at which the mean face is as bright as a population's skin."""
        self.exposure = 1.0
        sums = [
            torch.stack([(mask * picture).sum(), (mask * photo).sum()])
            for batch in batches
            for photo, mask, picture in [self._compared(batch)]
        ]
        rendered, seen = torch.stack(sums).double().sum(0).tolist() if sums else (1.0, 1.0)
        if rendered > 0 and seen > 0:
            self.exposure = seen / rendered

    @fp32_region()
    @torch.no_grad()
    def lit(self, batch: FaceBatch) -> Reconstruction:
        """Return the mean face in the light of three bands that explains each picture best.

        Least squares over the masked pixels, in linear light, with a slight ridge.
        """
        face = self(batch)
        photo, mask, _ = self._compared(batch)
        count, size = len(batch), (photo.shape[-2], photo.shape[-1])
        light = torch.zeros(count, BANDS * BANDS, 3, device=photo.device)
        columns = []
        for index in range(BANDS * BANDS):
            light.zero_()
            light[:, index] = 1.0
            picture = render(self._renderer, replace(face, light=light), size).image
            columns.append((picture * mask).flatten(2))
        design = torch.stack(columns, dim=-1)  # (B,3,P,K)
        target = (photo * mask).flatten(2)[..., None]
        # Some devices have no float64.
        gram, right = ((design.mT @ part).cpu().double() for part in (design, target))
        level = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None].clamp(min=1e-9)
        ridge = _RIDGE * level * torch.eye(BANDS * BANDS, dtype=level.dtype)
        solved = torch.linalg.solve(gram + ridge, right)[..., 0]
        return replace(face, light=solved.mT.float().to(photo.device))

    def _compared(self, batch: FaceBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the photo, linear, where it counts, and the picture of the mean face."""
        photo = srgb_to_linear(batch.image.float())
        picture = render(self._renderer, self(batch), (photo.shape[-2], photo.shape[-1]))
        skin = required(batch.skin_mask, "skin_mask", "ffhq_photometric")
        return photo, skin * picture.mask, picture.image
