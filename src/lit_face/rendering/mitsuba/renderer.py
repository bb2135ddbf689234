"""Pictures with shadows: the house's BRDF and light, ray-traced by Mitsuba 3."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.rendering.material import Material, Radiance
from lit_face.rendering.mitsuba.light import environment_map
from lit_face.rendering.mitsuba.probe import require_ray_tracing
from lit_face.rendering.mitsuba.scene import (
    PARAMETERS,
    FaceScene,
    Integrator,
    View,
    active_variant,
    device_of,
    gradient,
)
from lit_face.rendering.rasterize import check_mesh

Camera = AffineCamera | PerspectiveCamera

_SEEDS = 2**32
_GRADIENT_SEED = 0x9E3779B9  # added to the picture's seed: other noise, as reproducible


class MitsubaRenderer(nn.Module):
    """Shades a BRDF under spherical-harmonics light by casting rays: self-shadows, and noise.

    One bounce: light that skin throws on skin is missing. Gradients reach vertices (hence pose and
    coefficients), maps and light. They do **not** reach the focal length and the principal point
    (Mitsuba takes them as numbers), UV coordinates, the mask, and, with 'direct', moving
    silhouettes and shadow edges: landmarks have to place the head.

    Negative light counts as none. The renderer has no parameters and nothing in checkpoints.

    Args:
        samples: rays a pixel; 8 for training, some hundred for a picture to look at.
        integrator: 'direct', or 'direct_projective', whose gradients know of moving silhouettes
            (not of moving shadows) and cost more; for meshes without cuts along UV seams.
        specular: false leaves the lobe out. (A specular map of 0 does not: Schlick's share at
            grazing angles stays.)
        environment_size: height and width of the map on which the light is drawn.
        independent_gradients: the backward pass casts rays of its own, so that the gradient of a
            loss is right on average; false casts those of the picture again, which gives the exact
            derivative of the very picture that was returned, noise included.
        seed: where the count of pictures starts.

    Raises:
        RayTracingUnavailableError: Mitsuba or a usable LLVM is absent; says what to install.
        ValueError: an option that does not exist.
    """

    def __init__(
        self,
        samples: int = 8,
        integrator: Integrator = "direct",
        specular: bool = True,
        environment_size: tuple[int, int] = (64, 128),
        independent_gradients: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if integrator not in ("direct", "direct_projective"):
            raise ValueError(
                f"integrator should be 'direct' or 'direct_projective', found {integrator!r}."
            )
        if samples < 1:
            raise ValueError(f"samples should be at least 1 ray a pixel, found {samples}.")
        if min(environment_size) < 4:
            raise ValueError(
                f"environment_size should be at least 4 x 4 texels, found {environment_size}."
            )
        require_ray_tracing("cuda" if torch.cuda.is_available() else "cpu")
        self.samples = samples
        self.integrator: Integrator = integrator
        self.specular = specular
        self.environment_size = (int(environment_size[0]), int(environment_size[1]))
        self.independent_gradients = independent_gradients
        self.next_seed = seed
        self._scene: FaceScene | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle without Mitsuba's objects; they are built again when needed."""
        return {**self.__dict__, "_scene": None}

    @fp32_region()
    def forward(
        self,
        vertices: Tensor,
        faces: Tensor,
        uv: Tensor,
        camera: Camera,
        size: tuple[int, int],
        material: Material,
        light: Tensor,
        seed: int | None = None,
    ) -> Radiance:
        """Render a batch of meshes that share faces and UV.

        Args:
            vertices: (B,V,3) head space, mm, float32 or float64; rays are float32.
            faces: (F,3) int64, counter-clockwise seen from outside.
            uv: (V,2) in [0,1], u right, v up.
            camera: B perspective cameras with square pixels; the head in front of them.
            size: height and width, pixels.
            material: B sets of maps, linear.
            light: (B,K,3) radiance in spherical harmonics, camera frame, house order.
            seed: of the first image; the others follow. The same seed gives the same picture. None
                continues the renderer's own count, so that every call has other noise.

        Returns:
            Radiance and coverage, soft at the silhouette where pixels are covered in part.

        Raises:
            ValueError: shapes that do not fit, an affine camera, or pixels that are not square.
        """
        check_mesh(vertices, faces)
        batch = len(vertices)
        _check_batch(batch, material, light)
        views = views_of(camera, size, batch)
        if seed is None:
            seed = self.next_seed
            self.next_seed = (seed + batch) % _SEEDS
        variant = require_ray_tracing(vertices.device.type)
        camera_vertices = cast(PerspectiveCamera, camera).to_camera(vertices)
        inputs = {
            "vertices": camera_vertices,
            "normals": vertex_normals(camera_vertices, faces),
            "diffuse": _as_texels(material.diffuse, 3),
            "specular": _as_texels(material.specular, 3),
            "roughness": _as_texels(material.roughness, 1),
            "environment": environment_map(light, *self.environment_size),
        }
        job = _Job(
            scene=self._scene_for(faces, uv, variant),
            views=views,
            samples=self.samples,
            seeds=[(seed + image) % _SEEDS for image in range(batch)],
            integrator=self.integrator,
            gradient_seed=_GRADIENT_SEED if self.independent_gradients else 0,
        )
        device = device_of(variant, vertices)
        tensors = [inputs[name].to(device, torch.float32) for name in PARAMETERS]
        image, mask = _Render.apply(job, *tensors)  # type: ignore[no-untyped-call]
        return Radiance(image.to(vertices), mask.to(vertices))

    def _scene_for(self, faces: Tensor, uv: Tensor, variant: str) -> FaceScene:
        scene = self._scene
        if scene is None or not scene.fits(faces, uv, variant):
            with active_variant(variant):
                scene = FaceScene(faces, uv, variant, self.specular)
            self._scene = scene
        return scene


