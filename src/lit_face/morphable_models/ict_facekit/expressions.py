"""A population of plausible expressions: weights of the 53 shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Name without side, chance, largest weight. Shapes of the two sides move mostly together.
_SINGLE = (
    ("browDown", 0.22, 1.0), ("browInnerUp", 0.2, 1.0), ("browOuterUp", 0.18, 1.0),
    ("cheekPuff", 0.05, 0.8), ("cheekSquint", 0.2, 1.0), ("eyeSquint", 0.25, 1.0),
    ("eyeWide", 0.12, 1.0), ("jawForward", 0.06, 0.6), ("mouthDimple", 0.15, 0.8),
    ("mouthFrown", 0.15, 0.9), ("mouthFunnel", 0.08, 0.8), ("mouthLowerDown", 0.12, 0.8),
    ("mouthPress", 0.15, 0.9), ("mouthPucker", 0.1, 0.9), ("mouthRollLower", 0.1, 0.7),
    ("mouthRollUpper", 0.1, 0.7), ("mouthShrugLower", 0.12, 0.7), ("mouthShrugUpper", 0.1, 0.7),
    ("mouthStretch", 0.12, 0.8), ("mouthUpperUp", 0.14, 0.8), ("noseSneer", 0.12, 0.9),
)  # fmt: skip
_OPPOSITE = (("jawLeft", "jawRight", 0.12, 0.5), ("mouthLeft", "mouthRight", 0.12, 0.6))
_LOOKS = ("eyeLookDown", "eyeLookUp", "eyeLookIn", "eyeLookOut")


def sample_expressions(names: Sequence[str], count: int, seed: int = 11) -> Array:
    """Draw shape weights (count,53) in [0,1]: neutral, talking, smiling, shouting, blinking."""
    rng = np.random.default_rng(seed)
    column = {name: i for i, name in enumerate(names)}
    weights = np.zeros((count, len(names)), dtype=np.float32)
    for row in weights:
        _act(row, column, rng)
    return weights


def _act(row: Array, column: dict[str, int], rng: np.random.Generator) -> None:
    def move(name: str, weight: float) -> None:
        sides = [name] if name in column else [f"{name}_L", f"{name}_R"]
        for side in sides:
            uneven = 1.0 if len(sides) == 1 else rng.uniform(0.75, 1.0)
            row[column[side]] = min(max(row[column[side]], weight * uneven), 1.0)

    if rng.random() < 0.12:
        return  # neutral
    mood = rng.random()
    if mood < 0.42:
        smile = rng.uniform(0.1, 1.0)
        move("mouthSmile", smile)
        move("cheekSquint", 0.6 * smile * rng.random())
        if rng.random() < 0.6:  # teeth
            move("mouthUpperUp", rng.uniform(0.1, 0.6) * smile)
            move("jawOpen", rng.uniform(0.02, 0.25))
    elif mood < 0.68:
        move("jawOpen", rng.uniform(0.05, 1.0) ** 1.5)
    if rng.random() < 0.10:
        move("eyeBlink", rng.uniform(0.6, 1.0))
    elif rng.random() < 0.3:
        move("eyeBlink", rng.uniform(0.0, 0.5))
    for name, chance, largest in _SINGLE:
        if rng.random() < 0.6 * chance:
            move(name, largest * rng.beta(1.2, 2.0))
    for left, right, chance, largest in _OPPOSITE:
        if rng.random() < chance:
            move(left if rng.random() < 0.5 else right, largest * rng.random())
    if rng.random() < 0.4:
        move(_LOOKS[rng.integers(2)], rng.uniform(0, 0.6))
