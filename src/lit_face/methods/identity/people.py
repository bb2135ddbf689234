"""A classifier over whoever is in the training data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FREE = -1
_START = 0.01  # only the direction counts: short ones turn quickly at first


class PeopleTable(nn.Module):
    """One direction a person; rows are given to people in the order in which they are first seen.

    So numbers of people may be any, and nothing but the data says how many there are. Rows that
    nobody has yet take no part.

    Args:
        people: rows, at least as many as there are people in the training data.
        features: length of a direction.
        margin: by which the cosine with the own direction must exceed the others (CosFace).
        scale: of cosines before the softmax.

    Source: Wang et al. (CVPR 2018), "CosFace: Large Margin Cosine Loss for Deep Face Recognition".
    """

    numbers: Tensor

    def __init__(self, people: int, features: int, margin: float, scale: float) -> None:
        super().__init__()
        self.margin, self.scale = margin, scale
        self.directions = nn.Parameter(_START * torch.randn(people, features))
        self.register_buffer("numbers", torch.full((people,), _FREE))

    @torch.no_grad()
    def register(self, person: Tensor) -> None:
        """Give rows to people (N,) who have none; the same on every device that sees the same N.

        Raises:
            ValueError: negative numbers, or more people than rows.
        """
        seen = person.unique()  # sorted
        if bool((seen < 0).any()):
            raise ValueError(f"Numbers of people should not be negative, found {int(seen[0])}.")
        fresh = seen[~torch.isin(seen, self.numbers)]
        taken = int((self.numbers != _FREE).sum())
        if taken + len(fresh) > len(self.numbers):
            raise ValueError(
                f"The training data has more people than method.people={len(self.numbers)}; set it "
                "to at least their number."
            )
        self.numbers[taken : taken + len(fresh)] = fresh

    def rows(self, person: Tensor) -> Tensor:
        """Return the rows (B,) of registered people (B,)."""
        return (person[:, None] == self.numbers).int().argmax(1)

    def forward(self, features: Tensor, person: Tensor) -> Tensor:
        """Return the mean loss of features (B,D) of registered people (B,)."""
        cosine = F.normalize(features.float(), dim=1) @ F.normalize(self.directions, dim=1).mT
        row = self.rows(person)
        own = F.one_hot(row, len(self.numbers)).to(cosine)
        logits = self.scale * (cosine - self.margin * own)
        logits = logits.masked_fill(self.numbers == _FREE, float("-inf"))
        return F.cross_entropy(logits, row)
