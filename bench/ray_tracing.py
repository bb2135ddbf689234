"""Cost and quality of the ray tracer: python bench/ray_tracing.py [--quick] [--samples 8 64].

The built-in head, 256 x 256 pixels, maps of 256 x 256 texels, light of nine bands. Seconds of
processor time, all threads together, least of several runs: the ray tracer uses every core, so on
idle ones the clock shows less. The raster renderer is there to compare.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.spherical_harmonics import sh_basis
from lit_face.geometry.uv import uv_resampling
from lit_face.morphable_models.procedural import procedural_head
from lit_face.rendering.color import srgb_to_linear
from lit_face.rendering.material import Material
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.mitsuba import MitsubaRenderer

SIDE = 256
DIFFERENTIABLE = ("vertices", "diffuse", "specular", "light")


def head_scene(batch: int, side: int = SIDE) -> dict[str, Any]:
    """Return everything that a renderer of materials takes: random heads under a lamp."""
    model = procedural_head()
    coefficients = model.sample(batch, torch.Generator().manual_seed(4))
    albedo = srgb_to_linear(model.albedo(coefficients["albedo"]).clamp(0, 1))
    towards = torch.nn.functional.normalize(torch.tensor([[0.7, -0.6, -0.45]]), dim=-1)
    degree = torch.tensor([band for band in range(9) for _ in range(2 * band + 1)])
    lamp = 2 * torch.exp(-0.03 * degree * (degree + 1)) * sh_basis(towards, 9)[0]
    light = lamp[None, :, None].repeat(batch, 1, 3)
    light[:, 0] += 0.6
    intrinsics = torch.tensor(
        [[4.5 * side, 0, (side - 1) / 2], [0, 4.5 * side, (side - 1) / 2], [0, 0, 1]]
    )
    camera = PerspectiveCamera(
        intrinsics.repeat(batch, 1, 1),
        torch.diag(torch.tensor([1.0, -1, -1])).repeat(batch, 1, 1),
        torch.tensor([[0.0, 0, 1150]]).repeat(batch, 1),
    )
    return {
        "vertices": model(coefficients["identity"], coefficients["expression"]),
        "faces": model.faces,
        "uv": model.uv,
        "camera": camera,
        "size": (side, side),
        "diffuse": uv_resampling(model.uv, model.faces, side)(albedo),
        "specular": torch.full((batch, 3, side, side), 0.06),
        "roughness": torch.full((batch, 1, 1, 1), 0.4),
        "light": light,
    }


def show(renderer: torch.nn.Module, scene: dict[str, Any]) -> Tensor:
    """Render a scene of `head_scene`."""
    maps = Material(scene["diffuse"], scene["specular"], scene["roughness"])
    geometry = (scene[name] for name in ("vertices", "faces", "uv", "camera", "size"))
    image: Tensor = renderer(*geometry, maps, scene["light"]).image
    return image


def best_time(run: Callable[[], object], repeats: int) -> float:
    """Return the least processor time of some runs after one that compiles, seconds."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def measure(renderer: torch.nn.Module, batch: int, repeats: int) -> tuple[float, float]:
    """Return CPU seconds of a forward pass alone, and of one with its backward pass."""
    scene = head_scene(batch)

    def both() -> None:
        leaves = {name: scene[name].clone().requires_grad_() for name in DIFFERENTIABLE}
        show(renderer, {**scene, **leaves}).square().mean().backward()

    with torch.no_grad():
        forward = best_time(lambda: show(renderer, scene), repeats)
    return forward, best_time(both, repeats)


def noise(samples: int) -> float:
    """Return the standard deviation of the picture, mean over the face."""
    renderer, scene = MitsubaRenderer(samples=samples), head_scene(1)
    with torch.no_grad():
        pictures = torch.cat([show(renderer, scene) for _ in range(8)])
    spread = pictures.std(dim=0)
    return float(spread[spread > 0].mean())


def texel_gradient(samples: int) -> Tensor:
    """Return the gradient of a squared loss with respect to the diffuse map, flat."""
    scene = head_scene(1)
    target = show(RasterMaterialRenderer(specular="none"), scene)
    leaf = scene["diffuse"].clone().requires_grad_()
    renderer = MitsubaRenderer(samples=samples, seed=samples)
    (show(renderer, {**scene, "diffuse": leaf}) - target).square().mean().backward()
    return torch.as_tensor(leaf.grad).flatten()


def main() -> None:
    """Print the tables of docs/ray_tracing.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one face, few samples")
    parser.add_argument("--samples", type=int, nargs="+", default=[8, 64])
    options = parser.parse_args()
    repeats = 1 if options.quick else 2
    batches = (1,) if options.quick else (1, 8)
    samples = options.samples[:1] if options.quick else options.samples

    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print("| renderer | faces | forward, CPU s | forward and backward, CPU s |\n|---|---|---|---|")
    renderers: dict[str, torch.nn.Module] = {"raster, prefiltered": RasterMaterialRenderer()}
    for count in samples:
        renderers[f"direct, {count} samples"] = MitsubaRenderer(samples=count)
    outline = MitsubaRenderer(samples=samples[0], integrator="direct_projective")
    renderers[f"direct_projective, {samples[0]} samples"] = outline
    for name, renderer in renderers.items():
        for batch in batches:
            forward, both = measure(renderer, batch, repeats)
            print(f"| {name} | {batch} | {forward:.2f} | {both:.2f} |", flush=True)

    truth = texel_gradient(64 if options.quick else 512)
    print("\n| samples | noise of the picture | texel gradient, cosine |\n|---|---|---|")
    for count in samples:
        cosine = torch.cosine_similarity(texel_gradient(count), truth, dim=0)
        print(f"| {count} | {noise(count):.4f} | {float(cosine):.2f} |", flush=True)


if __name__ == "__main__":
    main()
