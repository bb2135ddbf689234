"""The weighted sum of the losses, shared by training and by the refinement of single photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.methods.sh_brdf import losses
from lit_face.methods.sh_brdf.head import StatisticalHead
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from lit_face.rendering.environment import negative_light
from lit_face.types import FaceBatch, Reconstruction, required

TERMS = (
    "photo",
    "landmark",
    "prior_identity",
    "prior_expression",
    "prior_albedo",
    "light_energy",
    "light_grey",
    "light_negative",
    "symmetry_diffuse",
    "symmetry_specular",
    "consistency_diffuse",
    "consistency_specular",
    "smooth_diffuse",
    "smooth_specular",
    "range_diffuse",
    "range_specular",
    "grey_specular",
)


class Objective:
    """Losses by name and their weights.

    Args:
        weights: some of `TERMS`; what is left out or 0 is not computed.
        linear_photo: compare pictures in linear light; else as sRGB values, in which dark skin
            counts as much as light skin.
        blur_render: blur pictures of faces a little before they are compared, as NextFace does.

    Raises:
        ValueError: a loss that there is not.
    """

    def __init__(
        self, weights: Mapping[str, float], linear_photo: bool = False, blur_render: bool = False
    ) -> None:
        if problem := weight_problem(weights):
            raise ValueError(problem)
        self.weights = {name: float(value) for name, value in weights.items() if value}
        self.linear_photo, self.blur_render = linear_photo, blur_render

    @fp32_region()
    def terms(
        self,
        face: Reconstruction,
        rendered: Tensor,
        mask: Tensor,
        batch: FaceBatch,
        head: StatisticalHead,
    ) -> dict[str, Tensor]:
        """Compute every loss that has a weight.

        Args:
            face: with textures not clamped.
            rendered: (B,3,H,W) its picture, linear.
            mask: (B,1,H,W) where the picture counts.
            batch: photo and landmarks.
            head: gives the texels of faces.
        """
        losses_by_name: dict[str, Callable[[], Tensor]] = {
            "photo": lambda: self._photo(rendered, mask, batch),
            "landmark": lambda: _landmark(face, batch),
            **_priors(face),
            **_light(_light_of(face)),
            **_maps(face, head),
        }
        return {name: loss() for name, loss in losses_by_name.items() if name in self.weights}

    def total(self, terms: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
        """Sum the terms with their weights, some of them times a further factor."""
        values = [
            self.weights[name] * factors.get(name, 1.0) * value for name, value in terms.items()
        ]
        return torch.stack(values).sum()

    @staticmethod
    @torch.no_grad()
    def shares(face: Reconstruction) -> dict[str, Tensor]:
        """Return what should stay small: shares of texels outside [0,1], and negative light."""
        diffuse = (face.textures or {})["diffuse"]
        return {
            "texels_out_of_range": ((diffuse < 0) | (diffuse > 1)).float().mean(),
            "light_negative_energy": negative_light(_light_of(face)),
        }

    def _photo(self, rendered: Tensor, mask: Tensor, batch: FaceBatch) -> Tensor:
        if self.blur_render:
            rendered = losses.smooth_image(rendered)
        if self.linear_photo:
            return losses.photometric(rendered, srgb_to_linear(batch.image), mask)
        return losses.photometric(linear_to_srgb(rendered), batch.image, mask)


def _landmark(face: Reconstruction, batch: FaceBatch) -> Tensor:
    true = required(batch.landmarks, "landmarks", "sh_brdf")
    return losses.landmark(face.landmarks, true, batch.image.shape[-1])


def _priors(face: Reconstruction) -> dict[str, Callable[[], Tensor]]:
    coefficients = face.coefficients or {}
    return {f"prior_{name}": partial(losses.prior, value) for name, value in coefficients.items()}


def _light(light: Tensor) -> dict[str, Callable[[], Tensor]]:
    return {
        "light_energy": lambda: light.square().mean(),
        "light_grey": lambda: losses.light_grey(light),
        "light_negative": lambda: negative_light(light),
    }


def _maps(face: Reconstruction, head: StatisticalHead) -> dict[str, Callable[[], Tensor]]:
    textures, mask = face.textures or {}, head.coverage
    found: dict[str, Callable[[], Tensor]] = {
        "grey_specular": partial(losses.map_grey, textures["specular"], mask)
    }
    for kind in ("diffuse", "specular"):
        maps, statistical = textures[kind], textures.get(f"{kind}_statistical")
        found[f"range_{kind}"] = partial(losses.map_range, maps, mask)
        if statistical is None:
            continue
        reference = statistical.expand_as(maps)
        found[f"symmetry_{kind}"] = partial(losses.map_symmetry, maps, mask)
        found[f"smooth_{kind}"] = partial(losses.map_smooth, maps - reference, mask)
        found[f"consistency_{kind}"] = partial(
            losses.map_consistency, maps, reference.detach(), mask
        )
    return found


def weight_problem(weights: Mapping[str, float]) -> str | None:
    """Say which weights belong to no loss, in the words of the option."""
    unknown = sorted(set(weights) - set(TERMS))
    if not unknown:
        return None
    return f"weights: there is no loss {unknown}; there are {', '.join(TERMS)}."


def _light_of(face: Reconstruction) -> Tensor:
    if not isinstance(face.light, Tensor):
        raise ValueError(f"sh_brdf needs light (B,K,3), found {type(face.light).__name__}.")
    return face.light
