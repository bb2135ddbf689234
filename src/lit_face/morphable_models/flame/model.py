"""FLAME in house units: mm, one texture coordinate a vertex, joints beside the rotation."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.io.files import cache_root
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.flame.files import (
    EXPRESSION_START,
    JOINTS,
    FlameArrays,
    find_model,
    read_flame,
)
from lit_face.morphable_models.flame.landmarks import Contour, LandmarkEmbedding
from lit_face.morphable_models.flame.regions import flame_regions
from lit_face.morphable_models.flame.side_files import (
    TEXTURE_NAME,
    check_embedding,
    find_embedding,
    find_layout,
    read_masks,
)
from lit_face.morphable_models.flame.skinning import skin
from lit_face.morphable_models.flame.writer import WRITER_VERSION, write_flame
from lit_face.morphable_models.procedural import procedural_head
from lit_face.morphable_models.texture_space import plain_texture_space, sample_texture
from lit_face.morphable_models.texture_space_files import read_texture_maps

_MM = 1000.0
_TEXTURE_SIZE = 256  # texels, for the colours of vertices
_PLAIN_COLOURS = 3


class Flame(MorphableModel):
    """FLAME as a `MorphableModel`.

    Equal to `layer.FlameLayer` times 1000: the origin is the file's. Vertices on seams of the
    texture are doubled.

    Args:
        arrays: linear part, in mm.
        rig: joint_mean (5,3) and joint_basis (5,3,K) mm, pose_basis (36,V*3) mm, skin_weights
            (V,5), origin (V,) the file's vertex of each.
        parents: of each joint.
        embedding: the landmarks.
        contour: see `landmarks.LandmarkEmbedding.contour`.
        name: with the edition: codes fitted with one mean nothing in another.
    """

    joint_names = JOINTS[1:]
    has_contour = True
    joint_mean: Tensor
    joint_basis: Tensor
    pose_basis: Tensor
    skin_weights: Tensor
    origin: Tensor

    def __init__(
        self,
        arrays: ModelArrays,
        rig: dict[str, Tensor],
        parents: tuple[int, ...],
        embedding: LandmarkEmbedding,
        contour: Contour,
        name: str,
    ) -> None:
        super().__init__(arrays, name)
        for key, value in rig.items():
            self.register_buffer(key, value, persistent=False)
        self.parents, self.embedding, self.contour = parents, embedding, contour

    @fp32_region()
    def forward(
        self,
        identity: Tensor,
        expression: Tensor,
        pose: Tensor | None = None,
        joints: Tensor | None = None,
    ) -> Tensor:
        """Return vertices (B,V,3) in head space, mm.

        Args:
            identity: (B,k), k <= identity_size, standard deviations.
            expression: (B,k) likewise.
            pose: (B,3,3) rotation about the head's origin (not FLAME's root joint: the camera's
                translation takes the difference).
            joints: (B,4,3) axis-angle of `joint_names`, radians; none leaves them at rest.
        """
        shaped = super().forward(identity, expression)
        if joints is not None:
            if joints.shape[1:] != (len(self.joint_names), 3):
                raise ValueError(
                    f"joints should be (B,{len(self.joint_names)},3) for "
                    f"{', '.join(self.joint_names)}; found {tuple(joints.shape)}."
                )
            root = joints.new_zeros(len(joints), 1, 3)
            rotations = axis_angle_to_matrix(torch.cat([root, joints], 1).float())
            rest = self.joints(identity, expression)
            shaped = skin(
                shaped, rest, rotations, self.parents, self.skin_weights, self.pose_basis
            ).vertices
        return shaped if pose is None else shaped @ pose.mT

    def joints(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Return the joints (B,5,3) of faces at rest, root first, mm."""
        size = self.identity_size
        parts = (self.joint_basis[..., :size], identity), (self.joint_basis[..., size:], expression)
        moved = sum(
            code.float() @ basis[..., : code.shape[1]].flatten(0, 1).mT for basis, code in parts
        )
        return self.joint_mean + torch.as_tensor(moved).view(-1, len(JOINTS), 3)

    @fp32_region()
    def landmarks(
        self, vertices: Tensor, rotation: Tensor | None = None, joints: Tensor | None = None
    ) -> Tensor:
        """Return the 68 iBUG points (B,68,3).

        Args:
            vertices: (B,V,3) in head space, or any image of it under an affine map.
            rotation: (B,3,3) head space to axes x right, y up, z to the viewer: the jaw points are
                then those of the contour seen from there. None: the fixed ones, ear to ear.
            joints: (B,4,3) as in `forward`; the neck turns the contour, too.
        """
        if rotation is None:
            return self.embedding.full(vertices)
        if joints is not None:
            rotation = rotation @ axis_angle_to_matrix(joints[:, 0].to(rotation))
        found: Tensor = self.embedding(vertices, rotation, self.contour)
        return found


