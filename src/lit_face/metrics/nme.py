"""Normalised mean error: distances of points over the size of the true points' box."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric


def box_size(points: Float[Tensor, "B N C"]) -> Float[Tensor, " B"]:
    """Return sqrt(width * height) of the box around x and y, in the points' unit."""
    extent = points[..., :2].amax(dim=1) - points[..., :2].amin(dim=1)
    return extent.prod(dim=-1).sqrt()


def nme(
    predicted: Float[Tensor, "B N C"],
    true: Float[Tensor, "B N C"],
    dimensions: int = 2,
) -> Float[Tensor, " B"]:
    """Mean distance of corresponding points over the box size of the true points, as a fraction.

    Args:
        predicted: x, y and, for three dimensions, z; any unit, the same for both.
        true: likewise.
        dimensions: 2 compares x and y. 3 compares z too, after shifting each side's z to a mean of
            zero over the points, because a shift of depth cannot be observed.

    Source: Zhu et al. (CVPR 2016) for 2D; Feng et al. (ECCV 2018) as executed by SADRNet for 3D.
    """
    predicted, true = _at_least_float32(predicted), _at_least_float32(true)
    size = box_size(true)
    difference = predicted[..., :dimensions] - true[..., :dimensions]
    if dimensions == 3:
        depth = difference[..., 2:]
        difference = torch.cat([difference[..., :2], depth - depth.mean(dim=1, keepdim=True)], -1)
    mean_distance: Tensor = torch.linalg.vector_norm(difference, dim=-1).mean(dim=1)
    return mean_distance / size


def _at_least_float32(points: Tensor) -> Tensor:
    return points if points.dtype == torch.float64 else points.float()


class NormalizedMeanError(Metric):
    """Mean of `nme` over images, in percent of the box size sqrt(width * height).

    A prediction that is not finite counts as a failure: it makes the mean NaN instead of vanishing.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, dimensions: int = 2) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, true: Tensor) -> None:
        """Add images: (B,N,2|3) predicted and true points in the same unit."""
        values = nme(predicted, true, self.dimensions)
        self.total += values.double().sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        """Return the mean in percent."""
        return (100.0 * self.total / self.count).float()
