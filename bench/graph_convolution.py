"""Speed of graph convolutions: python bench/graph_convolution.py [--ict FOLDER] [--clock cpu].

Chebyshev convolutions of six terms, forward and backward (input and weights), on meshes of 26,719
vertices (ICT-FaceKit whole; without --ict a grid of that size) and of 35,721 (a grid of about the
size of the Basel crop that Deep3D uses): milliseconds of the best run, and the most memory above
what inputs and matrices take (Linux). Beside them torch_geometric's ChebConv, where it is installed
(it is no dependency), and dense matrices. These are measured on a smaller grid, where they fit, and
lines with a ~ are its numbers times the ratio of the squared numbers of vertices, and the size of
the matrix. Each implementation has its own process on each mesh. On a machine that does other work
too, --clock cpu counts the time of the processor, summed over threads.
"""

# ruff: noqa: I001
from __future__ import annotations

import lit_face  # noqa: F401  (first: arms the torchvision repair)

import argparse
import ctypes
import gc
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lit_face.methods.gcn.layers import ChebyshevConv
from lit_face.methods.gcn.sparse import SymmetricMatrix
from lit_face.morphable_models.ict_facekit.files import read_npz
from lit_face.morphable_models.mesh_hierarchy.adjacency import adjacency, scaled_laplacian

CHANNELS = ((32, 32), (7, 16), (16, 3))
DENSE_SIDE = 64  # of the grid where dense matrices fit
TITLE = (
    f"{'mesh':<12} {'vertices':>8} {'channels':>9} {'variant':<16} {'forward':>8} {'backward':>8}"
)
TITLE += f" {'sum ms':>8} {'times':>6} {'more MB':>8} {'differs':>8}"


@dataclass(frozen=True)
class Job:
    """One implementation on one mesh."""

    variant: str
    faces: np.ndarray
    count: int
    batch: int
    repeats: int
    clock: str
    threads: int


@dataclass(frozen=True)
class Cost:
    """Of one layer: milliseconds, MB, and how far its result is from ours."""

    forward: float
    backward: float
    memory: float
    difference: float

    @property
    def total(self) -> float:
        """Return forward and backward."""
        return self.forward + self.backward


class Geometric(nn.Module):
    """torch_geometric's layer with our weights, on (V,B,C)."""

    def __init__(self, layer: ChebyshevConv, matrix: object) -> None:
        super().__init__()
        from torch_geometric.nn import ChebConv
        from torch_geometric.utils import from_scipy_sparse_matrix

        self.edges, self.weights = from_scipy_sparse_matrix(matrix)
        self.weights = self.weights.float()
        order, channels, out_channels = layer.weight.shape
        self.layer = ChebConv(channels, out_channels, order, normalization="sym", bias=False)
        with torch.no_grad():
            for linear, weight in zip(self.layer.lins, layer.weight, strict=True):
                linear.weight.copy_(weight.T)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (V,B,C_out); its own layout, (B,V,C), has the faster products."""
        return self.layer(features.transpose(0, 1), self.edges, self.weights).transpose(0, 1)


class Dense(nn.Module):
    """The same recurrence with a dense matrix, on (V,B,C)."""

    def __init__(self, layer: ChebyshevConv, laplacian: Tensor) -> None:
        super().__init__()
        self.laplacian, self.weight = laplacian, nn.Parameter(layer.weight.detach().clone())

    def forward(self, features: Tensor) -> Tensor:
        """Return features (V,B,C_out)."""
        flat = features.flatten(1)
        terms = [flat, self.laplacian @ flat]
        while len(terms) < len(self.weight):
            terms.append(2 * self.laplacian @ terms[-1] - terms[-2])
        stacked = torch.stack(terms[: len(self.weight)]).view(-1, *features.shape)
        return torch.einsum("kvbc,kcd->vbd", stacked, self.weight)


def run_job(job: Job) -> list[Cost] | str:
    """Measure every layer of a job; say why not where the implementation is not there."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    matrix = adjacency(job.faces, job.count)
    laplacian = SymmetricMatrix(scaled_laplacian(matrix))
    costs = []
    for channels, out_channels in CHANNELS:
        layer = ChebyshevConv(channels, out_channels, laplacian)
        try:
            other = build(job.variant, layer, matrix)
        except ImportError:
            return "not installed"
        # Contiguous in the layout that the implementation works in.
        by_sample = job.variant == "torch_geometric"
        shape = (job.batch, job.count) if by_sample else (job.count, job.batch)
        leaf = torch.randn(*shape, channels, requires_grad=True)
        features = leaf.transpose(0, 1) if by_sample else leaf
        costs.append(measure(partial(other, features), partial(layer, features), job))
    return costs