def flame(
    root: str | Path | None = None,
    identity_size: int = 300,
    expression_size: int = 100,
    texture_components: int = 50,
    contour: Contour = "nearest",
) -> Flame:
    """Load FLAME from a folder of its files.

    Args:
        root: the folder, or the model's file in it. None writes the built-in head in FLAME's
            formats into the cache, once, and reads it with this reader.
        identity_size: leading identity components to keep; those that are 0 in the file from some
            column on (as the built-in head's) are left out.
        expression_size: likewise.
        texture_components: of FLAME_texture.npz, for colours of vertices; a plain skin colour
            where the file is missing.
        contour: 'nearest' row of the contour table, as the reference, or 'interpolate'.

    Raises:
        FileNotFoundError: names the missing file, where it was expected, the key and its source.
        ValueError: everything that is misshapen.
    """
    path = find_model(_miniature() if root is None else root)
    raw = read_flame(path)
    embedding = find_embedding(path.parent)
    check_embedding(embedding, len(raw.faces))
    uv, faces, origin = find_layout(path.parent, raw.faces, len(raw.template))
    masks = read_masks(path.parent, len(raw.template))
    full = LandmarkEmbedding(raw.faces, embedding).full(raw.template[None])[0]
    colours, colour_basis = vertex_colours(path.parent, uv, texture_components)
    identity = _columns(raw.shape_basis, 0, min(identity_size, EXPRESSION_START))
    expression = _columns(raw.shape_basis, EXPRESSION_START, expression_size)
    arrays = ModelArrays(
        mean=_MM * raw.template[origin],
        faces=faces,
        uv=uv,
        landmark_index=torch.cdist(full, raw.template[origin]).argmin(1),
        identity_basis=_MM * identity[origin],
        expression_basis=_MM * expression[origin],
        identity_std=torch.ones(identity.shape[2]),
        expression_std=torch.ones(expression.shape[2]),
        albedo_mean=colours,
        albedo_basis=colour_basis,
        regions=flame_regions(raw, masks, full, origin),
    )
    rig = _rig(raw, torch.cat([identity, expression], 2), origin)
    split = LandmarkEmbedding(faces, embedding)
    return Flame(arrays, rig, raw.parents, split, contour, f"flame-{raw.edition}")


def vertex_colours(folder: Path, uv: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Return albedo mean (V,3) and basis (V,3,K) of FLAME_texture.npz, or of a plain skin."""
    path = folder / TEXTURE_NAME
    if path.is_file():
        maps, glossy = read_texture_maps(path, _TEXTURE_SIZE, components)
        if glossy:
            raise ValueError(f"{path} is AlbedoMM's, in linear light: vertices need sRGB colours.")
    else:
        plain = plain_texture_space(8)
        maps = torch.cat([plain.mean[None], plain.basis[:_PLAIN_COLOURS]])
    values = sample_texture(maps, uv.expand(len(maps), -1, -1)).permute(2, 1, 0)
    return values[..., 0].contiguous(), values[..., 1:].contiguous()


def _rig(raw: FlameArrays, basis: Tensor, origin: Tensor) -> dict[str, Tensor]:
    regressor = raw.joint_regressor
    joint_basis = (regressor @ basis.flatten(1)).view(len(regressor), 3, -1)
    pose_basis = raw.pose_basis[origin].flatten(0, 1).mT
    return {
        "joint_mean": _MM * (regressor @ raw.template),
        "joint_basis": _MM * joint_basis,
        "pose_basis": _MM * pose_basis.contiguous(),
        "skin_weights": raw.weights[origin],
        "origin": origin,
    }


def _columns(basis: Tensor, start: int, count: int) -> Tensor:
    """Return up to `count` columns from `start`, without those at the end that are 0."""
    part = basis[..., start : start + count]
    used = part.abs().amax((0, 1)).nonzero()
    return part[..., : int(used.max()) + 1] if len(used) else part[..., :0]


def _miniature() -> Path:
    head = procedural_head()
    folder = cache_root() / f"flame-miniature-{WRITER_VERSION}-{model_digest(head)}"
    if not folder.is_dir():
        write_flame(head, folder)
    return folder