@dataclass
class _Job:
    """What a batch needs besides tensors; the backward pass reads it again."""

    scene: FaceScene
    views: list[View]
    samples: int
    seeds: list[int]
    integrator: Integrator
    gradient_seed: int
    names: list[str] = field(default_factory=lambda: list(PARAMETERS))


class _Render(torch.autograd.Function):
    """One scene, many pictures: the backward pass fills the scene again for each of them.

    A render per image inside one graph would compute every image's gradient with what the scene
    holds at the end, the last image.
    """

    @staticmethod
    def forward(ctx: Any, job: _Job, *tensors: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        ctx.job = job
        ctx.save_for_backward(*tensors)
        pictures = []
        with active_variant(job.scene.variant):
            for image, (view, seed) in enumerate(zip(job.views, job.seeds, strict=True)):
                job.scene.fill({n: t[image] for n, t in zip(job.names, tensors, strict=True)})
                pictures.append(job.scene.render(view, job.samples, seed))
        picture = torch.stack(pictures).permute(0, 3, 1, 2)
        color, mask = picture[:, :3].contiguous(), picture[:, 3:].contiguous()
        ctx.mark_non_differentiable(mask)
        return color, mask

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        job: _Job = ctx.job
        tensors = dict(zip(job.names, ctx.saved_tensors, strict=True))
        needed = dict(zip(job.names, ctx.needs_input_grad[1:], strict=True))
        wanted = frozenset(name for name in job.names if needed[name])
        result = {name: torch.zeros_like(tensors[name]) for name in wanted}
        pixels = torch.nn.functional.pad(grad.permute(0, 2, 3, 1), (0, 1))
        with active_variant(job.scene.variant):
            for image, (view, seed) in enumerate(zip(job.views, job.seeds, strict=True)):
                if not bool(pixels[image].any()):
                    continue
                leaves = job.scene.fill({n: t[image] for n, t in tensors.items()}, wanted)
                seed = (seed + job.gradient_seed) % _SEEDS
                job.scene.backward(view, job.samples, seed, pixels[image], job.integrator)
                for name, leaf in leaves.items():
                    result[name][image] = gradient(leaf, result[name][image].shape)
        return (None, *(result.get(name) for name in job.names))


def views_of(camera: Camera, size: tuple[int, int], batch: int) -> list[View]:
    """Read the numbers that Mitsuba's sensor needs.

    Raises:
        ValueError: an affine camera, another number of cameras, pixels that are not square or
            skewed.
    """
    if not isinstance(camera, PerspectiveCamera):
        raise ValueError(
            "ray tracing needs a PerspectiveCamera, found an AffineCamera; a long focal length "
            "comes close, or use RasterMaterialRenderer, which takes both."
        )
    intrinsics = camera.intrinsics.detach().double().cpu()
    if len(intrinsics) != batch:
        raise ValueError(f"camera should hold {batch} cameras, found {len(intrinsics)}.")
    views = []
    for (fx, skew, cx), (_, fy, cy), _ in intrinsics.tolist():
        if not (fx > 0 and abs(fx - fy) <= 1e-4 * fx and abs(skew) <= 1e-4 * fx):
            raise ValueError(
                "ray tracing needs a camera with square pixels and without skew or mirror "
                f"(fx = fy > 0), found fx {fx:.6g}, fy {fy:.6g}, skew {skew:.6g} pixels."
            )
        views.append(View((int(size[0]), int(size[1])), fx, (cx, cy)))
    return views


def _as_texels(maps: Tensor, channels: int) -> Tensor:
    """(B,c,S,S) to (B,S,S,channels); Mitsuba wants 2 x 2 texels or more."""
    side = max(2, maps.shape[-1]) if maps.shape[-1] == 1 else maps.shape[-1]
    return maps.expand(-1, channels, side, side).permute(0, 2, 3, 1)


def _check_batch(batch: int, material: Material, light: Tensor) -> None:
    expected = {"diffuse": (3,), "specular": (1, 3), "roughness": (1,)}
    for name, channels in expected.items():
        maps = getattr(material, name)
        fits = maps.ndim == 4 and maps.shape[0] == batch and maps.shape[1] in channels
        if not fits or maps.shape[2] != maps.shape[3]:
            raise ValueError(
                f"material.{name} should be ({batch},{' or '.join(map(str, channels))},S,S), found "
                f"{tuple(maps.shape)}."
            )
    if len(light) != batch or not bool(light.isfinite().all()):
        raise ValueError(
            f"light should be ({batch},K,3) and finite, found {tuple(light.shape)} with "
            f"{int((~light.isfinite()).sum())} values that are not."
        )
