"""Build, cache and load the procedural head."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.io.files import atomic_write, cache_root
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.procedural import expression as expressions
from lit_face.morphable_models.procedural.albedo import AlbedoPainter, sample_albedo
from lit_face.morphable_models.procedural.albedo_windows import scalp_weight
from lit_face.morphable_models.procedural.detail import displacement_map
from lit_face.morphable_models.procedural.features import (
    build_material,
    ear_relief,
    iris_offset,
    neutral_head,
)
from lit_face.morphable_models.procedural.grid import build_grid
from lit_face.morphable_models.procedural.identity import IdentityDeformer, sample_identity
from lit_face.morphable_models.procedural.layout import (
    landmark_index,
    regions,
    uv_coordinates,
)
from lit_face.morphable_models.procedural.population import (
    Components,
    principal_components,
    project,
)
from lit_face.morphable_models.procedural.transfer import light_transfer

log = logging.getLogger(__name__)

# 29 expressions as in 300W-LP, so that its files can hold them.
IDENTITY_SIZE, EXPRESSION_SIZE, ALBEDO_SIZE, SPECULAR_SIZE = 60, 29, 50, 12
PEOPLE, PERFORMANCES = 600, 600
DETAIL_SIZE = 512
_ARRAYS = (
    "mean", "faces", "uv", "landmark_index", "identity_basis", "expression_basis", "identity_std",
    "expression_std", "albedo_mean", "albedo_basis", "specular_mean", "specular_basis",
)  # fmt: skip


def _digest() -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


_DIGEST = _digest()  # of the sources as imported, not as edited since


class ProceduralHead(MorphableModel):
    """The built-in head: a `MorphableModel` that also knows its mirror and its people.

    Attributes:
        mirror_index: (V,) left-right twin of each vertex.
        identity_bank, expression_bank, albedo_bank, specular_bank: (N,K) coefficients of the
            sampled population, rows of the first and last two belonging together.
        material: (V,2) azimuth (radians) and level t (mm) of each vertex, see `grid.py`.
        grid_shape: (2,) rows and columns; vertex (r, c) has index r * columns + c.
        ear_relief: (V,3) mm that the average ears stand out of the smooth head.
        iris_offset: (V,2) mm from the middle of the iris; far away outside of the eyeballs.
        light_transfer: (V,25) see `transfer.py`.
        expression_names: names of full expressions; `named_expression(name)` gives coefficients.
    """

    mirror_index: Tensor
    identity_bank: Tensor
    expression_bank: Tensor
    albedo_bank: Tensor
    specular_bank: Tensor
    expression_table: Tensor
    light_transfer: Tensor
    material: Tensor
    grid_shape: Tensor
    ear_relief: Tensor
    iris_offset: Tensor

    def __init__(self, arrays: ModelArrays, extra: Mapping[str, Tensor]) -> None:
        super().__init__(arrays, name="procedural")
        for name, value in extra.items():
            self.register_buffer(name, value, persistent=False)
        self.expression_names = tuple(expressions.NAMED)

    def named_expression(self, name: str) -> Tensor:
        """Return the coefficients (Ke,) of a full expression, 'smile' or 'eyes_closed' say."""
        if name not in self.expression_names:
            raise ValueError(
                f"no expression '{name}' in the procedural head; it has "
                f"{', '.join(self.expression_names)}."
            )
        return self.expression_table[self.expression_names.index(name)]

    def sample(self, count: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Draw plausible faces: normal identities, expressions and colours from the population.

        Expressions and colours are far from normal (eyes are open or closed, people fair or
        dark), so they are members of the sampled population plus a little noise.

        Args:
            count: how many.
            generator: on the model's device.

        Returns:
            identity, expression, albedo by name, (count,K) standard deviations.
        """
        device = self.mean.device
        identity = torch.randn(count, self.identity_size, generator=generator, device=device)
        out = {"identity": identity}
        for name, bank in (("expression", self.expression_bank), ("albedo", self.albedo_bank)):
            rows = torch.randint(len(bank), (count,), generator=generator, device=device)
            noise = torch.randn(count, bank.shape[1], generator=generator, device=device)
            out[name] = bank[rows] + 0.1 * noise
        return out


