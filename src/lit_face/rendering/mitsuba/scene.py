"""A face in Mitsuba: built once a topology, filled anew for every picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lit_face.rendering.mitsuba import bsdf
from lit_face.rendering.mitsuba.probe import CUDA_VARIANT

Integrator = Literal["direct", "direct_projective"]

NEAREST, FARTHEST = 1.0, 1e6  # mm

# What a picture depends on, by the name that Mitsuba gives it.
PARAMETERS = {
    "vertices": "face.vertex_positions",
    "normals": "face.vertex_normals",
    "diffuse": "face.bsdf.diffuse.data",
    "specular": "face.bsdf.specular.data",
    "roughness": "face.bsdf.roughness.data",
    "environment": "light.data",
}


@contextmanager
def active_variant(variant: str) -> Iterator[None]:
    """Work with a variant of Mitsuba; afterwards the caller's is active again."""
    import mitsuba as mi

    before = mi.variant()
    mi.set_variant(variant)
    try:
        yield
    finally:
        if before is not None:
            mi.set_variant(before)


@dataclass(frozen=True)
class View:
    """A picture's size and intrinsics, pixels, plain numbers: no gradient reaches them.

    Attributes:
        size: height, width.
        focal: of both axes.
        center: principal point (x, y), centre of the first pixel at (0, 0).
    """

    size: tuple[int, int]
    focal: float
    center: tuple[float, float]


