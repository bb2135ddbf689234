"""Build, cache and load ICT-FaceKit as a `MorphableModel`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_face.io.files import atomic_write, cache_root
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.correspondence import SurfacePoints
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.ict_facekit import layout, skin
from lit_face.morphable_models.ict_facekit.expressions import sample_expressions
from lit_face.morphable_models.ict_facekit.files import ICTArrays, read_npz
from lit_face.morphable_models.ict_obj import find_obj_folder, packed
from lit_face.morphable_models.procedural import ProceduralHead, procedural_head
from lit_face.morphable_models.procedural.transfer import light_transfer

log = logging.getLogger(__name__)

MILLIMETRES = 10.0
WEIGHT_STD = 1 / 3  # a coefficient of 3 is a shape at its full weight of 1
EXPRESSIONS = 3000


class ICTFaceKit(MorphableModel):
    """ICT-FaceKit Light: skin, mouth, teeth and eyeballs, with the procedural head's albedo.

    Identity coefficients are the release's own; expression coefficients are shape weights divided
    by 1/3 (0 neutral, 3 full). What pictures need beyond a mesh comes from the procedural head.

    Attributes:
        expression_names: 53 names, the release's order.
        expression_bank: (N,53), albedo_bank: (N,K) populations to draw from.
        light_transfer: (V,25) see `procedural.transfer`.
        iris_offset: (V,2) mm from the middle of the iris, far away off the eyeballs.
        grid: the procedural head, whose grid carries hair and clothes.
        grid_on_model: where the vertices of that head lie on this model.
    """

    expression_bank: Tensor
    albedo_bank: Tensor
    light_transfer: Tensor
    iris_offset: Tensor
    grid_vertex_index: Tensor
    grid_weights: Tensor

    def __init__(
        self, arrays: ModelArrays, extra: Mapping[str, Tensor], names: tuple[str, ...],
        grid: ProceduralHead,
    ) -> None:  # fmt: skip
        super().__init__(arrays, name="ict_facekit")
        for name, value in extra.items():
            self.register_buffer(name, value, persistent=False)
        self.expression_names = names
        self.grid = grid

    @property
    def grid_on_model(self) -> SurfacePoints:
        """Where the vertices of `grid` lie on this model."""
        distance = torch.zeros_like(self.grid_weights[:, 0])
        return SurfacePoints(self.grid_vertex_index, self.grid_weights, distance)

    def sample(self, count: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Draw identities from the normal distribution; expressions, colours from populations."""
        device = self.mean.device
        identity = torch.randn(count, self.identity_size, generator=generator, device=device)
        drawn = {"identity": identity}
        for name, bank in (("expression", self.expression_bank), ("albedo", self.albedo_bank)):
            rows = torch.randint(len(bank), (count,), generator=generator, device=device)
            drawn[name] = bank[rows]
        return drawn


def ict_facekit(root: str | Path | None = None, rebuild: bool = False) -> ICTFaceKit:
    """Load ICT-FaceKit; the first call adds albedo, UV and regions (a minute) and stores them.

    Args:
        root: the released folder of OBJ files (FaceXModel, or the repository that holds it), which
            is packed once into the cache; or `ict_facekit.npz` or the folder that holds it.
        rebuild: build again even if stored.

    Raises:
        FileNotFoundError: no root given or nothing there; says where to get it.
        ValueError: the file is damaged or of another kind.
    """
    if root is None:
        raise FileNotFoundError(
            "morphable_model=ict_facekit needs the model's file: get it (MIT licence) from the "
            "public repository ICT-VGL/ICT-FaceKit, then give morphable_model.root=FOLDER or set "
            "LIT_FACE_ICT_FACEKIT."
        )
    folder = find_obj_folder(root)
    released = read_npz(root if folder is None else packed(folder))
    head = procedural_head()
    path = cache_root() / f"ict_facekit-{_digest(released, head)}.npz"
    if rebuild or not path.is_file():
        log.info("Preparing ICT-FaceKit (once) into %s", path)
        with atomic_write(path) as temporary:
            np.savez(temporary, **_build(released, head))  # type: ignore[arg-type]
    with np.load(path, allow_pickle=False) as stored:
        data = {name: torch.from_numpy(stored[name]) for name in stored.files}
    regions = {name[7:]: data.pop(name) for name in list(data) if name.startswith("region_")}
    closing = data.pop("closing_faces")
    count = slice(layout.VERTICES)
    arrays = ModelArrays(
        mean=torch.from_numpy(released.neutral[count] * np.float32(MILLIMETRES)),
        faces=torch.from_numpy(released.faces[: layout.FACES]).long(),
        uv=data.pop("uv"),
        landmark_index=torch.from_numpy(released.landmarks68).long(),
        identity_basis=_basis(released.identity_deltas[:, count], MILLIMETRES),
        expression_basis=_basis(released.expression_deltas[:, count], MILLIMETRES * WEIGHT_STD),
        identity_std=torch.ones(len(released.identity_deltas)),
        expression_std=torch.full((len(released.expression_deltas),), WEIGHT_STD),
        albedo_mean=data.pop("albedo_mean"),
        albedo_basis=data.pop("albedo_basis"),
        specular_mean=data.pop("specular_mean"),
        specular_basis=data.pop("specular_basis"),
        regions=regions,
        closing_faces=closing,
    )
    data["albedo_bank"] = head.albedo_bank
    return ICTFaceKit(arrays, data, released.expression_names, head)


