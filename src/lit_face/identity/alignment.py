"""Aligned faces, as networks that recognise people want them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_face.geometry.five_points import ARCFACE_SIZE, arcface_matrix, five_points
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import warp_image


@fp32_region()
def align_faces(image: Tensor, points: Tensor) -> Tensor:
    """Bring faces to ArcFace's template.

    Args:
        image: (B,3,H,W) RGB in [0,1], sRGB.
        points: pixels of `image`: 68 landmarks (B,68,2 or more), or five points (B,5,2 or more) as
            in `lit_face.geometry.five_points`.

    Returns:
        (B,3,112,112) in [-1,1], black outside of the picture; differentiable in `image`. Pictures
        that shrink are averaged, not thinned out.

    Raises:
        ValueError: another number of points.
    """
    if points.ndim != 3 or points.shape[1] not in (5, 68) or points.shape[2] < 2:
        raise ValueError(
            f"points should be (B,68,2) landmarks or (B,5,2), found {tuple(points.shape)}."
        )
    flat = points[..., :2].detach().float()
    five = five_points(flat) if flat.shape[1] == 68 else flat
    size = (ARCFACE_SIZE, ARCFACE_SIZE)
    aligned = warp_image(image.float(), arcface_matrix(five), size, antialias=True)
    result: Tensor = 2 * aligned - 1
    return result


def mask_faces(image: Tensor, mask: Tensor, behind: Tensor | float = 0.5) -> Tensor:
    """Return pictures (B,3,H,W) where the mask (B,1,H,W) is 1, and what is behind it elsewhere."""
    return torch.lerp(torch.as_tensor(behind).to(image).expand_as(image), image, mask.to(image))


def feature_size(network: nn.Module) -> int:
    """Return the number of features of an identity network, by looking at a grey picture."""
    parameter, was_training = next(network.parameters()), network.training
    with torch.no_grad():
        grey = parameter.new_zeros(1, 3, ARCFACE_SIZE, ARCFACE_SIZE)
        features: Tensor = network.eval()(grey)  # batch normalisation learns nothing from it
    network.train(was_training)
    return features.shape[1]