class FaceScene:
    """Mesh, maps and light as Mitsuba's objects.

    Args:
        faces: (F,3) int64.
        uv: (V,2), u right, v up.
        variant: Mitsuba's; active while it is built and used (`active_variant`).
        has_lobe: whether the surface has the specular lobe.
    """

    def __init__(self, faces: Tensor, uv: Tensor, variant: str, has_lobe: bool = True) -> None:
        import mitsuba as mi

        bsdf.register(variant)
        self.faces, self.uv, self.variant = faces, uv, variant
        self.scene = mi.load_dict(
            {
                "type": "scene",
                "face": _mesh(faces, uv, has_lobe),
                "light": {"type": "envmap", "bitmap": mi.Bitmap(np.ones((4, 8, 3), np.float32))},
            }
        )
        self.parameters = mi.traverse(self.scene)
        self._integrators: dict[Integrator, Any] = {}
        self._map_sides: dict[str, int] = {}
        self._sensors: dict[tuple[tuple[int, int], bool], tuple[Any, Any]] = {}

    def fits(self, faces: Tensor, uv: Tensor, variant: str) -> bool:
        """Whether this scene can show another mesh."""
        return self.variant == variant and _equal(self.faces, faces) and _equal(self.uv, uv)

    def fill(
        self, values: dict[str, Tensor], wanted: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """Set every parameter.

        Args:
            values: by the names of `PARAMETERS`; vertices and normals (V,3), camera frame, maps
                (S,S,C), environment (H,W+2,3), all float32.
            wanted: names that shall have a gradient.

        Returns:
            Mitsuba's leaves of the names in `wanted`; read them with `gradient`.
        """
        import drjit as dr
        import mitsuba as mi

        leaves: dict[str, Any] = {}
        for name, key in PARAMETERS.items():
            value = values[name].contiguous()
            if name in ("vertices", "normals"):
                leaf = mi.Float(mi.TensorXf(value).array)
            else:
                leaf = mi.TensorXf(value)
            if name in wanted:
                dr.enable_grad(leaf)
                leaves[name] = leaf
            self._place_map(name, value.shape[0])
            self.parameters[key] = leaf
        self.parameters.update()
        return leaves

    def render(self, view: View, samples: int, seed: int) -> Tensor:
        """Render what `fill` has set; (H,W,4) red, green, blue and coverage, no gradients."""
        import drjit as dr

        with dr.suspend_grad():
            picture = self._integrator("direct").render(
                self.scene, sensor=self._sensor(view), seed=seed, spp=samples
            )
        result: Tensor = picture.torch().clone()
        return result

    def backward(
        self, view: View, samples: int, seed: int, grad: Tensor, integrator: Integrator
    ) -> None:
        """Carry the picture's gradient (H,W,4) to the leaves of the last `fill`."""
        import mitsuba as mi

        self._integrator(integrator).render_backward(
            self.scene,
            self.parameters,
            mi.TensorXf(grad.contiguous()),
            sensor=self._sensor(view, has_border=integrator == "direct_projective"),
            seed=seed,
            spp=samples,
        )

    def _integrator(self, name: Integrator) -> Any:
        import mitsuba as mi

        if name not in self._integrators:
            self._integrators[name] = mi.load_dict(_integrator_description(name))
        return self._integrators[name]

    def _place_map(self, name: str, side: int) -> None:
        """Let the first and last texel's centres lie on the borders of the UV square."""
        import mitsuba as mi

        if name not in ("diffuse", "specular", "roughness") or self._map_sides.get(name) == side:
            return
        scale, shift = (side - 1) / side, 0.5 / side
        move = mi.ScalarTransform3f().translate([shift, shift]) @ mi.ScalarTransform3f().scale(
            [scale, scale]
        )
        self.parameters[f"face.bsdf.{name}.to_uv"] = move
        self._map_sides[name] = side

    def _sensor(self, view: View, has_border: bool = False) -> Any:
        import mitsuba as mi

        height, width = view.size
        key = view.size, has_border
        if key not in self._sensors:
            sensor = mi.load_dict(_sensor_description(view.size, has_border))
            self._sensors[key] = sensor, mi.traverse(sensor)
        sensor, parameters = self._sensors[key]
        parameters["x_fov"] = 2 * math.degrees(math.atan(width / (2 * view.focal)))
        parameters["principal_point_offset_x"] = 0.5 - (view.center[0] + 0.5) / width
        parameters["principal_point_offset_y"] = 0.5 - (view.center[1] + 0.5) / height
        parameters.update()
        return sensor


def gradient(leaf: Any, shape: torch.Size) -> Tensor:
    """Return the gradient of a leaf of `FaceScene.fill` as a tensor of its own."""
    import drjit as dr

    result: Tensor = dr.grad(leaf).torch().reshape(shape).clone()
    return result


def _equal(first: Tensor, second: Tensor) -> bool:
    return first is second or (first.shape == second.shape and torch.equal(first, second))


def _mesh(faces: Tensor, uv: Tensor, has_lobe: bool) -> Any:
    import mitsuba as mi

    def constant(channels: int) -> dict[str, Any]:
        return {
            "type": "bitmap",
            "data": mi.TensorXf(np.ones((2, 2, channels), np.float32)),
            "raw": True,
            "accel": False,  # CUDA's own texture units round the weights to 8 bits
            "filter_type": "bilinear",
            "wrap_mode": "clamp",
        }

    properties = mi.Properties()
    properties["mesh_bsdf"] = mi.load_dict(
        {
            "type": bsdf.PLUGIN,
            "diffuse": constant(3),
            "specular": constant(3),
            "roughness": constant(1),
            "has_lobe": has_lobe,
        }
    )
    mesh = mi.Mesh(
        "face",
        vertex_count=len(uv),
        face_count=len(faces),
        has_vertex_normals=True,
        has_vertex_texcoords=True,
        props=properties,
    )
    parameters = mi.traverse(mesh)
    # Some points, not all the same: the mesh is built before it is filled.
    start = np.tile(np.eye(3, dtype=np.float32), (len(uv) // 3 + 1, 1))[: len(uv)]
    parameters["vertex_positions"] = mi.Float(start.ravel())
    parameters["faces"] = mi.UInt(faces.detach().cpu().numpy().astype(np.uint32).ravel())
    # Row 0 of a map is v = 1 in this house and v = 0 in Mitsuba.
    uv_down = torch.stack([uv[:, 0], 1 - uv[:, 1]], dim=1)
    parameters["vertex_texcoords"] = mi.Float(uv_down.detach().cpu().float().numpy().ravel())
    parameters.update()
    return mesh


def _integrator_description(name: Integrator) -> dict[str, Any]:
    if name == "direct":
        return {"type": "direct", "hide_emitters": True}
    # Silhouettes of shadows (sppi) and the tree that guides them cost minutes and gigabytes, and
    # gradients of depth came out six times too large.
    return {"type": "direct_projective", "hide_emitters": True, "sppi": 0, "guiding": "none"}


def _sensor_description(size: tuple[int, int], has_border: bool) -> dict[str, Any]:
    import mitsuba as mi

    height, width = size
    return {
        "type": "perspective",
        "fov": 10.0,
        "fov_axis": "x",
        "near_clip": NEAREST,
        "far_clip": FARTHEST,
        "to_world": mi.ScalarTransform4f().look_at([0, 0, 0], [0, 0, 1], [0, -1, 0]),
        "film": {
            "type": "hdrfilm",
            "width": width,
            "height": height,
            "pixel_format": "rgba",
            "component_format": "float32",
            "rfilter": {"type": "box"},
            "sample_border": has_border,
        },
        "sampler": {"type": "independent"},
    }


def device_of(variant: str, tensor: Tensor) -> torch.device:
    """Return where a variant takes its tensors from."""
    return tensor.device if variant == CUDA_VARIANT else torch.device("cpu")
