"""What the pictures of the miniatures really show. For evaluation only: no training reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lit_face.data.fit_parameters import MINIATURE_MARKER
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.precision import fp32_region
from lit_face.metrics.skin_tone import tone_group, typology_angle_deg
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.procedural import procedural_head
from lit_face.rendering.color import srgb_to_linear

_SAME_PX, _SAME_TONE_DEG = 0.05, 0.1
_NAMES = ("identity", "expression", "albedo", "specular", "camera", "light", "person")


@dataclass(frozen=True, eq=False)
class TrueFaces:
    """The truth about some pictures.

    Attributes:
        vertices: (B,V,3) head space, mm.
        diffuse: (B,V,3) albedo, linear.
        specular: (B,V,1) intensity in [0,1]; its unit is the procedural renderer's.
        light: (B,25,3) radiance, camera frame, linear.
        camera: head space to pixels of the stored picture.
        person: (B,) int64.
        tone_deg: (B,) individual typology angle of the skin, degrees.
    """

    vertices: Tensor
    diffuse: Tensor
    specular: Tensor
    light: Tensor
    camera: AffineCamera
    person: Tensor
    tone_deg: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy with `function` applied to every tensor."""
        values: dict[str, Any] = {
            name: function(value) if isinstance(value, Tensor) else value.map(function)
            for name, value in vars(self).items()
        }
        return replace(self, **values)

    @property
    def tones(self) -> list[str]:
        """Skin tone groups (`lit_face.metrics.skin_tone`)."""
        return [tone_group(angle) for angle in self.tone_deg.tolist()]


def has_truth(root: Path) -> bool:
    """Whether a dataset's folder is the miniature with its truth."""
    return (root / "truth").is_dir() and (root / MINIATURE_MARKER).is_file()


class FFHQTruth:
    """Reads `truth/<name>.npz` of the miniatures of FFHQ and CelebA.

    Args:
        root: of a miniature.

    Raises:
        ValueError: it was written with another head than this version has.

    Attributes:
        model: whose coefficients the truth is; the truth comes on its device.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model: MorphableModel = procedural_head()
        self._check_model()

    @property
    def skin(self) -> Tensor:
        """(V,) in [0,1]: skin of the face without brows, lips and eyes."""
        return face_skin(self.model)

    def camera(self, name: str) -> Tensor:
        """Return the camera (3,4) of a picture, in pixels of the stored picture."""
        with np.load(self._file(name)) as stored:
            return torch.from_numpy(stored["camera"])

    @fp32_region()
    @torch.no_grad()
    def read(self, names: Sequence[str]) -> TrueFaces:
        """Return the truth about pictures by their names (`FFHQDataset.sample_ids`).

        Raises:
            FileNotFoundError: a picture has none.
        """
        rows = []
        for name in names:
            with np.load(self._file(name)) as stored:
                rows.append({key: torch.from_numpy(stored[key]) for key in _NAMES})
        model = self.model
        device = model.mean.device
        values = {key: torch.stack([row[key] for row in rows]).to(device) for key in _NAMES}
        diffuse = srgb_to_linear(model.albedo(values["albedo"]).clamp(0.01, 1))
        return TrueFaces(
            vertices=model(values["identity"], values["expression"]),
            diffuse=diffuse,
            specular=_specular(model, values["specular"]),
            light=values["light"],
            camera=AffineCamera(values["camera"]),
            person=values["person"],
            tone_deg=typology_angle_deg(diffuse, self.skin),
        )

    def _check_model(self) -> None:
        """Compare landmarks and skin tone of one picture; builds of one head differ by rounding."""
        name = min(path.stem for path in (self.root / "truth").glob("*.npz"))
        true = self.read([name])
        points = true.camera.project(self.model.landmarks(true.vertices))[0, :, :2]
        with np.load(self._file(name)) as facts:
            tone = float(facts["tone_deg"])
            stored = facts.get("landmarks")
        if stored is None:  # FFHQ's files of landmarks are as precise
            stored = np.load(self.root / "landmarks" / f"{name}.npy", allow_pickle=False)
        off_px = (points.double().cpu() - torch.from_numpy(stored)).abs().max().item()
        if not (off_px < _SAME_PX and abs(tone - true.tone_deg.item()) < _SAME_TONE_DEG):
            raise ValueError(
                f"{self.root} was written with another procedural head than this version's; "
                "remove the folder and it is written anew."
            )

    def _file(self, name: str) -> Path:
        return self.root / "truth" / f"{Path(name).stem}.npz"


def face_skin(model: MorphableModel) -> Tensor:
    """Return weights (V,) of the face's bare skin; all of the face where a model says no more."""
    regions = model.regions
    weight = regions["face"] * regions.get("skin", torch.ones_like(regions["face"]))
    for name in ("brows", "lips", "eyeballs", "mouth_interior"):
        if name in regions:
            weight = weight * (1 - regions[name])
    return weight


def _specular(model: MorphableModel, coefficients: Tensor) -> Tensor:
    if model.specular_mean is None or model.specular_basis is None:
        raise ValueError(f"The model '{model.name}' has no specular albedo.")
    basis = model.specular_basis[:, 0, : coefficients.shape[1]]
    return (model.specular_mean + (coefficients @ basis.mT)[..., None]).clamp(0, 1)
