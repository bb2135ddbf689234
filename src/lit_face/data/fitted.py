"""What 300W-LP and AFLW2000-3D share: photographs with a fitted BFM, in one .mat file each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.fit_parameters import IMAGE_SIZE, pose_cameras
from lit_face.data.index import PackedIndex
from lit_face.data.landmarks import project_landmarks
from lit_face.geometry.cameras import AffineCamera
from lit_face.io.images import read_image
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.bfm import find_bfm, load_bfm
from lit_face.types import FaceBatch

log = logging.getLogger(__name__)

_MODEL_CHECKS = 64
_MODEL_TOLERANCE = 0.1  # of the box size; a wrong model or unit is off by far more


class FittedFaces(Dataset[dict[str, Any]]):
    """Photographs with fitted coefficients and pose; the base of the two datasets.

    A sample is a dict of `FaceBatch` fields without the batch axis: `image` (3,H,W) uint8 (a
    quarter of the memory; the device-side transform makes it float), `camera` (3,4), `coefficients`
    and `landmarks` (68,3) where they are known, `sample_id`.

    Attributes:
        sample_ids: names in the order of the samples.
        pose: (N,7) float32 `Pose_Para` as stored.
        camera: matrices (N,3,4), see `pose_cameras`.
        landmarks: (N,68,3) in the chosen pixel origin, or None.
    """

    def __init__(
        self,
        root: Path,
        index: PackedIndex,
        rows: NDArray[np.int64],
        morphable_model: MorphableModel | None,
        pixel_origin: str,
        landmarks: NDArray[np.float32] | None = None,
    ) -> None:
        self.root, self.index, self.row_of_sample = root, index, rows
        self.pixel_origin = pixel_origin
        self.sample_ids = [name.decode() for name in index.rows["name"][rows]]
        self.pose = torch.from_numpy(index.rows["pose"][rows])
        self.camera = pose_cameras(self.pose, pixel_origin)
        self.landmarks = None if landmarks is None else torch.from_numpy(landmarks)
        # Raw coefficients times these are standard deviations; a mode without spread has none.
        self._inverse_std: dict[str, NDArray[np.float32]] = {}
        if morphable_model is not None:
            stds = {
                "identity": morphable_model.identity_std,
                "expression": morphable_model.expression_std,
                "albedo": getattr(morphable_model, "albedo_std", None),
            }
            self._inverse_std = {
                name: _inverse(std.detach().cpu().numpy())
                for name, std in stds.items()
                if std is not None
            }

    def __len__(self) -> int:
        return len(self.row_of_sample)

    def image_path(self, item: int) -> Path:
        """Return the file of a sample's image."""
        return self.root / f"{self.sample_ids[item]}.jpg"

    def coefficients(self, items: Sequence[int]) -> dict[str, Tensor]:
        """Return coefficients (len(items), K) in standard deviations, by name."""
        rows = self.index.rows[self.row_of_sample[list(items)]]
        found = {}
        for name, inverse in self._inverse_std.items():
            raw = rows["texture" if name == "albedo" else name]
            used = min(raw.shape[1], len(inverse))
            values = torch.zeros(len(rows), len(inverse))
            values[:, :used] = torch.from_numpy(raw[:, :used] * inverse[:used])
            found[name] = values
        return found

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Read one face.

        Raises:
            ValueError: the image is truncated or of another size; names the file.
        """
        path = self.image_path(item)
        image = read_image(path)
        if image.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(
                f"{path}: annotations refer to {IMAGE_SIZE} x {IMAGE_SIZE} pixels, the image has "
                f"{image.shape[1]} x {image.shape[0]}. Do not resize the dataset's images."
            )
        sample: dict[str, Any] = {
            "image": torch.from_numpy(image).permute(2, 0, 1),
            "camera": self.camera.matrix[item],
            "sample_id": self.sample_ids[item],
        }
        if self._inverse_std:
            sample["coefficients"] = {k: v[0] for k, v in self.coefficients([item]).items()}
        if self.landmarks is not None:
            sample["landmarks"] = self.landmarks[item]
        return sample


def collate(samples: Sequence[Mapping[str, Any]]) -> FaceBatch:
    """Stack samples into a batch; the image stays uint8 until `FaceTransform` makes it float.

    Raises:
        ValueError: samples with different fields.
    """
    if len({frozenset(sample) for sample in samples}) != 1:
        raise ValueError(f"Samples of one batch have different fields: {[*map(sorted, samples)]}.")
    first = samples[0]
    fields: dict[str, Any] = {}
    for name, value in first.items():
        values = [sample[name] for sample in samples]
        if name == "image":
            fields[name] = _stack_images(values)
        elif isinstance(value, Mapping):
            fields[name] = {key: torch.stack([item[key] for item in values]) for key in value}
        else:
            fields[name] = torch.stack(values) if isinstance(value, Tensor) else values
    if "camera" in fields:
        fields["camera"] = AffineCamera(fields["camera"])
    return FaceBatch(**fields)


def _stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stack (3,H,W) views of (H,W,3) files without transposing them: a quarter of the time."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def check_model_fits(
    title: str,
    model: MorphableModel,
    coefficients: Mapping[str, Tensor],
    camera: AffineCamera,
    points: Tensor,
) -> None:
    """Compare the projected model with the dataset's own points; another model cannot agree.

    Only the 51 inner points count: the jaw of 2D annotations follows the visible contour.

    Args:
        title: the dataset, for the message.
        model: the model to check.
        coefficients: (B,K) by name.
        camera: in the same pixel origin as `points`.
        points: (B,68,2) the dataset's points.

    Raises:
        ValueError: the median distance is more than a tenth of the face.
    """
    device = model.mean.device
    with torch.no_grad():
        values = {name: value.to(device) for name, value in coefficients.items()}
        found = project_landmarks(model, values, camera.map(lambda t: t.to(device)))
        found = found[:, 17:, :2].to(points.device)
    wanted = points[:, 17:, :2]
    size = (wanted.amax(1) - wanted.amin(1)).prod(dim=1).sqrt()
    error = ((found - wanted).norm(dim=2).mean(1) / size).median().item()
    if not error < _MODEL_TOLERANCE:
        raise ValueError(
            f"{title}: the morphable model '{model.name}' does not fit the annotations: projected "
            f"landmarks are off by {100 * error:.0f} % of the face. The parameters belong to BFM "
            "2009 in face3d's layout (morphable_model=bfm), for a miniature to the model beside it."
        )


def find_model(title: str, root: Path) -> MorphableModel:
    """Load the BFM that lies in the dataset's folder or beside it.

    Raises:
        DatasetNotFoundError: there is none; without it the images have no usable truth.
    """
    for folder in (root, root / "BFM", root.parent, root.parent / "BFM"):
        try:
            find_bfm(folder)
        except FileNotFoundError:
            continue
        return load_bfm(folder)
    raise DatasetNotFoundError(
        f"{title} at {root}: no BFM.mat beside it. The annotations are coefficients of the Basel "
        "Face Model 2009; without the model they give no position maps and no landmarks. Set "
        "morphable_model=bfm and its root (see docs/data for how to make BFM.mat)."
    )


def checked_items(count: int) -> list[int]:
    """Return some evenly spaced sample numbers to check a model on."""
    return list(range(0, count, max(1, count // _MODEL_CHECKS)))


def _inverse(std: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.divide(1, std, out=np.zeros_like(std), where=std > 0)
