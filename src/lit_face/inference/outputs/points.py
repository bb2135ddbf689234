"""Numbers: landmarks, all points, head pose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera
from lit_face.geometry.pose import camera_angles, pose_from_camera
from lit_face.geometry.rotations import euler_to_matrix
from lit_face.inference.outputs.export import Export


def write_landmarks(export: Export, folder: Path) -> None:
    """Write landmarks.json: the 68 iBUG points (x, y, depth in pixels) and their visibility."""
    face = export.face
    _write_json(
        folder / "landmarks.json",
        {
            "order": "iBUG 68",
            "frame": "x right, y down, first pixel's centre at (0, 0); depth: smaller = nearer",
            "landmarks": _rounded(face.landmarks, 3),
            "visibility": _rounded(face.landmark_visibility, 3),
        },
    )


def write_points(export: Export, folder: Path) -> None:
    """Write points.npz: every vertex with visibility, the mesh, and the 68 landmarks.

    image_vertices (V,3) pixels and depth, vertices (V,3) head space, visibility (V,), colors (V,3),
    faces (F,3), uv (V,2), landmarks (68,3), landmark_visibility (68,), box (4,), unit.
    """
    face, reconstruction = export.face, export.face.reconstruction
    arrays: dict[str, Any] = {
        "image_vertices": face.points,
        "vertices": reconstruction.vertices[0].numpy(),
        "colors": export.colors,
        "faces": reconstruction.faces.numpy(),
        "uv": reconstruction.uv.numpy(),
        "landmarks": face.landmarks,
        "landmark_visibility": face.landmark_visibility,
        "box": np.array(face.box),
        "unit": np.array(reconstruction.unit),
    }
    if reconstruction.visibility is not None:
        arrays["visibility"] = reconstruction.visibility[0].numpy()
    np.savez_compressed(folder / "points.npz", **arrays)


def write_pose(export: Export, folder: Path) -> None:
    """Write pose.json: angles in degrees, rotation, and the camera from head space to the photo.

    An affine camera has scale, translation and a matrix (3,4) to x, y and depth in pixels; a
    pinhole camera intrinsics (3,3) and a translation in mm.

    Raises:
        ValueError: the method gives no camera.
    """
    camera = export.face.reconstruction.camera
    if camera is None:
        raise ValueError("outputs: this method estimates no camera, so there is no pose.")
    pitch, yaw, roll = export.face.angles
    _write_json(
        folder / "pose.json",
        {
            "pitch_deg": round(pitch, 4),
            "yaw_deg": round(yaw, 4),
            "roll_deg": round(roll, 4),
            "angles": "positive pitch looks up, positive yaw turns the nose to the image's left, "
            "positive roll leans the head to the image's right",
            **_camera_values(camera),
            "unit": export.face.reconstruction.unit,
        },
    )


def _camera_values(camera: AffineCamera | PerspectiveCamera) -> dict[str, Any]:
    if isinstance(camera, PerspectiveCamera):
        return {
            "rotation": euler_to_matrix(camera_angles(camera))[0].tolist(),
            "translation_mm": camera.translation[0].tolist(),
            "intrinsics_px": camera.intrinsics[0].tolist(),
        }
    pose = pose_from_camera(camera)
    return {
        "rotation": pose.rotation[0].tolist(),
        "scale_px_per_unit": float(pose.scale[0]),
        "translation_px": pose.translation[0].tolist(),
        "camera_matrix": camera.matrix[0].tolist(),
    }


def _rounded(array: Any, digits: int) -> Any:
    return np.round(np.asarray(array, np.float64), digits).tolist()


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
