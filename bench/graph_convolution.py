"""Speed of mesh layers: python bench/graph_convolution.py [--ict FOLDER] [--clock cpu].

Chebyshev convolutions of six terms, forward and backward (input and weights): milliseconds, and the
most memory above what the inputs take (Linux), best of several runs. Beside them torch_geometric's
ChebConv (where it is installed; it is no dependency) and dense matrices where they fit. Then the
mesh generators, and how long levels take to make. The meshes: ICT-FaceKit (or, without --ict, a
grid of its size) and a grid of the size of the Basel crop that Deep3D uses. On a machine that does
other work too, --clock cpu counts the time of the processor, summed over threads.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lit_face.methods.gcn import MeshGenerator
from lit_face.methods.gcn.layers import ChebyshevConv
from lit_face.methods.gcn.sparse import SymmetricMatrix
from lit_face.morphable_models.ict_facekit import ict_facekit
from lit_face.morphable_models.mesh_hierarchy import build_hierarchy, mesh_hierarchy
from lit_face.morphable_models.mesh_hierarchy.adjacency import adjacency, scaled_laplacian
from lit_face.morphable_models.procedural import procedural_head

CHANNELS = ((32, 32), (7, 16), (16, 3))
DENSE_LIMIT = 7000  # vertices; at 36k the matrix alone has 5 GB


def grid_mesh(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices and faces of a bent sheet."""
    y, x = np.mgrid[:rows, :columns].astype(float)
    points = np.stack([x, y, 5 * np.sin(x / 20) * np.cos(y / 30)], axis=-1).reshape(-1, 3)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return points, np.stack([a, c, b, b, c, d], axis=-1).reshape(-1, 3)


class Geometric(nn.Module):
    """torch_geometric's layer with our weights, on (B,V,C)."""

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
        """Return features (B,V,C_out)."""
        return self.layer(features, self.edges, self.weights)


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


def measure(run: Callable[[], Tensor], clock: Callable[[], float], repeats: int) -> str:
    """Return 'forward + backward = sum ms, memory MB' of a function's best run."""
    forward, backward, memory = float("inf"), float("inf"), 0.0
    for _ in range(repeats + 1):
        base = start_memory()
        start = clock()
        result = run()
        middle = clock()
        result.backward(torch.ones_like(result))
        end = clock()
        forward, backward = min(forward, middle - start), min(backward, end - middle)
        memory = max(memory, peak_memory() - base)
        del result
    total = 1e3 * (forward + backward)
    return f"{1e3 * forward:7.0f} + {1e3 * backward:6.0f} = {total:6.0f} ms, {memory:5.0f} MB more"


def start_memory() -> float:
    """Give back free memory, forget the most that was used; return what is used now, MB."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return memory_line("VmRSS")


def peak_memory() -> float:
    """Return the most memory used since, MB."""
    return memory_line("VmHWM")


def memory_line(name: str) -> float:
    """Read one line of the process's status, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def colours(generator: nn.Module, embedding: Tensor, features: Tensor) -> Tensor:
    """Return what the generator makes."""
    return generator(embedding, features).colours


def compare_layers(
    name: str, faces: np.ndarray, count: int, batch: int, clock: Callable[[], float], repeats: int
) -> None:
    """Print one line a layer and an implementation."""
    matrix = adjacency(faces, count)
    laplacian = SymmetricMatrix(scaled_laplacian(matrix))
    for channels, out_channels in CHANNELS:
        layer = ChebyshevConv(channels, out_channels, laplacian)
        print(f"{name}: {count} vertices, {matrix.nnz} entries, B={batch}, {layer.extra_repr()}")
        features = torch.randn(count, batch, channels, requires_grad=True)
        print("  ours            ", measure(partial(layer, features), clock, repeats))
        expected = layer(features)
        try:
            other = Geometric(layer, matrix)
        except ImportError:
            print("  torch_geometric  not installed")
        else:
            swapped = features.detach().transpose(0, 1).contiguous().requires_grad_()
            print("  torch_geometric ", measure(partial(other, swapped), clock, repeats), end="")
            difference = (other(swapped).transpose(0, 1) - expected).abs().max()
            print(f", differs by {difference:.1e}")
        if count <= DENSE_LIMIT:
            dense = Dense(layer, torch.from_numpy(scaled_laplacian(matrix).toarray()))
            print("  dense           ", measure(partial(dense, features), clock, repeats))


def time_hierarchies(root: str | None) -> None:
    """Print how long the levels of heads take to make, and to read."""
    heads = [procedural_head()] + ([ict_facekit(root)] if root else [])
    for head in heads:
        arrays = head.mean.numpy(), head.faces.numpy()
        for decimation in ("borders", "fast_simplification", "reference"):
            build_hierarchy(*grid_mesh(9, 9), (2,), decimation)  # compiled or read beforehand
            start = time.perf_counter()
            sizes = build_hierarchy(*arrays, decimation=decimation).sizes
            print(f"{head.name} {sizes} {decimation}: {time.perf_counter() - start:.2f} s")
        with tempfile.TemporaryDirectory() as folder:
            os.environ["LIT_FACE_CACHE"] = folder
            mesh_hierarchy(head)
            start = time.perf_counter()
            mesh_hierarchy(head)
            print(f"{head.name} from the cache: {time.perf_counter() - start:.3f} s")


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", help="folder of ICT-FaceKit, as morphable_model.root")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    print(f"torch {torch.__version__}, {options.threads} threads, {options.clock} time")
    head = ict_facekit(options.ict) if options.ict else None
    large = grid_mesh(163, 164) if head is None else (head.mean.numpy(), head.faces.numpy())
    hierarchy = build_hierarchy(*large)
    common = (options.batch, clock, options.repeats)
    compare_layers("level 1", hierarchy.faces[1], hierarchy.sizes[1], *common)
    compare_layers("ICT-FaceKit" if head else "grid", large[1], len(large[0]), *common)
    larger = grid_mesh(189, 189)
    compare_layers("grid", larger[1], len(larger[0]), *common)
    for variant in ("resnet", "normal"):
        generator = MeshGenerator(hierarchy, 256, variant)
        for batch in {1, options.batch}:
            embedding = torch.randn(batch, 256)
            features = torch.randn(batch, hierarchy.sizes[0], 7)
            run = partial(colours, generator, embedding, features)
            print(f"generator {variant}, B={batch}: {measure(run, *common[1:])}")
    time_hierarchies(options.ict)


if __name__ == "__main__":
    main()
