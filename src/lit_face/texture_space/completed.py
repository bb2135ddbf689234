"""Completed maps on disk: one picture a photo, made once, checked when it is made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.data.texture_maps import TextureMap, read_texture_map, shrunk, texture_map_file
from lit_face.io.files import atomic_write
from lit_face.io.images import read_image, write_image

_SEAM_LIMIT = 2.0  # gradient at the seam over the map's median gradient


class Completer(Protocol):
    """What fills maps: the part of `texture_completion` that is used."""

    def complete(self, image: Tensor, known: Tensor) -> Tensor:
        """Return whole maps (B,3,S,S) from maps and what is known of them (B,1,S,S)."""


class CompletedMaps:
    """Completes the maps of a folder of fits, each into `<out>/<name>.png` with a record.

    A map is made again where its source or the network changed.

    Args:
        root: folder of fits.
        out: folder of the completed maps.
        completer: fills them.
        size: side of the completed maps, texels.
        coverage: (S,S) texels that faces cover; others are never known.
        min_confidence: texels seen at a smaller cosine to their normal are completed.
        fingerprint: of the network.
    """

    def __init__(
        self,
        root: Path,
        out: Path,
        completer: Completer,
        size: int,
        coverage: NDArray[np.bool_],
        min_confidence: float,
        fingerprint: str,
    ) -> None:
        self.root, self.out, self.completer = root, out, completer
        self.size, self.coverage, self.min_confidence = size, coverage, min_confidence
        self.fingerprint = fingerprint

    def file(self, name: str) -> Path:
        """Return the picture of a map."""
        return self.out / f"{name.rstrip('/').replace('/', '-')}.png"

    def make(self, names: Sequence[str], progress: Callable[[int], None]) -> list[dict[str, Any]]:
        """Complete what is not done yet; return the records in order.

        Args:
            names: of the maps.
            progress: called with the number of maps that are done.
        """
        records = []
        for done, name in enumerate(names, 1):
            source = self._source(name)
            record = self._finished(name, source)
            if record is None:
                record = self._complete(name, source)
            records.append(record)
            progress(done)
        return records

    def read(self, names: Sequence[str], batch: int) -> Iterator[NDArray[np.float32]]:
        """Yield the completed maps (n,3*S*S) as blue, green, red from 0 to 255, a batch at once."""
        for start in range(0, len(names), batch):
            maps = [read_image(self.file(name)) for name in names[start : start + batch]]
            yield np.stack([m[:, :, ::-1] for m in maps]).reshape(len(maps), -1).astype(np.float32)

    def _complete(self, name: str, source: dict[str, Any]) -> dict[str, Any]:
        texture = read_texture_map(texture_map_file(self.root, name))
        color, known = resampled(texture, self.size, self.min_confidence)
        known &= self.coverage
        image = torch.from_numpy(color).permute(2, 0, 1)[None].float() / 255
        whole = self.completer.complete(image, torch.from_numpy(known)[None, None].float())[0]
        if not torch.isfinite(whole).all():
            raise ValueError(f"{name}: the completed map is not finite; train the network again.")
        picture = (whole * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        record = {"name": name, **source, **checks(picture, known, self.coverage)}
        write_image(self.file(name), picture)
        with atomic_write(self.file(name).with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")
        return record

    def _source(self, name: str) -> dict[str, Any]:
        stat = texture_map_file(self.root, name).stat()
        return {
            "source": [stat.st_size, stat.st_mtime_ns],
            "network": self.fingerprint,
            "settings": [self.size, self.min_confidence],
        }

    def _finished(self, name: str, source: dict[str, Any]) -> dict[str, Any] | None:
        file = self.file(name)
        try:
            record = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = file.is_file() and {key: record.get(key) for key in source} == source
        return dict(record) if same else None


def resampled(
    texture: TextureMap, size: int, min_confidence: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a map (S,S,3) of another size and what is known of it (S,S)."""
    known = texture.visible & (texture.confidence >= 255 * min_confidence)
    return shrunk(texture.color, known, size)


def checks(
    picture: NDArray[np.uint8], known: NDArray[np.bool_], coverage: NDArray[np.bool_]
) -> dict[str, Any]:
    """Compare what is known of a map with what was completed.

    Args:
        picture: (S,S,3) completed map.
        known: (S,S).
        coverage: (S,S) texels that faces cover.

    Returns:
        `known` (share of the covered texels), mean colours `inside` and `outside` of it, `seam`:
        median gradient at its border over the median gradient of all, and whether that is `smooth`.
    """
    values = picture.astype(np.float32)
    right = np.abs(np.diff(values, axis=1, append=values[:, -1:])).mean(axis=2)
    down = np.abs(np.diff(values, axis=0, append=values[-1:])).mean(axis=2)
    gradient = np.hypot(right, down)
    cross = np.ones((3, 3), np.uint8)
    mask = known.astype(np.uint8)
    border = (cv2.dilate(mask, cross) != cv2.erode(mask, cross)) & coverage
    usual = max(float(np.median(gradient[coverage])), 0.5)
    seam = float(np.median(gradient[border])) / usual if border.any() else 0.0
    outside = coverage & ~known
    return {
        "known": round(float(known.sum() / max(coverage.sum(), 1)), 4),
        "inside": _mean_color(values, known),
        "outside": _mean_color(values, outside),
        "seam": round(seam, 3),
        "smooth": seam < _SEAM_LIMIT,
    }


def _mean_color(values: NDArray[np.float32], where: NDArray[np.bool_]) -> list[float] | None:
    return [round(float(v), 1) for v in values[where].mean(axis=0)] if where.any() else None
