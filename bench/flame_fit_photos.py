"""How well photos are fitted: python bench/flame_fit_photos.py FOLDER [--head ict_facekit].

The folder has NAME.png (square), NAME_landmarks.npy (68,2) pixels and NAME_seg.npz with `mask`.
`method=flame_fit` on the photos as they are, all at once: landmark error in percent of the distance
of the outer eye corners, and, over pixels of the mask that the head covers, sRGB: mean absolute
error, PSNR, and the share of albedo in [0,1]; with the offset map and without. --strips writes
photo, picture, albedo and shape of every photo.
"""

# ruff: noqa: I001
from __future__ import annotations

import lit_face  # noqa: F401  (first: arms the torchvision repair)

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_face.config import check_config, instantiate
from lit_face.config.composition import compose_config
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.sampling import sample_image
from lit_face.geometry.uv import uv_to_texels
from lit_face.io.images import write_image
from lit_face.io.photos import read_photo
from lit_face.methods.flame_fit import FlameFit
from lit_face.rendering.color import linear_to_srgb
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.rasterize import rasterize
from lit_face.rendering.scene import render_face
from lit_face.types import Reconstruction

COLUMNS = {"nme": 2, "landmarks_px": 2, "photo_l1": 4, "psnr": 1, "albedo_inside": 4}
_LAMP = (-0.3, -0.4, -0.85)  # to the camera, of the picture of the shape


def read(folder: Path) -> tuple[list[str], Tensor, Tensor, Tensor]:
    """Return names, pictures (B,3,S,S), landmarks (B,68,2) and masks (B,1,S,S)."""
    names = sorted(path.stem for path in folder.glob("*.png"))
    if not names:
        raise SystemExit(f"{folder} has no .png files.")
    images = [torch.from_numpy(read_photo(folder / f"{name}.png")) for name in names]
    points = [torch.from_numpy(np.load(folder / f"{name}_landmarks.npy")) for name in names]
    masks = [torch.from_numpy(np.load(folder / f"{name}_seg.npz")["mask"]) for name in names]
    pictures = torch.stack(images).permute(0, 3, 1, 2).float() / 255
    return names, pictures, torch.stack(points).float(), torch.stack(masks).float()[:, None]


def method_of(head: str, overrides: list[str]) -> FlameFit:
    """Return the method as its config has it."""
    words = ["input=photos", "out=faces", "method=flame_fit", f"morphable_model={head}"]
    config = check_config(compose_config("reconstruct", words + overrides))
    method: FlameFit = instantiate(
        config["method"], morphable_model=instantiate(config["morphable_model"])
    )
    return method


@torch.no_grad()
def strips(face: Reconstruction, image: Tensor, mask: Tensor) -> Tensor:
    """Return (B,3,S,4S): photo, picture in the photo, albedo, shape."""
    size = image.shape[-1]
    shown = render_face(RasterMaterialRenderer(), face, (size, size))
    seen = shown.mask * mask
    picture = seen * linear_to_srgb(shown.image) + (1 - seen) * image
    index = rasterize(face.image_vertices, face.faces, (size, size))
    fragments = fragments_of(face.image_vertices, face.faces, index)
    normals = fragments.interpolate(vertex_normals(face.image_vertices, face.faces))
    shape = fragments.to_image((normals @ normals.new_tensor(_LAMP)).clamp(0, 1)[:, None])
    maps = linear_to_srgb((face.textures or {})["diffuse"])
    points = uv_to_texels(face.uv, maps.shape[-1]).expand(len(maps), -1, -1)
    colors = fragments.to_image(fragments.interpolate(sample_image(maps, points).mT))
    return torch.cat([image, picture, colors * mask, shape.expand(-1, 3, -1, -1)], -1).clamp(0, 1)


def table(names: list[str], found: dict[str, Tensor]) -> str:
    """Return rows of errors and their means."""
    rows = [f"| photo | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row, name in enumerate([*names, "mean"]):
        values = [found[key].mean() if name == "mean" else found[key][row] for key in COLUMNS]
        cells = [f"{v:.{digits}f}" for v, digits in zip(values, COLUMNS.values(), strict=True)]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Print the tables of src/lit_face/methods/flame_fit/README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--head", default="procedural", help="of conf/morphable_model")
    parser.add_argument("--strips", type=Path, help="file to write pictures to")
    parser.add_argument("overrides", nargs="*", help="of the config, as method.options.refresh=4")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names, image, points, mask = read(arguments.folder)
    method = method_of(arguments.head, arguments.overrides)
    start = time.process_time()
    found = method.refine(image, points, skin_mask=mask)
    seconds = time.process_time() - start
    print(f"{arguments.head}, {len(names)} photos at once, {seconds:.1f} s of processor time")
    print(table(names, found.after))
    if found.plain is not None:
        print("without the offset map")
        print(table(names, found.plain))
    if arguments.strips:
        rows = strips(found.face, image, mask)
        sheet = (255 * torch.cat(list(rows), 1).permute(1, 2, 0)).round().to(torch.uint8)
        write_image(arguments.strips, sheet.numpy())


if __name__ == "__main__":
    main()
