"""Files of the miniature of FFHQ, as the real dataset and its companions have them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.data.miniature_people import PicturesToWrite, write_truth
from lit_face.io.images import write_image
from lit_face.rendering.rasterize import rasterize

METADATA_FILE = "ffhq-dataset-v2.json"
TREE = "images1024x1024"
# Labels of the segmentation; 0 is everything that is no usable skin. Later ones lie over earlier.
LABELS = {1: "skin", 2: "neck", 4: "ears", 6: "nose", 8: "brows", 11: "lips"}


def numbered(tree: str, number: int, suffix: str) -> str:
    """Return FFHQ's relative path of a number: `<tree>/01000/01234.png`."""
    return f"{tree}/{number - number % 1000:05d}/{number:05d}{suffix}"


def write_pictures(folder: Path, numbers: list[int], pictures: PicturesToWrite) -> None:
    """Write picture, landmarks, segmentation and truth of each number."""
    pixels = pictures.image.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    labels = segmentation(pictures)
    for name in ("landmarks", "segmentation", "truth"):
        (folder / name).mkdir(exist_ok=True)
    for row, number in enumerate(numbers):
        write_image(folder / numbered(TREE, number, ".png"), pixels[row].contiguous().numpy())
        points = pictures.landmarks[row, :, :2].double().numpy()
        np.save(folder / "landmarks" / f"{number:05d}.npy", points)
        np.save(folder / "segmentation" / f"{number:05d}.npy", labels[row])
        write_truth(folder / "truth" / f"{number:05d}.npz", pictures, row)


def segmentation(pictures: PicturesToWrite) -> NDArray[np.uint8]:
    """Name what each skin pixel shows (B,H,W), see `LABELS`."""
    model = pictures.model
    regions = model.regions
    part = torch.ones(len(model.mean), dtype=torch.int64)
    for label, name in LABELS.items():
        if label > 1 and name in regions:
            part[regions[name] > 0.5] = label
    size = (pictures.image.shape[2], pictures.image.shape[3])
    seen = rasterize(pictures.image_vertices, model.faces, size)
    nearest = torch.ones_like(seen)
    nearest[seen >= 0] = part[model.faces[seen[seen >= 0], 0]]
    is_skin = pictures.skin_mask[:, 0] > 0.5
    labels = torch.where(is_skin, nearest, torch.zeros_like(nearest))
    return labels.to(torch.uint8).numpy()


def write_metadata(folder: Path, landmarks: Tensor, held_out: Tensor, side: int) -> None:
    """Write `ffhq-dataset-v2.json` with all keys of the real one; `pixel_size` is the truth."""
    content = {
        str(number): _entry(folder, number, points, bool(held_out[number]), side)
        for number, points in enumerate(landmarks[..., :2].double())
    }
    (folder / METADATA_FILE).write_text(json.dumps(content), encoding="utf-8")


def _entry(folder: Path, number: int, points: Tensor, held_out: bool, side: int) -> dict[str, Any]:
    name = numbered(TREE, number, ".png")
    data = (folder / name).read_bytes()
    picture = {
        "file_url": "",
        "file_path": name,
        "file_size": len(data),
        "file_md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "pixel_size": [side, side],
        "pixel_md5": "",
    }
    rounded = [[round(x, 4), round(y, 4)] for x, y in points.tolist()]
    low, high = points.amin(0).tolist(), points.amax(0).tolist()
    corners = [[0, 0], [0, side], [side, side], [side, 0]]
    wild = {**picture, "file_path": numbered("in-the-wild-images", number, ".png")}
    thumbnail = {**picture, "file_path": numbered("thumbnails128x128", number, ".png")}
    return {
        "category": "validation" if held_out else "training",
        "metadata": {
            "photo_url": "",
            "photo_title": f"procedural face {number}",
            "author": "lit_face",
            "country": "",
            "license": "Public Domain Dedication (CC0)",
            "license_url": "https://creativecommons.org/publicdomain/zero/1.0/",
            "date_uploaded": "",
            "date_crawled": "",
        },
        "image": {**picture, "face_landmarks": rounded},
        "thumbnail": {**thumbnail, "pixel_size": [128, 128]},
        "in_the_wild": {
            **wild,
            "face_rect": [*low, *high],
            "face_landmarks": rounded,
            "face_quad": corners,
        },
    }
