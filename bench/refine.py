"""What refining a photo costs: python bench/refine.py [--quick] [--steps 200] [--batch 8].

Photos are pictures of the built-in head, 256 x 256 pixels, with random shape, albedo, pose and
light; their landmarks are exact. `init=landmarks` with what conf/reconstruct.yaml says, raster
renderer: seconds a photo, alone and in a batch, and the errors before and after (means of the
photos). Where a machine does other work too, --clock cpu counts the time of the processor.
"""

# ruff: noqa: I001
from __future__ import annotations

import lit_face  # noqa: F401  (first: arms the torchvision repair)

import argparse
import platform
import time
from typing import Any

import torch
from torch import Tensor

from lit_face.config import check_config, instantiate
from lit_face.config.composition import compose_config
from lit_face.methods.sh_brdf.predictor import LandmarkPredictor
from lit_face.methods.sh_brdf.reader import AttributeReader
from lit_face.morphable_models.procedural import procedural_head
from lit_face.rendering.color import linear_to_srgb
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.scene import render_face

SIZE = 256


@torch.no_grad()
def photos(reader: AttributeReader, count: int) -> tuple[Tensor, Tensor]:
    """Return pictures (B,3,S,S) of random faces, sRGB, and their landmarks (B,68,2)."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    light = torch.zeros(count, 81, 3)
    light[:, :9] = draw(9, 1) + 0.3 * draw(9, 3)
    attributes = {
        **{name: 0.7 * draw(size) for name, size in reader.head.counts.items()},
        "rotation": torch.tensor([0.1, 0.25, 0.05]) * draw(3),
        "translation": torch.zeros(count, 3),
        "focal": torch.zeros(count, 1),
        "light": light,
    }
    face = reader(attributes, SIZE)
    shown = render_face(RasterMaterialRenderer(), face, (SIZE, SIZE))
    picture = 0.3 + shown.mask * (linear_to_srgb(shown.image) - 0.3)
    return picture.clamp(0, 1), face.landmarks[..., :2]


def settings() -> dict[str, Any]:
    """Return what conf/reconstruct.yaml says about refinement."""
    plain = check_config(compose_config("reconstruct", ["input=photos", "out=faces"]))
    found: dict[str, Any] = plain["refinement"]
    return found


def main() -> None:
    """Print the table of docs/reconstruct.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 steps instead of 200")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    steps = 20 if options.quick else options.steps

    predictor = LandmarkPredictor(procedural_head(), image_size=SIZE)
    refinement = instantiate({**settings(), "steps": steps})
    picture, points = photos(predictor.reader, options.batch)
    warm = instantiate({**settings(), "steps": 4})
    predictor.refine(picture[:1], points[:1], warm)  # compiles the rasteriser
    print(f"torch {torch.__version__}, {platform.machine()}, {options.threads} thread(s), "
          f"{options.clock} clock; refine={steps}, {SIZE} x {SIZE} pixels")  # fmt: skip
    print("| photos together | seconds a photo | ms a step and photo "
          "| photo L1 before, after | landmarks, px |\n|---|---|---|---|---|")  # fmt: skip
    for count in (1, options.batch):
        start = clock()
        refined = predictor.refine(picture[:count], points[:count], refinement)
        seconds = (clock() - start) / count
        errors = [
            f"{float(refined.before[name].mean()):.{digits}f}, "
            f"{float(refined.after[name].mean()):.{digits}f}"
            for name, digits in (("photo_l1", 4), ("landmarks_px", 2))
        ]
        print(f"| {count} | {seconds:.1f} | {1e3 * seconds / steps:.0f} | {errors[0]} "
              f"| {errors[1]} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
