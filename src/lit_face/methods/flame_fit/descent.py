"""Descent of many photos at once, of which each stops or fails on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from lit_face.methods.flame_fit.scene import Terms, Values

Objective = Callable[[Values, int], Terms]
Watch = Callable[[int, Mapping[str, float]], None]
OptimizerName = Literal["adam", "lbfgs"]
_WATCHED = ("landmark", "photometric")
_FINAL = 0.1  # share of the rates at a stage's end


class Descent:
    """The values of a batch on their way down.

    Photos share nothing: their totals are added, Adam works on every number alone, and a photo that
    is done, or whose total or gradient is not finite, keeps its values from then on.

    Args:
        values: (B,...) by name.
        weights: of the terms; a term without weight is left out.
        rates: learning rate by name.
        window: steps over which a photo is watched; 0 never stops one early.
        tolerance: relative change of the total over them that stops it.
        watch: called after every step with its number and the means of the losses by name.
    """

    def __init__(
        self,
        values: dict[str, Tensor],
        weights: dict[str, float],
        rates: dict[str, float],
        window: int = 50,
        tolerance: float = 1e-4,
        watch: Watch | None = None,
    ) -> None:
        self.values, self.weights, self.rates = values, weights, rates
        self.window, self.tolerance, self.watch = window, tolerance, watch
        count = len(next(iter(values.values())))
        device = next(iter(values.values())).device
        self.failed = torch.zeros(count, dtype=torch.bool, device=device)
        self.trace: list[Terms] = []

    def adam(
        self,
        objective: Objective,
        free: Iterable[str],
        steps: int,
        stage: int,
        pace: float = 1.0,
    ) -> None:
        """Take steps along the free values; rates, times `pace`, fall along a cosine."""
        names = list(free)
        running = ~self.failed
        params = {name: self.values[name].requires_grad_() for name in names}
        groups = [{"params": [params[name]], "lr": pace * self.rates[name]} for name in names]
        optimizer = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(steps))
        history: list[Tensor] = []
        for step in range(steps):
            terms = objective(self.values, step)
            total = self._total(terms)
            self._record(terms, total, stage)
            optimizer.zero_grad()
            torch.where(running, total, 0.0).sum().backward()
            sound = total.isfinite() & _all_finite(params.values())
            self.failed |= running & ~sound
            running &= sound
            history.append(total.detach())
            running &= ~self._is_done(history)
            if not running.any():
                break
            before = [value.detach().clone() for value in params.values()]
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for value, old in zip(params.values(), before, strict=True):
                    value.copy_(torch.where(_rows(running, value), value, old))
        for value in params.values():
            value.requires_grad_(False)
            value.grad = None

    def lbfgs(
        self, objective: Objective, free: Iterable[str], steps: int, stage: int, block: int
    ) -> None:
        """Take quasi-Newton steps; the line search would couple photos, so there is one only.

        What the objective keeps for some steps stands for a block of them; then the memory of
        curvature starts anew. Values are scaled by their rates. The trace has a row a block.
        """
        names = list(free)
        if len(self.failed) != 1:
            raise ValueError(f"L-BFGS takes one photo at a time, found {len(self.failed)}.")
        for first in range(0, steps, block):
            base = {name: self.values[name].clone() for name in names}
            shift = {name: torch.zeros_like(base[name]).requires_grad_() for name in names}
            with torch.no_grad():
                self._record(terms := objective(self.values, 0), self._total(terms), stage)
            optimizer = torch.optim.LBFGS(
                list(shift.values()),
                max_iter=min(block, steps - first),
                line_search_fn="strong_wolfe",
            )

            def moved(base: Terms = base, shift: Terms = shift) -> Terms:
                return {name: base[name] + self.rates[name] * shift[name] for name in names}

            def closure(shift: Terms = shift, moved: Callable[[], Terms] = moved) -> Tensor:
                for value in shift.values():
                    value.grad = None
                total = self._total(objective({**self.values, **moved()}, 1)).sum()
                total.backward()
                return total

            total = optimizer.step(closure)
            found = {name: value.detach() for name, value in moved().items()}
            sound = torch.isfinite(torch.as_tensor(total)) and all(
                bool(value.isfinite().all()) for value in found.values()
            )
            if not sound:
                self.failed |= True
                return
            self.values.update(found)

    def _total(self, terms: Terms) -> Tensor:
        return torch.stack([self.weights[name] * value for name, value in terms.items()]).sum(0)

    def _record(self, terms: Terms, total: Tensor, stage: int) -> None:
        row = {name: self.weights[name] * value.detach() for name, value in terms.items()}
        if self.watch is not None:
            means = {name: float(value.mean()) for name, value in row.items() if name in _WATCHED}
            self.watch(len(self.trace), {"total": float(total.mean()), **means})
        self.trace.append(row | {"total": total.detach(), "stage": torch.full_like(total, stage)})

    def _is_done(self, history: list[Tensor]) -> Tensor:
        if not self.window or len(history) <= self.window:
            return torch.zeros_like(self.failed)
        change = (history[-1] - history[-1 - self.window]).abs()
        return change < self.tolerance * history[-1].abs()


def _cosine(steps: int) -> Callable[[int], float]:
    def share(step: int) -> float:
        angle = torch.pi * min(step / max(steps, 1), 1.0)
        return _FINAL + (1 - _FINAL) * 0.5 * (1 + float(torch.cos(torch.tensor(angle))))

    return share


def _all_finite(params: Iterable[Tensor]) -> Tensor:
    return torch.stack(
        [p.grad.flatten(1).isfinite().all(1) for p in params if p.grad is not None]
    ).all(0)


def _rows(mask: Tensor, value: Tensor) -> Tensor:
    return mask.view(-1, *(1,) * (value.ndim - 1))
