"""Materials of mesh files: the simplified Cook-Torrance surface in the words of .mtl and glTF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

DIELECTRIC = 0.04  # reflectance at normal incidence that glTF gives to all that is no metal


@dataclass(frozen=True, eq=False)
class Surface:
    """What a surface reflects besides its diffuse albedo (`lit_face.rendering.brdf`).

    Attributes:
        specular: (H,W,3) float32, linear reflectance at normal incidence.
        roughness: (H,W) float32 in (0,1], the square of a Beckmann alpha.
    """

    specular: NDArray[np.float32]
    roughness: NDArray[np.float32]


def material_files(
    stem: str,
    texture: NDArray[np.uint8],
    surface: Surface | None,
    normal_map: NDArray[np.uint8] | None = None,
) -> dict[str, bytes]:
    """Return the files beside an .obj by name: its material and pictures.

    Ns is the exponent of the lobe, 2 / a - 2 of the mean roughness a; .mtl has no map of it.
    """
    lines = [f"newmtl {stem}_texture", "Ka 1.0 1.0 1.0", "Kd 1.0 1.0 1.0"]
    files = {f"{stem}_texture.png": png(texture)}
    if surface is None:
        lines += ["Ks 0.0 0.0 0.0", f"map_Kd {stem}_texture.png"]
    else:
        exponent = max(2 / float(surface.roughness.mean()) - 2, 0.0)
        lines += ["Ks 1.0 1.0 1.0", f"Ns {exponent:.4f}", "illum 2"]
        lines += [f"map_Kd {stem}_texture.png", f"map_Ks {stem}_specular.png"]
        files[f"{stem}_specular.png"] = png(srgb_bytes(surface.specular))
    if normal_map is not None:
        lines.append(f"norm {stem}_normal.png")
        files[f"{stem}_normal.png"] = png(normal_map)
    files[f"{stem}.mtl"] = ("\n".join(lines) + "\n").encode()
    return files


def gltf_maps(surface: Surface) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
    """Return a surface in glTF's words.

    glTF's roughness is the square root of alpha, and ours the square of alpha: its fourth root.

    Returns:
        metallic-roughness picture (H,W,3): green is the roughness; specular colour (H,W,3), sRGB;
        and the factor by which the latter times 0.04 is the reflectance.
    """
    rough = np.rint(255 * surface.roughness.clip(0, 1) ** 0.25).astype(np.uint8)
    packed = np.stack([np.zeros_like(rough), rough, np.zeros_like(rough)], axis=-1)
    relative = surface.specular / DIELECTRIC
    factor = max(float(relative.max()), 1e-6)
    return packed, srgb_bytes(relative / factor), factor


def srgb_bytes(linear: NDArray[Any]) -> NDArray[np.uint8]:
    """Encode linear values in [0,1] as sRGB of 8 bits."""
    return np.rint(255 * linear_to_srgb(np.clip(linear, 0, 1))).astype(np.uint8)


def linear_to_srgb(linear: NDArray[Any]) -> NDArray[np.float32]:
    """Encode linear colours in [0,1] (IEC 61966-2-1)."""
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    ).astype(np.float32)


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encode (H,W,3) RGB as PNG."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())
