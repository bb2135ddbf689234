"""Speed of shading: python bench/shading.py [--quick] [--threads N] [--clock cpu] [--batch B].

Batches of faces under nine bands of light, 256 x 256 UV maps, pictures of 256 x 256: milliseconds a
batch for the picture and for its gradients (vertices, camera, maps, light), best of several runs.
Where mitsuba can be used, the ray tracer draws the same scene. On a machine that does other work
too, --clock cpu counts the time of the processor, summed over threads.
"""

from __future__ import annotations

import argparse
import functools
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rasterizers import bumpy_sphere
from torch import Tensor, nn

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.morphable_models.procedural import procedural_head
from lit_face.rendering.material import Material
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.transfer import light_transfer

MAP = 256  # texels a side
BANDS = 9


@dataclass
class Scene:
    """What renderers are called with; every tensor asks for gradients."""

    vertices: Tensor
    faces: Tensor
    uv: Tensor
    camera: PerspectiveCamera
    size: tuple[int, int]
    material: Material
    light: Tensor

    def render(self, renderer: nn.Module, **extra: Tensor) -> Tensor:
        """Return the picture (B,3,H,W)."""
        picture: Tensor = renderer(
            self.vertices, self.faces, self.uv, self.camera, self.size, self.material, self.light,
            **extra,
        ).image  # fmt: skip
        return picture


def scene_of(
    vertices: Tensor, faces: Tensor, uv: Tensor, side: int, mapped: bool, device: torch.device
) -> Scene:
    """Return a batch in front of a camera that it nearly fills, under light mostly from above."""
    batch = len(vertices)
    generator = torch.Generator().manual_seed(0)

    def leaf(value: Tensor) -> Tensor:
        return value.to(device).contiguous().requires_grad_()

    extent = float((vertices[0].detach().amax(0) - vertices[0].detach().amin(0)).max())
    focal = 4.5 * side
    intrinsics = torch.tensor([[focal, 0, side / 2 - 0.5], [0, focal, side / 2 - 0.5], [0, 0, 1.0]])
    camera = PerspectiveCamera(
        leaf(intrinsics.repeat(batch, 1, 1)),
        leaf(torch.diag(torch.tensor([1.0, -1, -1])).repeat(batch, 1, 1)),
        leaf(torch.tensor([[0.0, 0, 4.5 * extent / 0.9]]).repeat(batch, 1)),
    )
    roughness = 0.2 + 0.5 * torch.rand(batch, 1, MAP, MAP, generator=generator)
    material = Material(
        leaf(torch.rand(batch, 3, MAP, MAP, generator=generator)),
        leaf(0.1 * torch.rand(batch, 1, MAP, MAP, generator=generator)),
        leaf(roughness if mapped else torch.full((batch, 1, 1, 1), 0.4)),
    )
    light = 0.1 * torch.randn(batch, BANDS**2, 3, generator=generator)
    light[:, 0], light[:, 2] = 3.0, -1.0
    return Scene(
        leaf(vertices), faces.to(device), uv.to(device), camera, (side, side), material, leaf(light)
    )


def times(
    run: Callable[[], Tensor], device: torch.device, seconds: float, clock: Callable[[], float]
) -> tuple[float, float]:
    """Return the shortest times of the picture and of its gradients, in seconds."""
    forward: list[float] = []
    backward: list[float] = []

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock()

    run().square().mean().backward()  # type: ignore[no-untyped-call]
    while len(forward) < 2 or (sum(forward) + sum(backward) < seconds and len(forward) < 50):
        start = now()
        loss = run().square().mean()
        middle = now()
        loss.backward()  # type: ignore[no-untyped-call]
        forward.append(middle - start)
        backward.append(now() - middle)
    return min(forward), min(backward)


def meshes(batch: int) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return vertices (B,V,3) in mm, faces and uv (V,2) by name."""
    head = procedural_head()
    drawn = head.sample(batch, torch.Generator().manual_seed(0))
    ball, ball_faces = bumpy_sphere(20_000, 256, 1)
    ball = (ball - ball.mean(1, keepdim=True)).repeat(batch, 1, 1)
    ball_uv = (ball[0, :, :2] / ball[0].abs().max() + 1) / 2
    return {
        "head": (head(drawn["identity"], drawn["expression"]), head.faces, head.uv),
        "ball": (ball, ball_faces, ball_uv),
    }


def ray_tracer() -> nn.Module | str:
    """Return the ray tracer at 8 samples a pixel, or why there is none."""
    try:
        from lit_face.rendering.mitsuba import MitsubaRenderer

        return MitsubaRenderer(samples=8)
    except (ImportError, RuntimeError) as error:
        return str(error)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs, no ray tracer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=256, help="side of the picture, pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    seconds = 0.5 if options.quick else 4.0

    where = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    print(f"torch {torch.__version__}, {device} ({where or platform.machine()}), "
          f"{torch.get_num_threads()} thread(s); batch of {options.batch}, "
          f"{options.size} x {options.size}; milliseconds a batch ({options.clock})")  # fmt: skip
    print(f"{'mesh':>5} {'triangles':>9}  {'renderer':<36}{'picture':>9}{'gradients':>11}")
    tracer = "left out by --quick" if options.quick else ray_tracer()
    for name, (vertices, faces, uv) in meshes(options.batch).items():
        sky = light_transfer(vertices[0], faces, directions=64).to(device)
        rows: dict[str, tuple[nn.Module, bool, dict[str, Tensor]]] = {
            "raster, diffuse alone": (RasterMaterialRenderer(specular="none"), False, {}),
            "raster, prefiltered, one roughness": (RasterMaterialRenderer(), False, {}),
            "raster, prefiltered, roughness map": (RasterMaterialRenderer(), True, {}),
            "raster, the same, transfer": (RasterMaterialRenderer(), True, {"transfer": sky}),
            "raster, the same, clamped light": (RasterMaterialRenderer(clamp_light=True), True, {}),
        }
        if not options.quick:
            lobes = RasterMaterialRenderer(specular="quadrature", lobe_samples=64)
            rows["raster, quadrature, 64 half vectors"] = (lobes, True, {})
        if isinstance(tracer, nn.Module):
            rows["mitsuba, 8 samples"] = (tracer, True, {})
        for label, (renderer, mapped, extra) in rows.items():
            scene = scene_of(vertices, faces, uv, options.size, mapped, device)
            run = functools.partial(scene.render, renderer, **extra)
            forward, backward = times(run, device, seconds, clock)
            print(f"{name:>5} {len(faces):>9}  {label:<36}"
                  f"{1e3 * forward:>9.0f}{1e3 * backward:>11.0f}", flush=True)  # fmt: skip
    if isinstance(tracer, str):
        print(f"no ray tracer: {tracer}")


if __name__ == "__main__":
    main()
