"""Synthetic faces rendered once into files, for machines on which rendering is the slow part."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lit_face.data.random import sample_keys
from lit_face.data.synthetic import SyntheticRenderer
from lit_face.io.files import atomic_write, cache_root
from lit_face.io.images import decode_image
from lit_face.morphable_models.digest import model_digest
from lit_face.types import FaceBatch, required

log = logging.getLogger(__name__)

SHARD = 256  # faces in a file
_BATCH = 8
_QUALITY = 95
_COEFFICIENTS = ("identity", "expression", "albedo")
_SOURCES = sorted((Path(__file__).parent / "photographs").glob("*.py"))
_CODE = hashlib.sha256(b"".join(source.read_bytes() for source in _SOURCES)).digest()


class RenderedFaces(Dataset[dict[str, Any]]):
    """Faces of shards written by `render_faces`.

    Args:
        folder: of the shards.
        size: number of faces to use.
        start: the first of them.

    Raises:
        FileNotFoundError: shards are missing.
    """

    def __init__(self, folder: Path, size: int, start: int = 0) -> None:
        self.size, self.start = size, start
        self._shards: dict[int, dict[str, NDArray[Any]]] = {}
        for number in range(start // SHARD, -(-(start + size) // SHARD)):
            path = shard_path(folder, number)
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing; it is rendered before training.")
            with np.load(path, allow_pickle=False) as stored:
                self._shards[number] = {name: stored[name] for name in stored.files}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Return one face; its picture is uint8 (3,H,W)."""
        if not 0 <= item < self.size:
            raise IndexError(f"RenderedFaces has {self.size} faces, asked for number {item}.")
        number, row = divmod(item + self.start, SHARD)
        shard = self._shards[number]
        start, stop = shard["ends"][row], shard["ends"][row + 1]
        picture = decode_image(shard["pictures"][start:stop].tobytes(), f"face {item}")
        return {
            "image": torch.from_numpy(picture).permute(2, 0, 1),
            "camera": torch.from_numpy(shard["camera"][row]),
            "landmarks": torch.from_numpy(shard["landmarks"][row]),
            "coefficients": {n: torch.from_numpy(shard[n][row]).float() for n in _COEFFICIENTS},
            "sample_id": f"rendered_{item + self.start:07d}",
        }


def rendered_folder(renderer: SyntheticRenderer, seed: int) -> Path:
    """Return the cache folder of a renderer's faces.

    Another model, other options or other code of the renderer have another folder.
    """
    facts = {"model": model_digest(renderer.morphable_model), "seed": seed, **renderer.options}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(_CODE)
    return cache_root() / f"rendered-{digest.hexdigest()[:12]}"


def shard_path(folder: Path, number: int) -> Path:
    """Return the file of a shard."""
    return folder / f"faces-{number:04d}.npz"


def render_faces(
    renderer: SyntheticRenderer, folder: Path, size: int, seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:  # fmt: skip
    """Render the shards that are missing; interrupted, it goes on at the next call.

    Args:
        renderer: makes the faces.
        folder: takes the shards.
        size: number of faces.
        seed: of the faces.
        progress: called with (faces done, size) after every shard.
    """
    shards = -(-size // SHARD)
    for number in range(shards):
        path = shard_path(folder, number)
        if not path.is_file():
            write_shard(renderer, path, number, seed)
        if progress is not None:
            progress(min((number + 1) * SHARD, size), size)


def write_shard(renderer: SyntheticRenderer, path: Path, number: int, seed: int) -> None:
    """Render one shard of `SHARD` faces."""
    keys = sample_keys(seed, 0, torch.arange(number * SHARD, (number + 1) * SHARD))
    parts = [_render(renderer, part) for part in keys.split(_BATCH)]
    pictures = [picture for part in parts for picture in part.pop("pictures")]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrays["ends"] = np.cumsum([0, *(len(picture) for picture in pictures)])
    arrays["pictures"] = np.concatenate(pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def _render(renderer: SyntheticRenderer, keys: Tensor) -> dict[str, Any]:
    empty = torch.empty(len(keys), 3, 0, 0, dtype=torch.uint8, device=keys.device)
    batch = renderer(FaceBatch(empty, random_key=keys))
    camera = required(batch.camera, "camera", "RenderedFaces")
    landmarks = required(batch.landmarks, "landmarks", "RenderedFaces")
    coefficients = required(batch.coefficients, "coefficients", "RenderedFaces")
    images = (batch.image * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return {
        "pictures": [_encode(image) for image in images],
        "camera": camera.matrix.cpu().numpy(),
        "landmarks": landmarks.cpu().numpy(),
        **{name: coefficients[name].cpu().numpy().astype(np.float16) for name in _COEFFICIENTS},
    }


def _encode(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise OSError("OpenCV could not encode a picture as JPEG.")
    return np.asarray(data).reshape(-1)
