"""What the mesh refiner costs: python bench/mesh_refiner.py [--ict FOLDER] [--clock cpu].

Making the levels of the built-in head and of ICT-FaceKit, with each way to decimate, seconds: the
first time ever in a process of its own, which compiles; compiled; and read from the cache. Then the
generators `resnet` and `normal` on each head, best of several runs: pictures a second without
gradients, for batches of 1, 4 and 8, and one step of training with 4: colours, light, picture of
`--size` pixels, the losses but for identity and critic, backward, and Adam. The time is of a face
with its embedding and coarse colours; the coarse regressor and the sampling of colours are not
part of it. On a machine that does other work too, --clock cpu counts the time of the processor,
summed over threads.
"""

# ruff: noqa: I001
from __future__ import annotations

import lit_face  # noqa: F401  (first: arms the torchvision repair)

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lit_face.geometry.cameras import AffineCamera
from lit_face.methods.gcn import MeshGenerator, losses
from lit_face.methods.gcn.sampling import mirror_pairs
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.ict_facekit import ict_facekit
from lit_face.morphable_models.mesh_hierarchy import MeshHierarchy, mesh_hierarchy
from lit_face.morphable_models.procedural import procedural_head
from lit_face.rendering.renderer import RasterRenderer

DECIMATIONS = ("reference", "fast_simplification", "borders")  # the default last
BATCHES = (1, 4, 8)
TRAINING_BATCH = 4

Clock = Callable[[], float]


def time_levels(head: MorphableModel, clock: Clock) -> MeshHierarchy:
    """Print how long the levels of a head take; return the default ones."""
    for decimation in DECIMATIONS:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["LIT_FACE_CACHE"] = folder
            start = clock()
            sizes = mesh_hierarchy(head, decimation=decimation).sizes
            made = clock()
            hierarchy = mesh_hierarchy(head, decimation=decimation)
            read = clock()
        print(
            f"{head.name:<12} {decimation:<20} {made - start:7.2f} s made, {read - made:6.3f} s "
            f"from the cache: {sizes}",
            flush=True,
        )
    return hierarchy


def first_time() -> str:
    """Return how long levels take in a new process that has nothing compiled."""
    program = (
        "import time\n"
        "from lit_face.morphable_models.procedural import procedural_head\n"
        "from lit_face.morphable_models.mesh_hierarchy import build_hierarchy\n"
        "head = procedural_head()\n"
        "start = time.perf_counter()\n"
        "build_hierarchy(head.mean.numpy(), head.faces.numpy())\n"
        "print(f'{time.perf_counter() - start:.1f}')\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    return done.stdout.split()[-1]


def best(run: Callable[[], object], clock: Clock, repeats: int) -> float:
    """Return the seconds of the best run."""
    times = []
    for _ in range(repeats + 1):
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


class Step:
    """One step of training on random faces."""

    def __init__(self, head: MorphableModel, generator: MeshGenerator, size: int) -> None:
        self.head, self.generator, self.size = head, generator, size
        self.renderer, self.pairs = RasterRenderer(), mirror_pairs(head.mean)
        self.optimizer = torch.optim.Adam(generator.parameters(), lr=1e-4)
        count, batch = len(head.mean), TRAINING_BATCH
        self.embedding, self.features = inputs(generator, batch)
        self.vertices = head.mean.expand(batch, -1, -1)
        turn = torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(batch, 3, 3)
        middle = torch.tensor([size / 2, size / 2, 0.0]).expand(batch, 3)
        scale = torch.full((batch,), size / 250)
        self.camera = AffineCamera.orthographic(scale, turn, middle)
        self.light = torch.zeros(batch, 9, 3)
        self.light[:, 0] = 3
        self.photo = torch.rand(batch, 3, size, size)
        self.skin = torch.ones(count)

    def __call__(self) -> None:
        """Run it."""
        coarse, sampled, seen = self.features.split((3, 3, 1), dim=-1)
        colours = self.generator(self.embedding, self.features).colours
        albedo = (colours + 1) / 2
        size = (self.size, self.size)
        picture = self.renderer(
            self.vertices, self.head.faces, self.camera, size, albedo, self.light
        )
        loss = losses.pixel(self.photo, picture.image, picture.mask)
        loss = loss + losses.vertex(colours, coarse)
        loss = loss + losses.project(colours, sampled, seen[..., 0], coarse)
        loss = loss + losses.symmetry(colours, self.pairs) + losses.variance(colours, self.skin)
        loss = loss + 5e-4 * losses.dense_decay(self.generator.dense_parameters())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def inputs(generator: MeshGenerator, batch: int) -> tuple[Tensor, Tensor]:
    """Return random embeddings and features."""
    width = generator.decoder.dense.in_features
    return torch.randn(batch, width), torch.rand(batch, generator.vertices, 7)


def time_generators(
    head: MorphableModel, hierarchy: MeshHierarchy, options: argparse.Namespace, clock: Clock
) -> None:
    """Print pictures a second and milliseconds a step."""
    for variant in ("resnet", "normal"):
        torch.manual_seed(0)
        generator = MeshGenerator(hierarchy, options.embedding, variant)
        parameters = sum(parameter.numel() for parameter in generator.parameters())
        rates = []
        for batch in BATCHES:
            run = partial(generator, *inputs(generator, batch))
            with torch.no_grad():
                seconds = best(run, clock, options.repeats)
            rates.append(f"{batch / seconds:.1f} (B={batch})")
        step = best(Step(head, generator, options.size), clock, options.repeats)
        print(
            f"{head.name:<12} {variant:<7} {parameters / 1e6:5.1f} M parameters, pictures a second "
            f"{', '.join(rates)}; step with {TRAINING_BATCH}: {1e3 * step:.0f} ms",
            flush=True,
        )


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", help="folder of ICT-FaceKit, as morphable_model.root")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=96, help="of pictures, pixels")
    parser.add_argument("--embedding", type=int, default=256, help="size of the vector")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    print(f"torch {torch.__version__}, {options.threads} threads, {options.clock} time")
    print(f"levels of the built-in head, not compiled yet: {first_time()} s (wall time)")
    heads: list[MorphableModel] = [procedural_head()]
    if options.ict:
        heads.append(ict_facekit(options.ict))
    with tempfile.TemporaryDirectory() as folder:  # compile, or read what was compiled
        os.environ["LIT_FACE_CACHE"] = folder
        for decimation in DECIMATIONS:
            mesh_hierarchy(heads[0], (16,), decimation)
    hierarchies = [time_levels(head, clock) for head in heads]
    for head, hierarchy in zip(heads, hierarchies, strict=True):
        time_generators(head, hierarchy, options, clock)


if __name__ == "__main__":
    main()
