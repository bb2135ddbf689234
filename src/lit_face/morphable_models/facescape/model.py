"""FaceScape's bilinear model as a `MorphableModel`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.geometry.precision import fp32_region
from lit_face.io.files import cache_root
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.facescape.bilinear import Bilinear, read_bilinear
from lit_face.morphable_models.facescape.release16 import read_bilinear16
from lit_face.morphable_models.facescape.writer import WRITER_VERSION, write_bilinear
from lit_face.morphable_models.procedural import procedural_head

EXPRESSION_STD = 1 / 3  # a coefficient of 3 is an expression at its full weight of 1
_SKIN = (0.78, 0.60, 0.51)  # sRGB
_TINT = 0.06  # a standard deviation of brightness


class FaceScape(MorphableModel):
    """The bilinear model: each person smiles in their own way.

    `identity` counts standard deviations of the population, `expression` thirds of the full
    expressions 1, 2, ...; vertices at seams of the texture are doubled. The bases of the linear
    interface are those of the average person.

    Args:
        arrays: linear part, mm.
        bilinear: the model in the file's own topology.
        origin: (V,) the file's vertex of each.
    """

    core: Tensor
    id_mean: Tensor
    id_std: Tensor
    origin: Tensor

    def __init__(self, arrays: ModelArrays, bilinear: Bilinear, origin: Tensor) -> None:
        super().__init__(arrays, bilinear.name)
        self.bilinear = bilinear
        self.register_buffer("core", bilinear.core, persistent=False)
        self.register_buffer("id_mean", bilinear.id_mean, persistent=False)
        self.register_buffer("id_std", bilinear.id_var.sqrt(), persistent=False)
        self.register_buffer("origin", origin, persistent=False)

    @fp32_region()
    def forward(
        self,
        identity: Tensor,
        expression: Tensor,
        pose: Tensor | None = None,
        joints: Tensor | None = None,
    ) -> Tensor:
        """Return vertices (B,V,3) in head space, mm; see `MorphableModel.forward`."""
        if joints is not None and joints.shape[1]:
            raise ValueError(f"The model '{self.name}' has no joints; found {tuple(joints.shape)}.")
        spare = self.identity_size - identity.shape[1]
        person = self.id_mean + functional.pad(identity.float(), (0, spare)) * self.id_std
        weights = expression.float() * self.expression_std[: expression.shape[1]]
        core = self.core[:, : 1 + weights.shape[1]]
        by_person = torch.einsum("nei,bi->bne", core, person)
        found = (by_person @ functional.pad(weights, (1, 0), value=1.0)[:, :, None])[..., 0]
        vertices = found.view(len(person), -1, 3)[:, self.origin]
        return vertices if pose is None else vertices @ pose.mT


def facescape(root: str | Path | None = None) -> FaceScape:
    """Load FaceScape's bilinear model.

    Args:
        root: folder with core_*.npy, factor_*.json and 1_neutral.obj (v1.0), or a file
            facescape_bm_v1.6_*.npz or its folder. None writes the built-in head's face in v1.0's
            formats into the cache, once, and reads it with this reader.

    Raises:
        FileNotFoundError, ValueError: what is missing or does not fit, by file and key.
    """
    return as_morphable_model(load_bilinear(root))


def load_bilinear(root: str | Path | None = None) -> Bilinear:
    """Load the bilinear model alone; see `facescape`."""
    path = _built_in() if root is None else Path(root).expanduser()
    if path.is_dir() and not list(path.glob("core_*.npy")):
        released = sorted(path.glob("facescape_bm_v1.6_*.npz"))
        if released:
            preferred = [file for file in released if file.stem.endswith("id_front")]
            path = (preferred or released)[0]
    return read_bilinear16(path) if path.suffix == ".npz" else read_bilinear(path)


def as_morphable_model(bilinear: Bilinear) -> FaceScape:
    """Dress a bilinear model in the house's interface."""
    pairs = torch.stack([bilinear.faces.flatten(), bilinear.faces_uv.flatten()], dim=1)
    unique, inverse = torch.unique(pairs, dim=0, return_inverse=True)
    origin = unique[:, 0]
    uv = bilinear.uv[unique[:, 1]].clamp(0, 1)
    rows = (3 * origin[:, None] + torch.arange(3)).flatten()
    std = bilinear.id_var.sqrt()
    neutral = bilinear.core[:, 0]
    mean = (neutral @ bilinear.id_mean)[rows].view(-1, 3)
    identity = (neutral * std)[rows].view(len(origin), 3, -1)
    offsets = bilinear.core[:, 1:] @ bilinear.id_mean
    expression = (EXPRESSION_STD * offsets)[rows].view(len(origin), 3, -1)
    skin = torch.tensor(_SKIN).expand(len(origin), 3).contiguous()
    marks = (origin[None] == bilinear.landmark_index[:, None]).int()
    if not marks.any(1).all():
        raise ValueError(f"{bilinear.name}: some landmarks are at vertices that no face uses.")
    arrays = ModelArrays(
        mean=mean,
        faces=inverse.view(-1, 3),
        uv=uv,
        landmark_index=marks.argmax(1),
        identity_basis=identity.contiguous(),
        expression_basis=expression.contiguous(),
        identity_std=std,
        expression_std=torch.full((expression.shape[2],), EXPRESSION_STD),
        albedo_mean=skin,
        albedo_basis=torch.full((len(origin), 3, 1), _TINT),
        regions={"face": _face(bilinear, uv)},
    )
    return FaceScape(arrays, bilinear, origin)


def _face(bilinear: Bilinear, uv: Tensor) -> Tensor:
    """Return the face's region (V,): the mask, or everything."""
    mask = bilinear.mask
    if mask is None:
        return torch.ones(len(uv))
    place = (uv * len(mask)).long().clamp(0, len(mask) - 1)
    return mask[len(mask) - 1 - place[:, 1], place[:, 0]].float()


def _built_in() -> Path:
    head = procedural_head()
    folder = cache_root() / f"facescape-miniature-{WRITER_VERSION}-{model_digest(head)}"
    if not folder.is_dir():
        write_bilinear(head, folder)
    return folder
