"""The interface of every statistical head model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(eq=False)
class ModelArrays:
    """The content of a linear head model in house units, from a loader to `MorphableModel`.

    Attributes:
        mean: (V,3) float32, head space, mm.
        faces: (F,3) int64, counter-clockwise seen from outside.
        uv: (V,2) in [0,1], u right, v up; one coordinate a vertex.
        landmark_index: (68,) int64 vertices of the iBUG points.
        identity_basis: (V,3,Ki) mm a standard deviation.
        expression_basis: (V,3,Ke) mm a standard deviation.
        identity_std: (Ki,) standard deviations in the file's own units: raw = coefficient * std.
        expression_std: (Ke,) likewise.
        albedo_mean: (V,3) diffuse albedo, sRGB values in [0,1].
        albedo_basis: (V,3,Ka) a standard deviation.
        specular_mean: (V,1), specular_basis: (V,1,Ks), where the model has them.
        regions: name -> (V,) float in [0,1]; at least 'face' (what a position map covers: no neck,
            ears or skull) and, where known, 'eyes', 'nose', 'mouth', 'skin'.
        texture_detail: name -> (C,S,S) UV maps the model ships (fine displacement, for example).
        closing_faces: (G,3) int64 faces that close eyes and mouth in UV maps; never rendered.
    """

    mean: Tensor
    faces: Tensor
    uv: Tensor
    landmark_index: Tensor
    identity_basis: Tensor
    expression_basis: Tensor
    identity_std: Tensor
    expression_std: Tensor
    albedo_mean: Tensor
    albedo_basis: Tensor
    specular_mean: Tensor | None = None
    specular_basis: Tensor | None = None
    regions: Mapping[str, Tensor] = field(default_factory=dict)
    texture_detail: Mapping[str, Tensor] = field(default_factory=dict)
    closing_faces: Tensor | None = None


class MorphableModel(nn.Module):
    """A linear head model: coefficients (in standard deviations) to vertices in mm and to albedo.

    Everything is a non-persistent buffer: never in a checkpoint, never averaged.

    Attributes:
        joint_names: joints inside the head that turn (FLAME's neck, jaw, eyes); most have none.
        has_contour: whether `landmarks` puts jaw points on the visible contour, given a rotation.
    """

    unit = "mm"
    joint_names: tuple[str, ...] = ()
    has_contour = False
    mean: Tensor
    faces: Tensor
    uv: Tensor
    landmark_index: Tensor
    identity_basis: Tensor
    expression_basis: Tensor
    identity_std: Tensor
    expression_std: Tensor
    albedo_mean: Tensor
    albedo_basis: Tensor
    specular_mean: Tensor | None
    specular_basis: Tensor | None
    closing_faces: Tensor | None

    def __init__(self, arrays: ModelArrays, name: str) -> None:
        super().__init__()
        self.name = name
        for key, value in vars(arrays).items():
            if isinstance(value, Tensor) or value is None:
                self.register_buffer(key, value, persistent=False)
        self._region_names = tuple(arrays.regions)
        for key, value in arrays.regions.items():
            self.register_buffer(f"region_{key}", value, persistent=False)
        self._detail_names = tuple(arrays.texture_detail)
        for key, value in arrays.texture_detail.items():
            self.register_buffer(f"detail_{key}", value, persistent=False)

    @property
    def identity_size(self) -> int:
        """Number of identity coefficients."""
        return self.identity_basis.shape[2]

    @property
    def expression_size(self) -> int:
        """Number of expression coefficients."""
        return self.expression_basis.shape[2]

    @property
    def albedo_size(self) -> int:
        """Number of diffuse albedo coefficients."""
        return self.albedo_basis.shape[2]

    @property
    def map_faces(self) -> Tensor:
        """Faces of UV maps: those that close eyes and mouth, then those of the mesh.

        Where faces overlap in UV the first one has the texel; sockets lie behind what closes them.
        """
        closing = self.closing_faces
        return self.faces if closing is None else torch.cat([closing, self.faces])

    @property
    def regions(self) -> dict[str, Tensor]:
        """Region weights (V,) in [0,1] by name."""
        return {name: getattr(self, f"region_{name}") for name in self._region_names}

    @property
    def texture_detail(self) -> dict[str, Tensor]:
        """UV maps (C,S,S) that the model ships, by name."""
        return {name: getattr(self, f"detail_{name}") for name in self._detail_names}

    def forward(
        self,
        identity: Tensor,
        expression: Tensor,
        pose: Tensor | None = None,
        joints: Tensor | None = None,
    ) -> Tensor:
        """Return vertices (B,V,3) in head space, mm.

        Args:
            identity: (B,Ki) standard deviations; fewer than Ki are the leading ones.
            expression: (B,Ke) likewise.
            pose: (B,3,3) rotation about the head's origin; none leaves the head upright.
            joints: (B,J,3) axis-angle of `joint_names`, radians; none leaves them at rest.

        Raises:
            ValueError: joints for a model that has none.
        """
        if joints is not None and joints.shape[1]:
            raise ValueError(f"The model '{self.name}' has no joints; found {tuple(joints.shape)}.")
        identity, expression = identity.float(), expression.float()
        offsets = identity @ _rows(self.identity_basis, identity.shape[1])
        offsets = offsets + expression @ _rows(self.expression_basis, expression.shape[1])
        vertices = self.mean + offsets.view(-1, *self.mean.shape)
        return vertices if pose is None else vertices @ pose.mT

    def albedo(self, coefficients: Tensor) -> Tensor:
        """Return diffuse albedo (B,V,3), sRGB values, not clipped, for coefficients (B,Ka)."""
        coefficients = coefficients.float()
        offsets = coefficients @ _rows(self.albedo_basis, coefficients.shape[1])
        return self.albedo_mean + offsets.view(-1, *self.albedo_mean.shape)

    def landmarks(self, vertices: Tensor, rotation: Tensor | None = None) -> Tensor:
        """Pick the 68 iBUG points (B,68,3) from vertices (B,V,3).

        Args:
            vertices: in head space, or any image of it under an affine map.
            rotation: (B,3,3) head space to axes x right of the face's left, y up, z to the viewer;
                models with `has_contour` put the jaw points on the contour seen from there.
        """
        return vertices[:, self.landmark_index]

    def sample(self, count: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Draw `count` faces: normal coefficients (count,K) of identity, expression and albedo."""
        device = self.mean.device
        sizes = {
            "identity": self.identity_size,
            "expression": self.expression_size,
            "albedo": self.albedo_size,
        }
        return {
            name: torch.randn(count, size, generator=generator, device=device)
            for name, size in sizes.items()
        }


def _rows(basis: Tensor, count: int) -> Tensor:
    """View a basis (V,C,K) as (count, V*C) for one matrix product."""
    return basis[..., :count].flatten(0, 1).mT
