"""Whether pictures show the same person, by features of identity networks."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

Features = Float[Tensor, "B D"]
People = Int[Tensor, " B"]
Values = Float[Tensor, " B"]

_MOST_PICTURES = 4096  # of which all pairs are compared


class Verification(NamedTuple):
    """How well cosines tell pairs of one person from pairs of two.

    Attributes:
        auc: probability that a pair of one person has the larger cosine; ties count half.
        accuracy: mean of the shares of both kinds that the best threshold gets right; 0.5 is
            chance.
        same: pairs of one person.
        different: pairs of two.
    """

    auc: float
    accuracy: float
    same: int
    different: int


def identity_cosine(first: Features, second: Features) -> Values:
    """Return the cosine of features row by row; that of zeros is 0."""
    return F.cosine_similarity(first.float(), second.float(), dim=1)


def verification(features: Features, person: People) -> Verification:
    """Compare all pairs of pictures; numbers are NaN where one kind of pair is absent.

    Of more than 4096 pictures the first ones count, which are whole people where they are in order.
    """
    features, person = features[:_MOST_PICTURES], person[:_MOST_PICTURES]
    unit = F.normalize(features.float(), dim=1)
    row, column = torch.triu_indices(len(unit), len(unit), offset=1, device=unit.device)
    cosine, is_same = (unit @ unit.mT)[row, column], person[row] == person[column]
    same, different = int(is_same.sum()), int((~is_same).sum())
    if not same or not different:
        return Verification(float("nan"), float("nan"), same, different)
    levels, place = cosine.unique(return_inverse=True)  # sorted
    count = [
        torch.bincount(place[kind], minlength=len(levels)).double() for kind in (is_same, ~is_same)
    ]
    below = [part.cumsum(0) for part in count]  # at or below a level
    auc = (count[0] * (below[1] - count[1] / 2)).sum() / (same * different)
    accuracy = (1 - below[0] / same + below[1] / different).amax() / 2
    return Verification(float(auc), max(float(accuracy), 0.5), same, different)


class IdentityCosine(Metric):
    """Mean and standard deviation over pictures of `identity_cosine`, as `mean` and `std`."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", [], dist_reduce_fx="cat")

    def update(self, first: Tensor, second: Tensor) -> None:
        """Add features (B,D) of pictures that should show the same people."""
        self.values.append(identity_cosine(first, second))

    def compute(self) -> dict[str, Tensor]:
        """Return `mean` and `std` (of the pictures, not of the mean; 0 for one picture)."""
        values = dim_zero_cat(self.values).double()
        return {"mean": values.mean().float(), "std": values.std(correction=0).float()}


class VerificationAUC(Metric):
    """`verification` of all pictures seen, as `auc` and `accuracy`."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    features: list[Tensor]
    person: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("person", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, person: Tensor) -> None:
        """Add features (B,D) and who they are of (B,)."""
        self.features.append(features.detach().float())
        self.person.append(person)

    def compute(self) -> dict[str, Tensor]:
        """Return `auc` and `accuracy`."""
        features, person = dim_zero_cat(self.features), dim_zero_cat(self.person)
        found = verification(features, person)
        return {
            name: features.new_tensor(value)
            for name, value in (("auc", found.auc), ("accuracy", found.accuracy))
        }
