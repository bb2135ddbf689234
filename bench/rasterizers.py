"""Speed of the rasteriser kernels: python bench/rasterizers.py [--quick] [--threads N].

A bumpy sphere that fills four fifths of the picture, milliseconds an image, best of several runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lit_face.rendering.rasterize import rasterize

TRIANGLES = (5_000, 20_000, 70_000)
SIZES = (128, 256, 512, 1024)
BATCHES = (1, 16)


def bumpy_sphere(triangles: int, size: int, batch: int) -> tuple[Tensor, Tensor]:
    """Image-space vertices (B,V,3) and faces of a closed mesh of about `triangles` triangles."""
    rows = round(math.sqrt(triangles / 4))
    columns = 2 * rows
    polar = torch.linspace(0.01, math.pi - 0.01, rows + 1)
    azimuth = torch.arange(columns) * (2 * math.pi / columns)
    polar, azimuth = torch.meshgrid(polar, azimuth, indexing="ij")
    radius = 1 + 0.03 * torch.sin(9 * azimuth) * torch.sin(7 * polar)
    ring = radius * polar.sin()
    sphere = torch.stack([ring * azimuth.cos(), radius * polar.cos(), ring * azimuth.sin()], -1)
    index = torch.arange((rows + 1) * columns).view(rows + 1, columns)
    a, c = index[:-1], index[1:]
    b, d = a.roll(-1, 1), c.roll(-1, 1)
    faces = torch.cat([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)]).view(-1, 3)
    turned = sphere.view(1, -1, 3).repeat(batch, 1, 1)
    turned = turned * torch.linspace(0.9, 1.0, batch).view(-1, 1, 1)
    return (0.4 * size * turned + size / 2).contiguous(), faces


def best_time(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the shortest time of one run, in seconds, of as many as fit in the given time."""
    run()
    times: list[float] = []
    while len(times) < 2 or (sum(times) < seconds and len(times) < 50):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def pytorch3d_run(points: Tensor, faces: Tensor, size: tuple[int, int]) -> Callable[[], object]:
    """Return a call of PyTorch3D's rasteriser on the same scene."""
    from lit_face.rendering.pytorch3d import PyTorch3DRenderer

    renderer = PyTorch3DRenderer()
    return lambda: renderer.find_faces(points, faces, size, perspective=False)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the small cases")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    names = (["numba"] if device.type == "cpu" else []) + ["torch"]
    if importlib.util.find_spec("pytorch3d") is not None:
        names.append("pytorch3d")
    seconds = 0.2 if options.quick else 1.0

    where = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    print(f"torch {torch.__version__}, {device} ({where or platform.machine()}), "
          f"{torch.get_num_threads()} thread(s); milliseconds an image")  # fmt: skip
    print(f"{'triangles':>9} {'pixels':>6} {'batch':>5}" + "".join(f"{name:>11}" for name in names))
    for triangles in TRIANGLES[:2] if options.quick else TRIANGLES:
        for side in SIZES[:2] if options.quick else SIZES:
            for batch in BATCHES:
                points, faces = bumpy_sphere(triangles, side, batch)
                points, faces, size = points.to(device), faces.to(device), (side, side)
                row = f"{len(faces):>9} {side:>6} {batch:>5}"
                for name in names:
                    run = (
                        pytorch3d_run(points, faces, size)
                        if name == "pytorch3d"
                        else lambda kernel=name: rasterize(points, faces, size, kernel=kernel)  # noqa: B023
                    )
                    row += f"{1e3 * best_time(run, device, seconds) / batch:>11.2f}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