def build(variant: str, layer: ChebyshevConv, matrix: object) -> nn.Module:
    """Return an implementation of a layer."""
    if variant == "torch_geometric":
        return Geometric(layer, matrix)
    if variant == "dense":
        return Dense(layer, torch.from_numpy(scaled_laplacian(matrix).toarray()))
    return layer


def measure(run: Callable[[], Tensor], ours: Callable[[], Tensor], job: Job) -> Cost:
    """Return what a function costs."""
    clock = time.process_time if job.clock == "cpu" else time.perf_counter
    forward, backward, memory = float("inf"), float("inf"), 0.0
    for _ in range(job.repeats + 1):
        base = start_memory()
        start = clock()
        result = run()
        middle = clock()
        result.backward(torch.ones_like(result))
        end = clock()
        forward, backward = min(forward, middle - start), min(backward, end - middle)
        memory = max(memory, memory_line("VmHWM") - base)
        del result
    with torch.no_grad():
        difference = float((run() - ours()).abs().max())
    return Cost(1e3 * forward, 1e3 * backward, memory, difference)


def start_memory() -> float:
    """Give back free memory, forget the most that was used; return what is used now, MB."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return memory_line("VmRSS")


def memory_line(name: str) -> float:
    """Read one line of the process's status, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def in_own_process(job: Job) -> list[Cost] | str:
    """Run a job in a process that does nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run_job, (job,))


def grid_faces(rows: int, columns: int) -> np.ndarray:
    """Return the triangles of a sheet."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return np.stack([a, c, b, b, c, d], axis=-1).reshape(-1, 3)


def print_rows(name: str, count: int, variant: str, costs: list[Cost], base: list[Cost]) -> None:
    """Print one line a layer."""
    for (channels, out_channels), cost, ours in zip(CHANNELS, costs, base, strict=True):
        estimate = "~" if np.isnan(cost.difference) else ""
        numbers = [f"{estimate}{v:.0f}" for v in (cost.forward, cost.backward, cost.total)]
        times = f"{estimate}{cost.total / ours.total:.1f}"
        differs = "" if estimate or cost is ours else f"{cost.difference:.0e}"
        print(
            f"{name:<12} {count:>8} {f'{channels}->{out_channels}':>9} {variant:<16} "
            f"{numbers[0]:>8} {numbers[1]:>8} {numbers[2]:>8} {times:>6} "
            f"{f'{estimate}{cost.memory:.0f}':>8} {differs:>8}",
            flush=True,
        )


def extrapolated(costs: list[Cost], small: int, large: int) -> list[Cost]:
    """Return what dense matrices would cost on a larger mesh; the memory is the matrix alone."""
    factor, size = (large / small) ** 2, 4 * large**2 / 2**20
    return [Cost(factor * c.forward, factor * c.backward, size, float("nan")) for c in costs]


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", help="folder of ICT-FaceKit, as morphable_model.root")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    shared = (options.batch, options.repeats, options.clock, options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.clock} time, ", end="")
    print(f"{options.batch} faces, six terms\n{TITLE}")

    small, faces = DENSE_SIDE**2, grid_faces(DENSE_SIDE, DENSE_SIDE)
    ours = in_own_process(Job("lit_face", faces, small, *shared))
    dense = in_own_process(Job("dense", faces, small, *shared))
    print_rows("grid", small, "lit_face", ours, ours)
    print_rows("grid", small, "dense", dense, ours)
    if options.ict:
        whole = read_npz(options.ict)
        meshes = [("ICT-FaceKit", whole.faces.astype(np.int64), len(whole.neutral))]
    else:
        meshes = [("grid", grid_faces(163, 164), 163 * 164)]
    for name, faces, count in [*meshes, ("grid", grid_faces(189, 189), 189 * 189)]:
        ours = in_own_process(Job("lit_face", faces, count, *shared))
        print_rows(name, count, "lit_face", ours, ours)
        other = in_own_process(Job("torch_geometric", faces, count, *shared))
        if isinstance(other, str):
            print(f"{name:<12} {count:>8} {'':>9} {'torch_geometric':<16} {other}")
        else:
            print_rows(name, count, "torch_geometric", other, ours)
        print_rows(name, count, "dense", extrapolated(dense, small, count), ours)


if __name__ == "__main__":
    main()
