"""What flows through the house: `FaceBatch` into every method, `Reconstruction` out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera

Camera = AffineCamera | PerspectiveCamera
FieldType = TypeVar("FieldType")


def required(value: FieldType | None, field_name: str, consumer: str) -> FieldType:
    """Return an optional field that its consumer cannot do without.

    Args:
        value: of the field.
        field_name: of `FaceBatch` or `Reconstruction`.
        consumer: who needs it, for the message.

    Raises:
        ValueError: the field is absent; names the field and the consumer.
    """
    if value is None:
        raise ValueError(
            f"{consumer} needs the field '{field_name}', which this batch does not have; choose "
            "data that provides it."
        )
    return value


def _map_tensors(value: Any, function: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, AffineCamera | PerspectiveCamera):
        return value.map(function)
    if isinstance(value, Mapping):
        return {key: _map_tensors(item, function) for key, item in value.items()}
    return value


class _TensorFields:
    """Moves every tensor of a dataclass; text and units stay."""

    def map(self, function: Any) -> Self:
        """Apply `function` to every tensor, in nested dicts and cameras too."""
        changes = {f.name: _map_tensors(getattr(self, f.name), function) for f in fields(self)}  # type: ignore[arg-type]
        return replace(self, **changes)  # type: ignore[type-var]

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Return a copy with every tensor moved, as `Tensor.to` does."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> Self:
        """Return a copy in page-locked memory (the data loader calls this)."""
        return self.map(lambda tensor: tensor.pin_memory())


@dataclass
class FaceBatch(_TensorFields):
    """One batch of faces. Every field but `image` is optional.

    Attributes:
        image: (B,3,H,W) RGB in [0,1], sRGB as stored in files; with views (B,N,3,H,W).
        landmarks: (B,68,3) iBUG order, pixels of `image`; z in the same scale, smaller = nearer.
        position_map: (B,3,S,S) UV map of image-space points (see `lit_face.methods.prn`).
        skin_mask: (B,1,H,W) in [0,1], 1 = skin.
        coefficients: `identity` (B,Ki), `expression` (B,Ke) and, where known, `albedo` (B,Ka),
            all in standard deviations of the morphable model.
        camera: head space (mm) to pixels of `image`.
        scan: name -> tensor of what is known of the true surface: points in mm, `texture` maps.
        sample_id: B names, unique within the dataset.
        random_key: (B,) int64 for `lit_face.data.random`: the sample's random numbers this epoch.
        person: (B,) int64 number of the person; pictures of one person share it.
        uv_maps: maps of a base mesh, world frame of the cameras, mm: `position` and `normal`
            (B,3,S,S), `mask` (B,1,S,S) and, for each view, `visibility` (B,N,S,S) in [0,1].
    """

    image: Tensor
    landmarks: Tensor | None = None
    position_map: Tensor | None = None
    skin_mask: Tensor | None = None
    coefficients: dict[str, Tensor] | None = None
    camera: Camera | None = None
    scan: dict[str, Tensor] | None = None
    sample_id: list[str] = field(default_factory=list)
    random_key: Tensor | None = None
    person: Tensor | None = None
    uv_maps: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return self.image.shape[0]

    def validate(self, dataset: str = "batch") -> None:
        """Check shapes, dtypes, ranges and finiteness of every field that is present.

        Raises:
            ValueError: names the dataset, sample, field, what was expected and what was found.
        """
        size = len(self)
        if self.image.ndim not in (4, 5) or self.image.shape[-3] != 3:
            self._fail(dataset, "image", "(B,3,H,W) or (B,N,3,H,W)", tuple(self.image.shape))
        if not self.image.is_floating_point():
            self._fail(dataset, "image", "a float dtype", self.image.dtype)
        low, high = self.image.amin().item(), self.image.amax().item()
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            self._fail(dataset, "image", "values in [0, 1]", f"[{low:.3g}, {high:.3g}]")
        expected = {"landmarks": (68, 3), "position_map": (3,), "skin_mask": (1,)}
        for name, tail in expected.items():
            value = getattr(self, name)
            if value is None:
                continue
            if value.shape[0] != size or tuple(value.shape[1 : 1 + len(tail)]) != tail:
                self._fail(
                    dataset, name, f"({size}, {', '.join(map(str, tail))}, ...)", value.shape
                )
            self._check_finite(dataset, name, value)
        for name, value in (self.coefficients or {}).items():
            if value.ndim != 2 or value.shape[0] != size:
                self._fail(dataset, f"coefficients[{name}]", f"({size}, K)", tuple(value.shape))
            self._check_finite(dataset, f"coefficients[{name}]", value)
        person = self.person
        if person is not None and (person.shape != (size,) or person.dtype != torch.int64):
            found = f"{tuple(person.shape)} {person.dtype}"
            self._fail(dataset, "person", f"({size},) int64", found)
        if self.sample_id and len(self.sample_id) != size:
            self._fail(dataset, "sample_id", f"{size} names", len(self.sample_id))

    def _check_finite(self, dataset: str, name: str, value: Tensor) -> None:
        bad = ~torch.isfinite(value).flatten(1).all(dim=1)
        if bad.any():
            row = int(bad.nonzero()[0])
            who = self.sample_id[row] if self.sample_id else f"row {row}"
            self._fail(f"{dataset}: sample {who}", name, "finite values", "NaN or infinity")

    @staticmethod
    def _fail(dataset: str, name: str, expected: str, found: object) -> None:
        raise ValueError(f"{dataset}: field '{name}' should be {expected}, found {found}.")


@dataclass(frozen=True, eq=False)
class Reconstruction(_TensorFields):
    """What every method yields for a batch; metrics, panels and exporters take nothing else.

    Attributes:
        image_vertices: (B,V,3) x, y in pixels of the input image, z in the same scale, smaller =
            nearer the camera.
        vertices: (B,V,3) the same face without head pose, head space, in `unit`.
        faces: (F,3) int64, counter-clockwise seen from outside.
        uv: (V,2) in [0,1], u right, v up.
        landmarks: (B,68,3) iBUG order, frame of `image_vertices`.
        unit: 'mm' where the morphable model has a scale, else 'normalised'.
        visibility: (B,V) in [0,1], 1 = visible.
        camera: head space to the input image.
        light: (B,9,3) spherical harmonics coefficients, or a method's own parameters by name.
        coefficients: as in `FaceBatch`.
        textures: maps (B,C,S,S) by name: diffuse, specular, roughness, displacement, normal, color.
        vertex_colors: colors of vertices (B,V,3) by name, sRGB values in [0,1]: `albedo`, and of a
            method that refines a coarse face's, that face's `coarse_albedo`.
        transfer: (V,K) which part of the light reaches each vertex, in spherical harmonics of head
            space (`lit_face.rendering.transfer`); shared by the batch.
    """

    image_vertices: Tensor
    vertices: Tensor
    faces: Tensor
    uv: Tensor
    landmarks: Tensor
    unit: str = "normalised"
    visibility: Tensor | None = None
    camera: Camera | None = None
    light: Tensor | dict[str, Tensor] | None = None
    coefficients: dict[str, Tensor] | None = None
    textures: dict[str, Tensor] | None = None
    vertex_colors: dict[str, Tensor] | None = None
    transfer: Tensor | None = None

    def __len__(self) -> int:
        return self.image_vertices.shape[0]
