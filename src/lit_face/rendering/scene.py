"""A reconstructed face as what renderers take: its material, and its picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_face.rendering.material import Material, Radiance
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.types import Reconstruction


def can_be_rendered(face: Reconstruction) -> bool:
    """Whether a face has all that a picture needs: diffuse albedo, camera and light."""
    has_albedo = "diffuse" in (face.textures or {})
    return has_albedo and face.camera is not None and isinstance(face.light, Tensor)


def is_matte(face: Reconstruction) -> bool:
    """Whether a face has no specular albedo, and hence no highlights."""
    return "specular" not in (face.textures or {})


def material_of(face: Reconstruction, statistical: bool = False) -> Material:
    """Return what a face is made of; maps below 0 count as 0.

    Args:
        face: with textures, linear; without specular albedo it is matte.
        statistical: leave residual maps out, where the face has some.

    Raises:
        ValueError: the face has no albedo maps.
    """
    textures = face.textures or {}
    if "diffuse" not in textures:
        raise ValueError(f"A material needs the texture 'diffuse', found {sorted(textures)}.")
    suffix = "_statistical" if statistical and "diffuse_statistical" in textures else ""
    diffuse = textures[f"diffuse{suffix}"].clamp(min=0)
    if is_matte(face):
        one = diffuse.new_ones(len(diffuse), 1, 1, 1)
        return Material(diffuse, torch.zeros_like(diffuse[:, :1]), one)
    return Material(
        diffuse=diffuse,
        specular=textures[f"specular{suffix}"].clamp(min=0),
        roughness=textures["roughness"].clamp(1e-3, 1),
    )


def render_face(
    renderer: nn.Module,
    face: Reconstruction,
    size: tuple[int, int],
    material: Material | None = None,
    light: Tensor | None = None,
) -> Radiance:
    """Show faces in pixels of their pictures.

    Args:
        renderer: of BRDFs (`conf/renderer`).
        face: with camera, light (B,K,3) and, unless `material` is given, albedo maps, linear. Its
            `transfer` shadows it where the renderer does not cast rays itself.
        size: height and width, pixels.
        material: instead of the face's own.
        light: (B,K,3) instead of the face's own.

    Raises:
        ValueError: the face has no camera, light or maps.
    """
    light = face.light if light is None else light  # type: ignore[assignment]
    if face.camera is None or not isinstance(light, Tensor):
        raise ValueError("A face's picture needs its camera and its light (B,K,3).")
    casts_rays = not isinstance(renderer, RasterMaterialRenderer)
    if isinstance(renderer, RasterMaterialRenderer) and is_matte(face):
        renderer = renderer.matte()
    shadows = {} if casts_rays or face.transfer is None else {"transfer": face.transfer}
    picture: Radiance = renderer(
        face.vertices,
        face.faces,
        face.uv,
        face.camera,
        size,
        material_of(face) if material is None else material,
        light,
        **shadows,
    )
    return picture