def procedural_head(
    cache_folder: Path | str | None = None, rebuild: bool = False
) -> ProceduralHead:
    """Return the built-in head; the first call builds it (seconds) and stores it.

    Args:
        cache_folder: where the .npz lies; default the environment's LIT_FACE_CACHE, else
            ~/.cache/lit_face. The file's name holds a digest of this package's sources.
        rebuild: build again even if stored.

    Raises:
        OSError: the folder cannot be written.
    """
    path = cache_root(cache_folder) / f"procedural_head-{_DIGEST}.npz"
    if rebuild or not path.is_file():
        log.info("Building the procedural head (once) into %s", path)
        with atomic_write(path) as temporary:
            np.savez(temporary, **_build())  # type: ignore[arg-type]
    with np.load(path, allow_pickle=False) as stored:
        data = {name: torch.from_numpy(stored[name]) for name in stored.files}
    arrays = ModelArrays(
        **{name: data.pop(name) for name in _ARRAYS},
        regions={k[7:]: data.pop(k) for k in list(data) if k.startswith("region_")},
        texture_detail={k[7:]: data.pop(k) for k in list(data) if k.startswith("detail_")},
    )
    return ProceduralHead(arrays, data)


def _build() -> dict[str, NDArray[np.generic]]:
    grid = build_grid()
    material = build_material(grid)
    neutral = neutral_head(material)
    mirror = grid.mirror_index
    rng = np.random.default_rng(20240611)
    people = IdentityDeformer(material, neutral)
    identity = principal_components(
        np.stack([people(sample_identity(rng)) for _ in range(PEOPLE)]),
        mirror, IDENTITY_SIZE, flip_x=True,
    )  # fmt: skip
    painter = AlbedoPainter(material, neutral)
    colours = [sample_albedo(rng) for _ in range(PEOPLE)]
    albedo = principal_components(
        np.stack([painter.diffuse(c) for c in colours]), mirror, ALBEDO_SIZE, flip_x=False
    )
    specular = principal_components(
        np.stack([painter.specular(c) for c in colours]), mirror, SPECULAR_SIZE, flip_x=False
    )
    perform = expressions.ExpressionDeformer(material, identity.mean.astype(np.float64))
    expression = principal_components(
        np.stack([perform(expressions.sample_expression(rng)) for _ in range(PERFORMANCES)]),
        mirror, EXPRESSION_SIZE, flip_x=True,
    )  # fmt: skip
    named = np.stack([perform(p) for p in expressions.NAMED.values()]) - expression.mean
    uv = uv_coordinates(material)
    out: dict[str, NDArray[np.generic]] = {
        # The zero expression is the population's mean expression.
        "mean": expression.mean,
        "faces": grid.faces(),
        "uv": uv.astype(np.float32),
        "landmark_index": landmark_index(grid, neutral),
        "mirror_index": mirror.astype(np.int64),
        "expression_table": project(named, expression.basis).astype(np.float32),
        "detail_displacement": displacement_map(material, uv, DETAIL_SIZE),
        "material": np.stack([grid.theta, grid.t], axis=1).astype(np.float32),
        "grid_shape": np.array([grid.rows, grid.columns]),
        "ear_relief": ear_relief(material).astype(np.float32),
        "iris_offset": iris_offset(material, neutral).astype(np.float32),
        "light_transfer": light_transfer(expression.mean, grid.faces()),
    }
    out.update(_component_arrays(identity, expression, albedo, specular))
    for name, value in regions(material, uv, scalp_weight(material)).items():
        out[f"region_{name}"] = value.astype(np.float32)
    return out


def _component_arrays(
    identity: Components, expression: Components, albedo: Components, specular: Components
) -> dict[str, NDArray[np.generic]]:
    out: dict[str, NDArray[np.generic]] = {
        "identity_std": identity.std,
        "expression_std": expression.std,
        "albedo_mean": albedo.mean,
        "specular_mean": specular.mean,
    }
    for name, part in (
        ("identity", identity), ("expression", expression), ("albedo", albedo),
        ("specular", specular),
    ):  # fmt: skip
        out[f"{name}_basis"] = part.basis
        out[f"{name}_bank"] = part.coefficients
        out[f"{name}_antisymmetric"] = part.antisymmetric
    return out
