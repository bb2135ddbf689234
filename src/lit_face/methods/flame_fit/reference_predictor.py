"""The released code's fit as a method, for comparison; `FlameFit` is the one to use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.methods.flame_fit import reference
from lit_face.methods.flame_fit.predictor import (
    FlameFit,
    Refined,
    check_inputs,
    errors,
    reconstruction,
)
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.texture_space import TextureSource

_MM = 1000.0


class ReferenceFit(FlameFit):
    """`reference.reference_fit` with a model of the house.

    Its colors are sRGB values times shading; a Reconstruction shades linear light, so its pictures
    are not those that the fit compared.

    Args:
        morphable_model: see `FlameFit`.
        texture_space: see `FlameFit`.
        image_size: side of the crops, pixels.
        margin: side of the crop over the size of the landmarks' box.
        components: of the texture.
        identity: leading identity coefficients; fewer where the model has fewer.
        expression: likewise.
        rigid_steps: on pose and camera.
        steps: on everything.
    """

    def __init__(
        self,
        morphable_model: MorphableModel,
        texture_space: TextureSource | None = None,
        image_size: int = 224,
        margin: float = 2.0,
        components: int | None = 50,
        identity: int = 100,
        expression: int = 50,
        rigid_steps: int = 200,
        steps: int = 800,
    ) -> None:
        super().__init__(
            morphable_model,
            texture_space,
            image_size,
            margin,
            components,
            follow_contour=morphable_model.has_contour,
        )
        self.sizes = (
            min(identity, morphable_model.identity_size),
            min(expression, morphable_model.expression_size),
            self.textures.components,
        )
        self.rigid_steps, self.steps = rigid_steps, steps

    @fp32_region()
    def refine(
        self,
        images: Tensor,
        landmarks: Tensor,
        refinement: object = None,
        are_detected: bool = True,
        skin_mask: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> Refined:
        """Fit crops; see `FlameFit.refine`. Confidences do not count."""
        check_inputs(images, landmarks, skin_mask)
        photos = self._photos(images, landmarks, skin_mask, None)
        shape, head = ModelShape(self.model), self.head(skin_mask is None)
        surface = reference.Surface(self.model.faces, self.model.uv[self.model.faces])
        steps = (self.rigid_steps, self.steps)
        fits = [
            reference.reference_fit(
                shape, surface, self.textures, self.sizes,
                photos.image, photos.mask, photos.landmarks, *part,
            )
            for part in ((self.rigid_steps, 0), steps)
        ]  # fmt: skip
        before, after = (
            errors(head, photos, shape.house_values(fit.values), in_srgb=True) for fit in fits
        )
        after["failed"] = (~fits[1].terms["total"].isfinite().all(1)).to(images)
        values = shape.house_values(fits[1].values)
        face = reconstruction(head, values, images.shape[-1])
        return Refined(face, before, after, fits[1].terms)


class ModelShape:
    """A house model as FLAME's function: metres, turned about the root joint where it has one."""

    def __init__(self, model: MorphableModel) -> None:
        self.model = model

    def __call__(self, identity: Tensor, expression: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Return vertices and landmarks, metres, model space."""
        joints = self._joints(pose)
        at_rest = self.model(identity, expression, joints=joints) / _MM
        rotation, root = axis_angle_to_matrix(pose[:, :3]), self._root(identity, expression)
        vertices = (at_rest - root) @ rotation.mT + root
        return vertices, self.model.landmarks(vertices, rotation)

    def house_values(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what `scene` takes: the camera then has the root joint's shift in it."""
        pose, camera = values["pose"], values["camera"]
        rotation = axis_angle_to_matrix(pose[:, :3])
        root = self._root(values["identity"], values["expression"])
        shift = (root - root @ rotation.mT)[:, 0, :2] + camera[:, 1:]
        place = camera[:, :1] * shift * shift.new_tensor([1.0, -1.0])
        scale = (camera[:, :1] / _MM).log()
        names = ("identity", "expression", "texture", "light")
        joints = self._joints(pose)
        if joints is None:
            joints = pose.new_zeros(len(pose), 0, 3)
        return {name: values[name] for name in names} | {
            "rotation": pose[:, :3],
            "joints": joints,
            "camera": torch.cat([scale, place], 1),
        }

    def _joints(self, pose: Tensor) -> Tensor | None:
        names: Sequence[str] = self.model.joint_names
        if "jaw" not in names:
            return None
        rows = [pose[:, 3:] if name == "jaw" else torch.zeros_like(pose[:, 3:]) for name in names]
        return torch.stack(rows, 1)

    def _root(self, identity: Tensor, expression: Tensor) -> Tensor:
        find = getattr(self.model, "joints", None)
        if find is None:
            return identity.new_zeros(len(identity), 1, 3)
        root: Tensor = find(identity, expression)[:, :1] / _MM
        return root
