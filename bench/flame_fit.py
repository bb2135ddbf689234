"""What a photometric fit costs: python bench/flame_fit.py [--quick] [--head procedural].

Photos are pictures of the head itself, 256 x 256 pixels, with random shape, texture, pose and
light; landmarks are exact, the mask is the whole head (more pixels than a face has).
`method=flame_fit` with what its config says: photos a minute, one by one and in batches of eight.
Where a machine does other work too, --clock cpu counts the time of the processor.
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
from lit_face.methods.flame_fit import FlameFit
from lit_face.methods.flame_fit.light import FULL_LIGHT
from lit_face.methods.flame_fit.predictor import reconstruction
from lit_face.rendering.color import linear_to_srgb
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.scene import render_face

BATCH, QUICK_STEPS = 8, 4
_SCALE = 1 / 190  # NDC a mm: a face fills about half of the picture


@torch.no_grad()
def photos(method: FlameFit, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return pictures (B,3,S,S), sRGB, landmarks (B,68,2) and masks (B,1,S,S)."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    light = 0.4 * draw(9, 1) + 0.05 * draw(9, 3)
    light[:, 0] += 0.8 * FULL_LIGHT
    values = {
        "identity": 0.7 * draw(method.model.identity_size),
        "expression": 0.7 * draw(method.model.expression_size),
        "joints": torch.zeros(count, len(method.model.joint_names), 3),
        "rotation": torch.tensor([0.1, 0.25, 0.05]) * draw(3),
        "camera": torch.tensor([_SCALE, 1.0, 1.0]).log().expand(count, 3),
        "texture": 0.7 * draw(method.textures.components),
        "light": light,
    }
    face = reconstruction(method.head(), values, method.image_size)
    shown = render_face(RasterMaterialRenderer(), face, (method.image_size,) * 2)
    picture = 0.3 + shown.mask * (linear_to_srgb(shown.image) - 0.3)
    return picture.clamp(0, 1), face.landmarks[..., :2], shown.mask


def method_of(head: str, quick: bool) -> FlameFit:
    """Return the method as its config has it."""
    overrides = ["input=photos", "out=faces", "method=flame_fit", f"morphable_model={head}"]
    config: dict[str, Any] = check_config(compose_config("reconstruct", overrides))
    settings = dict(config["method"])
    if quick:
        stages = {"landmark_steps": QUICK_STEPS, "steps": [QUICK_STEPS], "offset_steps": 2}
        settings["options"] = {**settings["options"], **stages}
    model = instantiate(config["morphable_model"])
    method: FlameFit = instantiate(settings, morphable_model=model)
    return method


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs")
    parser.add_argument("--head", default="procedural", help="of conf/morphable_model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    image, points, mask = photos(method := method_of(arguments.head, arguments.quick), BATCH)
    method_of(arguments.head, True).refine(image[:1], points[:1], skin_mask=mask[:1])  # compiles
    size = method.image_size
    print(f"torch {torch.__version__}, {platform.machine()}, {arguments.threads} thread(s), "
          f"{arguments.clock} clock; {arguments.head}, {size} x {size} pixels")  # fmt: skip
    print("| photos together | seconds a photo | photos a minute | photo L1 before, after "
          "| landmarks, px |\n|---|---|---|---|---|")  # fmt: skip
    for together in (1, BATCH):
        start, found = clock(), []
        for first in range(0, BATCH, together):
            rows = slice(first, first + together)
            found.append(method.refine(image[rows], points[rows], skin_mask=mask[rows]))
        seconds = (clock() - start) / BATCH
        errors = [
            " ".join(
                f"{torch.cat([getattr(one, moment)[name] for one in found]).mean():.{digits}f}"
                for moment in ("before", "after")
            )
            for name, digits in (("photo_l1", 4), ("landmarks_px", 2))
        ]
        print(f"| {together} | {seconds:.2f} | {60 / seconds:.1f} | {errors[0]} | {errors[1]} |",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
