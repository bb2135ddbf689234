"""A processed FaceScape folder of bent sheets: no photos, but all that maps are made from."""

import json
from dataclasses import dataclass

import numpy as np
import torch

from lit_face.data.facescape_layout import FaceScapeFolder, split_id
from lit_face.io.meshes import Mesh, write_mesh
from lit_face.io.obj import obj_text
from tests.geometry.test_triangulation import project, ring
from tests.geometry.test_uv_template import sheet

SIZE = 128  # side of the template's map
RELIEF_MM = 1.5
CELLS = 24


@dataclass
class SheetModel:
    """A bilinear model of a bent sheet with 68 landmarks."""

    core: torch.Tensor
    id_mean: torch.Tensor
    id_var: torch.Tensor
    start: torch.Tensor
    landmark_index: torch.Tensor
    faces: torch.Tensor
    uv: torch.Tensor

    def vertices(self, identity, expression):
        flat = torch.einsum("vei,i,e->v", self.core, identity, expression)
        return flat.view(-1, 3).double().numpy()


def sheet_model():
    xy, faces = sheet(CELLS)
    x, y = 130 * (xy[:, 0] - 0.5), 160 * (xy[:, 1] - 0.5)
    mean = np.column_stack([x, y, 45 - x**2 / 110 - y**2 / 190])
    waves = [np.sin((1 + k) * 2 * xy[:, 0] + k) * np.cos((1 + k % 3) * xy[:, 1]) for k in range(9)]
    core = np.zeros((3 * len(xy), 5, 6))
    core[:, 0, 0] = mean.ravel()
    for k in range(5):
        mode = np.zeros_like(mean)
        mode[:, k % 3] = 3 * waves[k]
        core[:, 0, k + 1] = mode.ravel()
    for k in range(4):
        mode = np.zeros_like(mean)
        mode[:, 2] = 4 * waves[5 + k]
        core[:, 1 + k, 0] = mode.ravel()
    landmarks = np.linspace(0, len(xy) - 1, 68).astype(int)
    start = torch.eye(6)[0]
    low, high = np.array([0.27, 0.37]), np.array([0.73, 0.84])  # inside of the core window
    return SheetModel(
        torch.from_numpy(core).float(),
        start,
        torch.tensor([1e-4, 1, 1, 1, 1, 1]),
        start,
        torch.from_numpy(landmarks),
        torch.from_numpy(faces),
        torch.from_numpy(low + (high - low) * xy),
    )


def relief(points, mm=RELIEF_MM):
    """A bump in mm at points of the sheet: what a scan has and the model does not."""
    return mm * np.cos(points[:, 0] / 12) * np.cos(points[:, 1] / 14)


def sheet_folder(root, samples=("001_01", "002_01", "331_01"), views=6, noise_px=0.3, scans=True):
    """Write the folder; returns it, the model and the true vertices (V,3) of each sample, mm."""
    folder, model = FaceScapeFolder(root), sheet_model()
    folder.predefined.mkdir(parents=True)
    faces = model.faces.numpy()
    template = obj_text(model.vertices(model.start, torch.eye(5)[0]), faces, model.uv.numpy())
    folder.template_file.write_text(template)
    truth, selected, scales = {}, {}, {}
    for row, name in enumerate(samples):
        generator = torch.Generator().manual_seed(row)
        identity = torch.cat([torch.ones(1), torch.randn(5, generator=generator)])
        expression = torch.cat([torch.ones(1), torch.rand(4, generator=generator)])
        vertices = model.vertices(identity, expression)
        unit_mm = 50.0 + 10 * row
        K, Rt = ring(views)
        pixels = project(K, Rt, torch.from_numpy(vertices[model.landmark_index]))
        pixels = pixels + noise_px * torch.randn(pixels.shape, generator=generator)
        folder.params_file(name).parent.mkdir(parents=True)
        params, points = {}, {}
        for view in range(views):
            pose = Rt[view].clone()
            pose[:, 3] /= unit_mm
            facts = {"K": K[view].tolist(), "Rt": pose.tolist(), "height": 640, "width": 480}
            params |= {f"{view}_{key}": value for key, value in facts.items()}
            points[str(view)] = {"points": pixels[view].tolist(), "score": 0.9}
        folder.params_file(name).write_text(json.dumps(params))
        folder.landmarks_file(name).write_text(json.dumps(points))
        person, number = (str(part) for part in split_id(name))
        selected.setdefault(person, {})[number] = list(range(views))
        scales.setdefault(person, {})[number] = [unit_mm, np.eye(3, 4).tolist()]
        truth[name] = vertices
        if scans:
            fine, fine_faces = dense_scan(model, vertices)
            folder.scan_file(name).parent.mkdir(exist_ok=True)
            write_mesh(folder.scan_file(name), Mesh(fine / unit_mm, fine_faces))
    held_out = [name for name in samples if int(name[:3]) > 330]
    split = {"train": [name for name in samples if name not in held_out], "eval": held_out}
    for file, content in (
        ("select_dict", selected), ("Rt_scale_dict", scales), ("id", split),
    ):  # fmt: skip
        (root / f"{file}.json").write_text(json.dumps(content))
    return folder, model, truth


def dense_scan(model, vertices, mm=RELIEF_MM):
    """Subdivide the sheet and raise it along z by the relief."""
    import trimesh

    fine, faces = trimesh.remesh.subdivide_loop(vertices, model.faces.numpy(), iterations=1)
    fine = np.asarray(fine) + relief(np.asarray(fine), mm)[:, None] * [0, 0, 1]
    return fine, np.asarray(faces)
