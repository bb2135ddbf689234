"""How the weights of the refiner's losses change in training."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Objective = Literal["released", "paper"]
_RELEASED_EPOCHS = 5.0
_RELEASED_FLOOR = 0.2


class Ramps(NamedTuple):
    """Factors of losses at one time.

    Attributes:
        rise: of those that compare with the photo.
        fall: of those that hold the fine colours near the coarse ones.
    """

    rise: float
    fall: float


def ramps(epoch: float, objective: Objective = "released", epochs: float | None = None) -> Ramps:
    """Return the factors of an epoch, which may be broken: 0.5 is half through the first.

    Args:
        epoch: from 0.
        objective: 'released': `fall` never gets below 0.2; 'paper': it reaches 0.
        epochs: until `rise` is 1. None: 5, which is the released code's; the paper does not say.

    Raises:
        ValueError: unknown objective, or no time to rise in.
    """
    if objective not in get_args(Objective):
        raise ValueError(f"objective should be 'released' or 'paper', found {objective!r}.")
    epochs = _RELEASED_EPOCHS if epochs is None else epochs
    if epochs <= 0:
        raise ValueError(f"epochs should be above 0, found {epochs}.")
    rise = min(max(epoch / epochs, 0.0), 1.0)
    floor = _RELEASED_FLOOR if objective == "released" else 0.0
    return Ramps(rise, max(1 - rise, floor))
