"""What the miniatures of 300W-LP and AFLW2000-3D share: faces, poses, files as in the real ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.data.fit_parameters import IMAGE_SIZE, MINIATURE_MARKER, pose_cameras
from lit_face.data.landmarks import project_landmarks
from lit_face.data.photographs.render import render_photographs
from lit_face.geometry.cameras import AffineCamera
from lit_face.io.images import write_image
from lit_face.morphable_models.base import MorphableModel

JPEG_QUALITY = 92
# As in AFLW2000-3D: boxes of the landmarks of about 190 +- 26 pixels, below the image's middle.
SCALE = (1.15e-3, 1.6e-3)  # pixels a micrometre
CENTRE, CENTRE_STD = (227.0, 276.0), (20.0, 8.0)  # pixels
_RENDER_CHUNK = 8
_PARAMETERS = {"Shape_Para": 199, "Exp_Para": 29, "Tex_Para": 199}

# (model, coefficients, camera, keys, (H, W)) -> images (B,3,H,W) in [0,1]
Renderer = Callable[..., Tensor]


@dataclass
class FacePlan:
    """Faces to be written: what the real dataset would know about each.

    Attributes:
        coefficients: identity, expression, albedo (N,K), standard deviations.
        pose: (N,7) float64 in the units of `Pose_Para`.
        keys: (N,) random keys of the pictures; views of one photograph share theirs, and with it
            light, hair and background.
    """

    coefficients: dict[str, Tensor]
    pose: NDArray[np.float64]
    keys: Tensor

    def __len__(self) -> int:
        return len(self.pose)


def sample_people(
    model: MorphableModel, count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw coefficients (count,K) that fit the real files: modes beyond theirs are 0."""
    people = model.sample(count, generator)
    for name, size in zip(people, _PARAMETERS.values(), strict=True):
        people[name][:, size:] = 0.0
    return people


def place_faces(
    model: MorphableModel,
    coefficients: dict[str, Tensor],
    angles: NDArray[np.float64],
    scale: NDArray[np.float64],
    centre: NDArray[np.float64],
    keys: Tensor,
) -> FacePlan:
    """Choose translations so that the middle of the landmarks lands where it should.

    Args:
        model: head model.
        coefficients: (N,K) by name.
        angles: (N,3) pitch, yaw, roll, radians.
        scale: (N,) pixels a micrometre.
        centre: (N,2) pixels, zero-based.
        keys: (N,) see `FacePlan`.
    """
    pose = np.concatenate([angles, np.zeros((len(angles), 3)), scale[:, None]], axis=1)
    found = project_landmarks(model, coefficients, pose_cameras(pose)).double().numpy()
    middle = (found[..., :2].min(axis=1) + found[..., :2].max(axis=1)) / 2
    pose[:, 3] = centre[:, 0] - middle[:, 0]
    pose[:, 4] = middle[:, 1] - centre[:, 1]
    pose[:, 5] = -80.0  # the real fits' depth is arbitrary too
    return FacePlan(coefficients, pose, keys)


def render_pictures(
    model: MorphableModel,
    coefficients: dict[str, Tensor],
    camera: AffineCamera,
    keys: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """Render procedural photographs (B,3,H,W)."""
    return render_photographs(model, coefficients, camera, keys, size).image


def render_faces(model: MorphableModel, plan: FacePlan, render: Renderer) -> NDArray[np.uint8]:
    """Render (N,450,450,3) pictures of the faces, a few at a time."""
    pictures = []
    for start in range(0, len(plan), _RENDER_CHUNK):
        part = slice(start, start + _RENDER_CHUNK)
        values = {name: value[part] for name, value in plan.coefficients.items()}
        camera = pose_cameras(plan.pose[part])
        images = render(model, values, camera, plan.keys[part], (IMAGE_SIZE, IMAGE_SIZE))
        pictures.append((images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1))
    return torch.cat(pictures).numpy()


def matlab_landmarks(model: MorphableModel, plan: FacePlan) -> NDArray[np.float64]:
    """Project the 68 points (N,3,68) as the datasets store them: 1-based, z to the viewer."""
    camera = pose_cameras(plan.pose, "matlab")
    points = project_landmarks(model, plan.coefficients, camera).double().numpy()
    points[..., 2] *= -1
    return points.transpose(0, 2, 1)


def fit_fields(model: MorphableModel, plan: FacePlan, item: int, seed: int) -> dict[str, Any]:
    """Return the fields of one .mat file that both datasets have, with the real types."""
    raw = {
        "Shape_Para": plan.coefficients["identity"][item] * model.identity_std,
        "Exp_Para": plan.coefficients["expression"][item] * model.expression_std,
        "Tex_Para": plan.coefficients["albedo"][item] * _texture_std(model),
    }
    fields: dict[str, Any] = {}
    for name, size in _PARAMETERS.items():
        values = raw[name].double().numpy()[:size]
        fields[name] = np.pad(values, (0, size - len(values)))[:, None]
    if not fields["Exp_Para"].any():  # MATLAB stores an all-zero array in the smallest type
        fields["Exp_Para"] = fields["Exp_Para"].astype(np.uint8)
    random = np.random.default_rng([seed, item])
    light = [*random.uniform(0.3, 0.7, 6), *random.uniform(-1, 1, 2), random.uniform(0, 0.3), 20.0]
    fields["Pose_Para"] = plan.pose[item : item + 1].astype(np.float32)
    fields["Illum_Para"] = np.array([light])
    fields["Color_Para"] = np.array([[1, 1, 1, 0, 0, 0, 1]], dtype=np.float32)
    fields["roi"] = np.array([[-100, -80, 820, 840]], dtype=np.int16)
    return fields


def write_pair(stem: Path, image: NDArray[np.uint8], fields: dict[str, Any]) -> None:
    """Write <stem>.jpg and <stem>.mat."""
    write_image(Path(f"{stem}.jpg"), image, JPEG_QUALITY)
    scipy.io.savemat(f"{stem}.mat", fields)


def write_marker(folder: Path, title: str, seed: int, **more: Any) -> None:
    """Leave a file that says that this is a miniature and not the real dataset."""
    content = {
        "dataset": title,
        "note": "A procedural miniature in the real dataset's layout, written by lit_face.",
        "seed": seed,
        **more,
    }
    (folder / MINIATURE_MARKER).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def radians(degrees: NDArray[np.floating]) -> NDArray[np.float64]:
    """Convert angles."""
    return np.asarray(degrees, dtype=np.float64) * (math.pi / 180)


def _texture_std(model: MorphableModel) -> Tensor:
    """What `write_bfm` stores as texEV."""
    norms: Tensor = torch.linalg.vector_norm(model.albedo_basis.flatten(0, 1), dim=0)
    return norms * 255