def _basis(deltas: np.ndarray, factor: float) -> Tensor:
    return torch.from_numpy(deltas).permute(1, 2, 0).float().mul_(factor).contiguous()


def _digest(released: ICTArrays, head: ProceduralHead) -> str:
    digest = hashlib.sha256(model_digest(head).encode())
    folder = Path(__file__).parent
    for source in (*sorted(folder.glob("*.py")), folder.parent / "correspondence.py"):
        digest.update(source.read_bytes())
    digest.update(released.neutral.tobytes())
    return digest.hexdigest()[:12]


def _build(released: ICTArrays, head: ProceduralHead) -> dict[str, np.ndarray]:
    mean = torch.from_numpy(released.neutral[: layout.VERTICES] * np.float32(MILLIMETRES))
    faces = torch.from_numpy(released.faces[: layout.FACES]).long()
    marks = torch.from_numpy(released.landmarks68).long()
    closing = layout.closing_faces(released.neutral, released.faces)
    on_head = skin.model_on_head(head, mean, faces, marks)
    on_model = skin.grid_on_model(head, mean, faces, marks)
    iris = skin.iris_offsets(mean)
    inside, color = skin.inside_colors(len(mean))

    def carried(values: Tensor) -> Tensor:
        """Carry (V,C,K) values over: skin by place, eyes by distance to the iris."""
        flat = on_head.carry(values.flatten(1)).view(-1, *values.shape[1:])
        return skin.paint(flat, values, head, iris)

    albedo = carried(head.albedo_mean[..., None])[..., 0]
    albedo_basis = carried(head.albedo_basis)
    specular_mean, specular_basis = head.specular_mean, head.specular_basis
    if specular_mean is None or specular_basis is None:
        raise ValueError("the procedural head has lost its specular albedo.")
    specular = carried(specular_mean[..., None])[..., 0]
    specular_spread = carried(specular_basis)
    albedo[inside], specular[inside] = color[inside], 0.3
    albedo_basis[inside], specular_spread[inside] = 0.0, 0.0
    out = {
        "uv": torch.from_numpy(layout.uv_coordinates(released, closing)).float(),
        "closing_faces": torch.from_numpy(closing.astype(np.int64)),
        "albedo_mean": albedo,
        "albedo_basis": albedo_basis,
        "specular_mean": specular,
        "specular_basis": specular_spread,
        "iris_offset": iris,
        "grid_vertex_index": on_model.vertex_index,
        "grid_weights": on_model.weights,
        "light_transfer": torch.from_numpy(light_transfer(mean.numpy(), faces.numpy())),
    }
    regions = layout.regions(mean.numpy(), released.landmarks68)
    for name, value in regions.items():
        out[f"region_{name}"] = torch.from_numpy(value).float()
    skin_part = out["region_skin"]
    for name in ("scalp", "ears", "neck", "brows", "lips"):
        out[f"region_{name}"] = on_head.carry(head.regions[name][:, None])[:, 0] * skin_part
    weights = sample_expressions(released.expression_names, EXPRESSIONS)
    out["expression_bank"] = torch.from_numpy(weights / WEIGHT_STD).float()
    return {name: value.numpy() for name, value in out.items()}
