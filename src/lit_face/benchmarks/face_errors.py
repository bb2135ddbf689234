"""Errors of reconstructions against a fitted morphable model, image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lit_face.data.transforms import Alignment
from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera
from lit_face.geometry.five_points import five_point_box, five_points, standard_points
from lit_face.geometry.rotations import matrix_to_euler
from lit_face.geometry.uv import points_to_surface
from lit_face.metrics.nme import nme
from lit_face.metrics.pose import angle_errors_deg
from lit_face.metrics.reconstruction import corresponding_error, icp_error, interocular
from lit_face.morphable_models.base import MorphableModel
from lit_face.types import FaceBatch, Reconstruction

AXES = ("pitch", "yaw", "roll")


@dataclass
class Truth:
    """`landmarks` (B,68,3) and `points` (B,V,3) in pixels of the crop, `angles_deg` (B,3)."""

    landmarks: Tensor
    points: Tensor
    angles_deg: np.ndarray


class SurfacePoints:
    """The true counterparts of a reconstruction's vertices, found once by their UV coordinates.

    Args:
        model: the model of the true coefficients; its UV layout is the reconstructions'.
        uv: (V,2) of a reconstruction.
    """

    def __init__(self, model: MorphableModel, uv: Tensor) -> None:
        self.vertex_index, self.weights = points_to_surface(uv, model.uv, model.faces)

    def pick(self, vertices: Tensor) -> Tensor:
        """Interpolate (B,V',3) vertices of the model at the points: (B,V,3)."""
        return (vertices[:, self.vertex_index] * self.weights[..., None]).sum(dim=2)


def camera_angles_deg(camera: AffineCamera | PerspectiveCamera) -> np.ndarray:
    """Return 3DDFA's pitch, yaw, roll (B,3) in degrees of cameras with a scaled rotation."""
    if isinstance(camera, PerspectiveCamera):
        rotation = camera.rotation
    else:
        linear = camera.matrix[:, :, :3]
        rotation = linear / torch.linalg.det(linear).abs().pow(1 / 3)[:, None, None]
    upward = rotation * rotation.new_tensor([1.0, -1.0, -1.0])[:, None]
    angles: np.ndarray = torch.rad2deg(matrix_to_euler(upward)).cpu().numpy()
    return angles


def mean_face(
    model: MorphableModel,
    points: SurfacePoints,
    batch: FaceBatch,
    margin: float,
    alignment: Alignment = "box",
) -> Reconstruction:
    """Reconstruct every face as the mean face, upright and frontal, where the crop expects a face.

    Args:
        model: gives the mean face.
        points: the vertices to return.
        batch: crops whose landmarks' box fills 1 / margin of the image.
        margin: of the crop.
        alignment: of the crop; unless it is 'box' the crop is taken for Deep3D's, without margin.
    """
    height, width = batch.image.shape[-2:]
    landmarks = model.landmarks(model.mean[None])[0]
    if alignment == "box":
        low, high = landmarks[:, :2].amin(dim=0), landmarks[:, :2].amax(dim=0)
        scale = (height / margin) / (high - low).mean()
        centre = (low + high) / 2
    else:
        flat = five_points(landmarks)
        shown = five_point_box(flat[None, :, :2], standard_points(flat))  # 1 pixel a mm
        scale, centre = (height - 1) / shown.size[0], shown.centre[0]
    flip = model.mean.new_tensor([1.0, -1.0, -1.0])
    middle = model.mean.new_tensor([(width - 1) / 2, (height - 1) / 2, 0.0])
    offset = middle - scale * flip * torch.cat([centre, centre.new_zeros(1)])
    matrix = torch.cat([scale * torch.diag(flip), offset[:, None]], dim=1)
    camera = AffineCamera(matrix.expand(len(batch), 3, 4))
    vertices = points.pick(model.mean[None]).expand(len(batch), -1, -1)
    return Reconstruction(
        image_vertices=camera.project(vertices),
        vertices=vertices,
        faces=model.faces,
        uv=model.uv,
        landmarks=camera.project(landmarks),
        unit="mm",
        camera=camera,
    )


def image_errors(predicted: Reconstruction, true: Truth) -> dict[str, np.ndarray]:
    """Compare reconstructions with the truth.

    Returns:
        (B,) arrays by name: `nme_{2d,3d}_{sparse,dense}` in percent of the true box,
        `nme_reconstruction` (ICP) and `nme_reconstruction_corresponding` in percent of the outer
        interocular distance, `pose_{pitch,yaw,roll}_deg`. A failed image is NaN everywhere.
    """
    pairs = {
        "sparse": (predicted.landmarks.float(), true.landmarks),
        "dense": (predicted.image_vertices.float(), true.points),
    }
    errors = {
        f"nme_{dimensions}d_{name}": 100 * nme(*pair, dimensions).cpu().numpy()
        for name, pair in pairs.items()
        for dimensions in (2, 3)
    }
    predicted_points, true_points = (points.cpu().numpy() for points in pairs["dense"])
    errors |= _aligned_errors(predicted_points, true_points, true)
    if predicted.camera is None:
        angles = np.full_like(true.angles_deg, np.nan)
    else:
        angles = camera_angles_deg(predicted.camera)
    differences = angle_errors_deg(angles, true.angles_deg)
    errors |= {f"pose_{axis}_deg": differences[:, column] for column, axis in enumerate(AXES)}
    failed = ~np.isfinite(errors["nme_3d_sparse"] + errors["nme_3d_dense"])
    return {name: np.where(failed, np.nan, values) for name, values in errors.items()}


def _aligned_errors(
    predicted: np.ndarray, points: np.ndarray, true: Truth
) -> dict[str, np.ndarray]:
    sizes = [interocular(landmarks) for landmarks in true.landmarks.cpu().numpy()]
    rows = list(zip(predicted, points, sizes, strict=True))
    return {
        "nme_reconstruction": np.array([100 * icp_error(*row) for row in rows]),
        "nme_reconstruction_corresponding": np.array(
            [100 * corresponding_error(*row) for row in rows]
        ),
    }
