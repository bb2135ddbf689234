"""What reading features of many views costs: python bench/uv_implicit.py [--threads 1].

Features of 10 views (64 channels, 135 x 107, the miniature's) are read at points and their variance
over views is taken, as `uv_implicit` does it and in two other ways: with torch's `grid_sample`
instead of a table of rows, and for all views at once instead of one after the other. Median of
several runs: forward and backward of the 4000 points of a training step, and 50,000 points
without gradients, as in use.
"""

# ruff: noqa: I001
from __future__ import annotations

import lit_face  # noqa: F401  (first: arms the torchvision repair)

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.methods.uv_implicit.query import sample_features, variance

VIEWS, CHANNELS, HEIGHT, WIDTH = 10, 64, 135, 107
RUNS = 3

Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def by_grid_sample(maps: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """One view after the other, read by `grid_sample`."""
    share = weights / weights.sum(1, keepdim=True)
    grid = 2 * pixels / torch.tensor([WIDTH - 1.0, HEIGHT - 1.0]) - 1
    mean = squares = torch.zeros(())
    for view, one in enumerate(maps.unbind(1)):
        channels_first = one.permute(0, 3, 1, 2)
        found = F.grid_sample(channels_first, grid[:, view, None], align_corners=True)[:, :, 0].mT
        weighted = share[:, view, :, None] * found
        mean, squares = mean + weighted, squares + weighted * found
    return squares - mean.square()


def at_once(maps: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """All views in one tensor."""
    share = (weights / weights.sum(1, keepdim=True))[..., None]
    found = sample_features(maps, pixels)
    mean = (share * found).sum(1)
    return (share * found.square()).sum(1) - mean.square()


WAYS: dict[str, Way] = {
    "lit_face": lambda maps, pixels, weights: variance(maps, pixels, weights),
    "grid_sample": by_grid_sample,
    "all views at once": at_once,
}


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median time of a run."""
    work()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    maps = torch.randn(1, VIEWS, HEIGHT, WIDTH, CHANNELS, requires_grad=True)
    print(f"{given.threads} thread(s), milliseconds")
    print(f"{'':18} {'training step':>14} {'use':>10}   largest difference")
    reference: Tensor | None = None
    for name, way in WAYS.items():
        few, many = (
            (
                torch.rand(1, VIEWS, count, 2) * torch.tensor([WIDTH - 1.0, HEIGHT - 1.0]),
                torch.rand(1, VIEWS, count) + 0.01,
            )
            for count in (4000, 50_000)
        )

        def train(way: Way = way, few: tuple[Tensor, Tensor] = few) -> None:
            maps.grad = None
            way(maps, *few).sum().backward()

        @torch.no_grad()
        def use(way: Way = way, many: tuple[Tensor, Tensor] = many) -> Tensor:
            return way(maps, *many)

        torch.manual_seed(1)
        pixels = torch.rand(1, VIEWS, 500, 2) * torch.tensor([WIDTH - 1.0, HEIGHT - 1.0])
        with torch.no_grad():
            found = way(maps, pixels, torch.rand(1, VIEWS, 500) + 0.01)
        reference = found if reference is None else reference
        apart = (found - reference).abs().max().item()
        print(f"{name:18} {milliseconds(train):14.0f} {milliseconds(use):10.0f}   {apart:.1e}")


if __name__ == "__main__":
    main()
