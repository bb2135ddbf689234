"""How strongly each loss of sh_brdf pulls, beside the photo.

Usage: python bench/loss_gradients.py RUN

For every loss, the norm of its weighted gradient on what it is meant for (coefficients, pose,
light, residual maps), over that of the photometric loss on the same. Weights are well chosen where
no loss is a hundred times as strong or as weak as the photo.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import lit_face  # noqa: F401
from lit_face.config import instantiate
from lit_face.inference.loading import load_method
from lit_face.io.checkpoints import find_checkpoint
from lit_face.rendering.scene import render_face

TARGETS = {
    "landmark": "rotation",
    "prior_identity": "identity",
    "prior_expression": "expression",
    "prior_albedo": "albedo",
    "light_energy": "light",
    "light_grey": "light",
    "light_negative": "light",
    "symmetry_diffuse": "residual_diffuse",
    "symmetry_specular": "residual_specular",
    "consistency_diffuse": "residual_diffuse",
    "consistency_specular": "residual_specular",
    "smooth_diffuse": "residual_diffuse",
    "smooth_specular": "residual_specular",
    "range_diffuse": "residual_diffuse",
    "range_specular": "residual_specular",
    "grey_specular": "residual_specular",
}


def main() -> None:
    """Print a line a loss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run of method=sh_brdf")
    parser.add_argument("--faces", type=int, default=16)
    arguments = parser.parse_args()
    method, stored = load_method(find_checkpoint(arguments.run, prefer="best"))
    model = instantiate(stored["morphable_model"])
    data = instantiate(
        {**stored["data"], "batch_size": arguments.faces, "workers": 0},
        morphable_model=model,
        seed=stored["seed"],
    )
    data.setup("fit")
    batch = data.transform(next(iter(data.val_dataloader())), is_training=False)
    network, size = method.eval().network, batch.image.shape[-1]
    with torch.no_grad():
        raw = network(batch.image)
    raw = {name: value.detach().requires_grad_() for name, value in raw.items()}
    face = method.reader(raw, size, method.follow_contour)
    picture = render_face(method.renderer, face, (size, size))
    mask = picture.mask.detach() * batch.skin_mask
    objective = method.objective
    terms = objective.terms(face, picture.image, mask, batch, method.reader.head)
    photo = objective.weights["photo"] * terms["photo"]
    print(f"{'loss':22}{'on':20}{'weight':>9}{'value':>11}{'gradient / photo':>18}")
    for name, value in terms.items():
        if name in TARGETS:
            target = raw[TARGETS[name]]
            own = _norm(objective.weights[name] * value, target)
            beside = _norm(photo, target)
            weight = objective.weights[name]
            line = f"{name:22}{TARGETS[name]:20}{weight:9.3g}{float(value.detach()):11.3g}"
            print(f"{line}{own / max(beside, 1e-20):18.3g}")


def _norm(loss: torch.Tensor, target: torch.Tensor) -> float:
    (gradient,) = torch.autograd.grad(loss, target, retain_graph=True, allow_unused=True)
    return 0.0 if gradient is None else float(gradient.norm())


if __name__ == "__main__":
    main()
