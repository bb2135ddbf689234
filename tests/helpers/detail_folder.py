"""A processed FaceScape folder of spheres with relief that shows in their colour."""

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from lit_face.geometry.meshes import grid_faces
from lit_face.io.images import write_image
from lit_face.io.meshes import Mesh, write_mesh
from lit_face.rendering.drawing import to_pixels
from tests.helpers.view_sphere import RADIUS, paint, view_sphere

SCALE = 20.0  # mm a unit
LOW = 1.5  # mm of the undulation that maps know
SIDES = {"train": ["001_01", "002_01"], "eval": ["003_01"]}


def relief(points, seed):
    """Wrinkles (...,) in mm at points (...,3) of the sphere, 0.35 mm at most."""
    x, y, z = (points / points.norm(dim=-1, keepdim=True) * RADIUS).unbind(-1)
    wave = torch.sin(x / 2.1 + seed) * torch.cos(y / 2.6) + torch.sin((x + y + z) / 2.4 - seed)
    return 0.175 * wave


def undulation(points):
    """Return a wide bump (...,) in mm that a base mesh does not know."""
    return LOW * torch.cos(points[..., 0] / 30) * torch.cos(points[..., 1] / 30)


def wrinkled_paint(points, seed):
    """Skin that is darker in its cavities."""
    return (paint(points) * (1 + 1.2 * relief(points, seed)[..., None])).clamp(0, 1)


def write_detail_folder(root: Path, size: int = 64, samples=None) -> Path:
    """Write maps, scans, photos and cameras of spheres; ids by split as in `SIDES`."""
    split_ids = samples or SIDES
    everyone = [name for names in split_ids.values() for name in names]
    root.mkdir(parents=True, exist_ok=True)
    views: dict[str, dict[str, list[int]]] = {}
    scales: dict[str, dict[str, list]] = {}
    for split, names in split_ids.items():
        for name in names:
            person, expression = (str(int(part)) for part in name.split("_"))
            views.setdefault(person, {})[expression] = [4, 2, 7]
            scales.setdefault(person, {})[expression] = [SCALE, np.eye(4).tolist()]
            _write_sample(root, split, name, size, [4, 2, 7])
    for file, content in (
        ("id.json", split_ids), ("select_dict.json", views), ("Rt_scale_dict.json", scales),
    ):  # fmt: skip
        (root / file).write_text(json.dumps(content))
    cv2.imwrite(str(root / "facial_mask.png"), np.full((512, 512), 255, np.uint8))
    assert everyone
    return root


def _write_sample(root, split, name, size, views):
    person, expression = name.split("_")
    seed = float(person)
    sphere = view_sphere(size, height=240, width=200, paint=partial(wrinkled_paint, seed=seed))
    points = sphere.position.movedim(0, -1)
    mask = sphere.mask[..., None]
    movement = (undulation(points) + relief(points, seed))[..., None]
    maps = {
        "pos_map": points / SCALE * mask, "norm_map": sphere.normal.movedim(0, -1) * mask,
        "mv_map": (movement / SCALE * mask)[..., 0], "valid_map": mask[..., 0].float(),
        "visibility_map": mask[..., 0].float().expand(3, -1, -1),
    }  # fmt: skip
    for kind, values in maps.items():
        path = root / "maps" / split / kind / f"{kind}_{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values.numpy().astype(np.float32))
    folder = root / "images" / person / expression
    params = {}
    for row, view in enumerate(views):
        write_image(folder / f"{view}.jpg", to_pixels(sphere.images[row]), 98)
        params[f"{view}_K"] = sphere.camera.intrinsics[row].tolist()
        world = torch.cat(
            [sphere.camera.rotation[row], sphere.camera.translation[row, :, None] / SCALE], 1
        )
        params[f"{view}_Rt"] = world.tolist()
        params[f"{view}_height"], params[f"{view}_width"] = 240, 200
    (folder / "params.json").write_text(json.dumps(params))
    write_mesh(root / "scans" / f"scan_{name}.ply", _scan(seed))


def _scan(seed, size=400):
    angle = torch.linspace(-1.15, 1.15, size)
    up, side = torch.meshgrid(-angle, angle, indexing="ij")
    normal = torch.stack([side.sin() * up.cos(), up.sin(), side.cos() * up.cos()], -1).view(-1, 3)
    points = RADIUS * normal
    moved = points + normal * (undulation(points) + relief(points, seed))[:, None]
    return Mesh(moved / SCALE, grid_faces(torch.ones(size, size, dtype=torch.bool)))
