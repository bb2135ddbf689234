"""A start for the refinement of photos without a network: the head fitted to landmarks."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.pose import pose_from_camera
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.rotations import matrix_to_euler
from lit_face.methods.sh_brdf.reader import AttributeReader
from lit_face.morphable_models.fitting import fit_landmarks

_USUAL_FACE = 200.0  # pixels, for which `fit_landmarks` has its weights
INNER = slice(17, 68)  # the jaw of 2D landmarks slides with the pose


@torch.no_grad()
@fp32_region()
def landmark_start(
    reader: AttributeReader, landmarks: Tensor, size: int, bands: int = 9
) -> dict[str, Tensor]:
    """Fit shape and pose to landmarks; albedo and light are the mean face's.

    Args:
        reader: of the attributes.
        landmarks: (B,68,2) or (B,68,3), pixels of square pictures.
        size: of these pictures, pixels.
        bands: of the light.

    Returns:
        Raw attributes as `SHBRDFNetwork` gives them, without residual maps.

    Raises:
        ValueError: landmarks that are not finite, or all in one place.
    """
    check_landmarks(landmarks)
    head, count = reader.head, len(landmarks)
    extent = landmarks[..., :2].amax(1) - landmarks[..., :2].amin(1)
    weight = float((extent.mean() / _USUAL_FACE).square())
    fit = fit_landmarks(
        head,
        landmarks[:, INNER],
        vertex_index=head.landmark_index[INNER],
        identity_weight=40 * weight,
        expression_weight=20 * weight,
    )
    rotation, translation = _pose(reader, fit.camera, size)
    zeros = landmarks.new_zeros
    return {
        **fit.coefficients,
        "albedo": zeros(count, head.counts["albedo"]),
        "rotation": rotation,
        "translation": translation,
        "focal": zeros(count, 1),
        "light": zeros(count, bands * bands, 3),
    }


def check_landmarks(landmarks: Tensor) -> None:
    """Refuse landmarks from which no pose follows.

    Raises:
        ValueError: names the first face, and what is wrong with its landmarks.
    """
    if landmarks.ndim != 3 or landmarks.shape[1] != 68:
        raise ValueError(f"landmarks should be (B,68,2) or (B,68,3), found {landmarks.shape}.")
    bad = (~landmarks.isfinite()).flatten(1).any(1)
    if bad.any():
        raise ValueError(f"landmarks of face {int(bad.nonzero()[0])} hold NaN or infinity.")
    extent = (landmarks[..., :2].amax(1) - landmarks[..., :2].amin(1)).amin(1)
    if (extent < 1).any():
        row = int((extent < 1).nonzero()[0])
        raise ValueError(f"landmarks of face {row} lie in one line or place.")


def _pose(reader: AttributeReader, camera: AffineCamera, size: int) -> tuple[Tensor, Tensor]:
    """Return raw rotation and translation of the perspective camera nearest to an affine one."""
    pose = pose_from_camera(camera)
    focal = reader.focal * size
    depth = focal / pose.scale
    centre = (size - 1) / 2
    shift = (camera.matrix[:, :2, 3] - centre) * (depth / focal)[:, None]
    place = torch.cat([shift, depth[:, None]], dim=1)
    raw = (place - reader.start_translation()) / reader.translation_units()
    return matrix_to_euler(pose.rotation), raw
