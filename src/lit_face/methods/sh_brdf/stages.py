"""The stages of a training: who learns, how fast and for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A range of epochs.

    Attributes:
        epochs: how many; 0 leaves the stage out. The last stage goes on to the end of the run.
        encoder_lr: learning rate of encoder and heads; 0 freezes them.
        decoder_lr: likewise of the decoders of the residual maps.
        final: the rates fall along a cosine to this share of themselves at the stage's end.
    """

    epochs: int
    encoder_lr: float
    decoder_lr: float
    final: float = 1.0


@dataclass(frozen=True)
class Moment:
    """A place in the schedule: the stage's name, and how much of it is over, in [0,1]."""

    name: str
    stage: Stage
    progress: float

    def rates(self) -> tuple[float, float]:
        """Return the learning rates of encoder and decoders."""
        stage = self.stage
        fall = 0.5 * (1 + math.cos(math.pi * min(self.progress, 1.0)))
        factor = stage.final + (1 - stage.final) * fall
        return stage.encoder_lr * factor, stage.decoder_lr * factor


class Schedule:
    """Stages in their order.

    Args:
        stages: by name, values of `Stage`.

    Raises:
        ValueError: a stage that cannot be, or none with epochs.
    """

    def __init__(self, stages: Mapping[str, Mapping[str, float]]) -> None:
        if problems := stage_problems(stages):
            raise ValueError("; ".join(problems))
        self.stages = {
            name: Stage(**values)  # type: ignore[arg-type]
            for name, values in stages.items()
            if values["epochs"]
        }

    def at(self, epoch: float) -> Moment:
        """Return the moment at an epoch with its fraction; the last stage never ends."""
        start = 0
        for name, stage in self.stages.items():
            moment = Moment(name, stage, (epoch - start) / stage.epochs)
            start += stage.epochs
            if epoch < start:
                break
        return moment

    def decoder_epochs(self, epoch: float) -> float | None:
        """Return for how many epochs decoders have learnt until now; None before they start."""
        start, learnt, has_begun = 0, 0.0, False
        for name, stage in self.stages.items():
            until = epoch - start if name == self._last else min(epoch - start, stage.epochs)
            if until >= 0 and stage.decoder_lr > 0 and epoch >= start:
                learnt, has_begun = learnt + until, True
            start += stage.epochs
        return learnt if has_begun else None

    @property
    def _last(self) -> str:
        return list(self.stages)[-1]


def stage_problems(stages: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Say what is wrong with stages, in the words of the options."""
    known: Sequence[str] = tuple(Stage.__dataclass_fields__)
    problems = []
    for name, values in stages.items():
        unknown, missing = set(values) - set(known), {*known[:3]} - set(values)
        if unknown or missing:
            problems.append(
                f"stages.{name} should have {', '.join(known)}; "
                f"unknown {sorted(unknown)}, missing {sorted(missing)}."
            )
        elif values["epochs"] < 0 or values["epochs"] != int(values["epochs"]):
            problems.append(f"stages.{name}.epochs should be 0, 1, 2, ..., got {values['epochs']}.")
        elif min(values["encoder_lr"], values["decoder_lr"]) < 0:
            problems.append(f"stages.{name}: a learning rate is 0 or more.")
        elif values["epochs"] and not (values["encoder_lr"] or values["decoder_lr"]):
            problems.append(f"stages.{name}: nothing learns; one of the rates should be above 0.")
    if not problems and not any(values["epochs"] for values in stages.values()):
        problems.append("stages: none has epochs.")
    return problems
