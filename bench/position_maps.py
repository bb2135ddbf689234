"""Position maps a second: python bench/position_maps.py [--quick].

Left: coefficients times a fixed matrix, a batch at a time, as training makes its targets. Right:
what projects without this do for each image: decode the vertices with NumPy, project them and
rasterise three attributes over the UV layout in a compiled loop, written for this bench in face3d's
scheme (bounding boxes, barycentric test, one image at a time). Both make the same map; the
difference (99.9th percentile of the texels, pixels) is printed.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import numba
import numpy as np
import torch

from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.uv import uv_to_texels
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.position_maps import PositionMaps
from lit_face.morphable_models.procedural import procedural_head


@numba.njit(cache=True, fastmath=True)
def rasterise(
    texels: np.ndarray, values: np.ndarray, faces: np.ndarray, size: int, out: np.ndarray
) -> None:
    """Write values (V,3) interpolated over faces into out (size,size,3)."""
    for number in range(len(faces)):
        a, b, c = faces[number, 0], faces[number, 1], faces[number, 2]
        ax, ay, bx, by, cx, cy = (
            texels[a, 0], texels[a, 1], texels[b, 0], texels[b, 1], texels[c, 0], texels[c, 1],
        )  # fmt: skip
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0:
            continue
        left, right = max(int(np.ceil(min(ax, bx, cx))), 0), min(int(max(ax, bx, cx)), size - 1)
        top, bottom = max(int(np.ceil(min(ay, by, cy))), 0), min(int(max(ay, by, cy)), size - 1)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                wb = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
                wc = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
                wa = 1 - wb - wc
                if wa >= -1e-6 and wb >= -1e-6 and wc >= -1e-6:
                    for channel in range(3):
                        out[y, x, channel] = (
                            wa * values[a, channel] + wb * values[b, channel]
                            + wc * values[c, channel]
                        )  # fmt: skip


class PerImage:
    """The baseline: NumPy and the loop above, one image at a time."""

    def __init__(self, model: MorphableModel, size: int) -> None:
        self.size = size
        self.mean = model.mean.numpy()
        bases = torch.cat([model.identity_basis, model.expression_basis], dim=2)
        self.basis = np.ascontiguousarray(bases.flatten(0, 1).numpy())
        self.faces = model.faces.numpy()
        self.texels = uv_to_texels(model.uv, size).numpy()

    def __call__(self, coefficients: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Make one map (S,S,3) from coefficients (K,) and a camera (3,4)."""
        vertices = self.mean + (self.basis @ coefficients).reshape(-1, 3)
        points = vertices @ matrix[:, :3].T + matrix[:, 3]
        points[:, 2] = points[:, 2].max() - points[:, 2]
        out = np.zeros((self.size, self.size, 3), np.float32)
        rasterise(self.texels, points, self.faces, self.size, out)
        return out


def bfm_sized(head: MorphableModel) -> MorphableModel:
    """The head with each face split in four (as many vertices and faces as BFM) and 228 modes."""
    faces, edges = head.faces, {}
    count = len(head.mean)
    triangles = []
    for a, b, c in faces.tolist():
        middles = []
        for edge in ((a, b), (b, c), (c, a)):
            middles.append(edges.setdefault((min(edge), max(edge)), count + len(edges)))
        ab, bc, ca = middles
        triangles += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    pairs = torch.tensor(list(edges))

    def refine(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values, (values[pairs[:, 0]] + values[pairs[:, 1]]) / 2])

    def tiled(basis: torch.Tensor, modes: int) -> torch.Tensor:
        repeats = -(-modes // basis.shape[2])
        return refine(basis.repeat(1, 1, repeats)[..., :modes]).contiguous()

    arrays = ModelArrays(
        mean=refine(head.mean), faces=torch.tensor(triangles), uv=refine(head.uv),
        landmark_index=head.landmark_index, identity_basis=tiled(head.identity_basis, 199),
        expression_basis=tiled(head.expression_basis, 29), identity_std=torch.ones(199),
        expression_std=torch.ones(29), albedo_mean=refine(head.albedo_mean),
        albedo_basis=refine(head.albedo_basis),
        regions={name: refine(weight) for name, weight in head.regions.items()},
    )  # fmt: skip
    return MorphableModel(arrays, "bfm-sized")


def rate(function: Callable[[], object], maps: int, seconds: float) -> float:
    """Maps a second of a function that makes `maps` of them, best of the runs in `seconds`."""
    function()
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - begin)
    return maps / best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half a second a cell")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"
    print(f"{name}, {options.threads} thread(s), torch {torch.__version__}")
    print(
        f"{'model':<12}{'map':>5}{'batch':>7}{'product/s':>12}{'raster/s':>11}{'ratio':>8}{'diff':>10}"
    )
    seconds = 0.5 if options.quick else 3.0
    head = procedural_head()
    for model in (head, bfm_sized(head)):
        for size in (64, 256):
            maps, baseline = PositionMaps(model, size).to(device), PerImage(model, size)
            for batch in (16,):
                measure(model, maps, baseline, batch, seconds, device)


def measure(
    model: MorphableModel, maps: PositionMaps, baseline: PerImage, batch: int, seconds: float,
    device: str,
) -> None:  # fmt: skip
    """Print one row."""
    generator = torch.Generator().manual_seed(0)
    coefficients = {
        "identity": torch.randn(batch, model.identity_size, generator=generator),
        "expression": torch.randn(batch, model.expression_size, generator=generator),
    }
    linear = torch.diag(torch.tensor([1.0, -1.0, -1.0])) + 0.1
    matrix = torch.cat([linear, torch.full((3, 1), 128.0)], dim=1).expand(batch, 3, 4).contiguous()
    on_device = {key: value.to(device) for key, value in coefficients.items()}
    camera = AffineCamera(matrix.to(device))
    joint = torch.cat(list(coefficients.values()), dim=1).numpy()

    def product() -> torch.Tensor:
        result = maps(on_device, camera)
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    def raster() -> list[np.ndarray]:
        return [baseline(joint[row], matrix[row].numpy()) for row in range(batch)]

    ours, theirs = product().cpu().permute(0, 2, 3, 1), torch.as_tensor(np.stack(raster()))
    inside = maps.mask.cpu()
    differences = (ours - theirs)[:, inside].abs().amax(dim=-1)
    difference = float(np.quantile(differences.numpy(), 0.999))
    fast, slow = rate(product, batch, seconds), rate(raster, batch, seconds)
    print(
        f"{model.name:<12}{maps.size:>5}{batch:>7}{fast:>12.0f}{slow:>11.1f}{fast / slow:>8.1f}"
        f"{difference:>10.4f}"
    )


if __name__ == "__main__":
    main()
