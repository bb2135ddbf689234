"""Texture spaces in files: FLAME's own, converted Basel colours, AlbedoMM; and FLAME's written."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from numpy.lib import format as npy_format
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.uv import centred_resampling
from lit_face.io.files import atomic_write, cache_root
from lit_face.morphable_models.texture_space import (
    LinearLightSpace,
    TextureSpace,
)

Resize = Literal["area", "nearest"]
Floats = NDArray[np.floating[Any]]

_GLOSSY = 0.6  # of diffuse plus specular albedo, as AlbedoMM's authors show it
_LARGE = 100_000_000  # bytes; smaller files are read each time
_WANTED = (
    "'mean' and 'tex_dir' (FLAME's texture space), 'MU' and 'PC' (converted Basel Face Model), or "
    "'MU', 'PC', 'specMU' and 'specPC' (AlbedoMM)"
)


def read_texture_space(
    path: str | Path, size: int = 256, components: int | None = None, resize: Resize = "area"
) -> TextureSpace:
    """Read a texture space; its keys say which kind it is.

    The file is read row by row, so memory stays near that of the result. Colours in files are
    blue, green, red.

    Args:
        path: .npz with 'mean' (S,S,3) and 'tex_dir' (S,S,3,K), 0 to 255; or with 'MU' and 'PC',
            0 to 1, flat or not; with 'specMU' and 'specPC' also, these are linear light.
        size: side of the maps, texels.
        components: leading ones to keep; all without it.
        resize: 'area' averages; 'nearest' picks texels floor(i S / size), as the reference does.

    Returns:
        In sRGB; that of AlbedoMM is a `LinearLightSpace`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names the keys that are missing or misshapen.
    """
    maps, glossy = read_texture_maps(path, size, components, resize)
    kind = LinearLightSpace if glossy else TextureSpace
    return kind(maps[0].clone(), maps[1:], _coverage(Path(path), size), Path(path).stem)


def read_texture_maps(
    path: str | Path, size: int, components: int | None = None, resize: Resize = "area"
) -> tuple[Tensor, bool]:
    """Read mean and components alone: (1+K,3,size,size), and whether they are in linear light.

    Arguments and errors as of `read_texture_space`. What comes of large files is kept in the cache.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No texture space at {path}: set the option to a .npz with {_WANTED}; see "
            "docs/data/flame.md."
        )
    state = path.stat()
    if state.st_size < _LARGE:
        return _opened(path, size, components, resize)
    key = f"{path.resolve()} {state.st_mtime_ns} {state.st_size} {size} {components} {resize}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    kept = cache_root() / f"texture-{path.stem}-{digest}.npz"
    if not kept.is_file():
        maps, glossy = _opened(path, size, components, resize)
        with atomic_write(kept) as temporary:
            np.savez(temporary, maps=maps.numpy(), glossy=glossy)
    with np.load(kept, allow_pickle=False) as stored:
        return torch.from_numpy(stored["maps"]), bool(stored["glossy"])


def _opened(path: Path, size: int, components: int | None, resize: Resize) -> tuple[Tensor, bool]:
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path, size, components, resize)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no .npz file ({error}).") from error


def _read(
    archive: zipfile.ZipFile, path: Path, size: int, components: int | None, resize: Resize
) -> tuple[Tensor, bool]:
    keys = {name[:-4] for name in archive.namelist() if name.endswith(".npy")}
    pairs = [p for p in (("mean", "tex_dir"), ("MU", "PC")) if set(p) <= keys]
    if not pairs:
        raise ValueError(
            f"{path} is no texture space: expected {_WANTED}; found {', '.join(sorted(keys))}."
        )
    mean_key, basis_key = pairs[0]
    glossy = mean_key == "MU" and {"specMU", "specPC"} <= keys
    names = [(mean_key, basis_key), ("specMU", "specPC")][: 2 if glossy else 1]
    maps: list[Floats] = []
    for mean_name, basis_name in names:
        rows = _Rows(archive, path, size, resize)
        mean = rows(mean_name, None)
        basis = rows(basis_name, components)
        if mean.shape[2] != 3 or basis.shape[2] % 3:
            raise ValueError(f"{path}: '{mean_name}' and '{basis_name}' should have three colours.")
        maps.append(np.concatenate([mean[..., None], basis.reshape(size, size, 3, -1)], axis=3))
    total = _summed(maps)
    scale = 1 / 255 if mean_key == "mean" else _GLOSSY if glossy else 1.0
    textures = torch.from_numpy(np.ascontiguousarray(total[:, :, ::-1].transpose(3, 2, 0, 1)))
    textures *= scale
    return textures, glossy


def write_texture_space(
    path: str | Path,
    mean: Floats,
    tex_dir: Floats,
    vt: Floats,
    ft: NDArray[np.integer[Any]],
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a texture space as FLAME's is: a .npz with mean, tex_dir, vt and ft.

    Args:
        path: .npz.
        mean: (S,S,3) 0 to 255, **blue, green, red**, row 0 is v = 1.
        tex_dir: (S,S,3,K) a standard deviation, likewise.
        vt: (T,2) texture coordinates, u right, v up.
        ft: (F,3) rows of `vt` of each face.
        extra: further keys: arrays, or anything that JSON can hold (stored as its text).

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.
    """
    path = Path(path)
    if mean.ndim != 3 or mean.shape[0] != mean.shape[1] or mean.shape[2] != 3:
        raise ValueError(f"'mean' should be (S,S,3), found {mean.shape}.")
    if tex_dir.ndim != 4 or tex_dir.shape[:3] != mean.shape:
        raise ValueError(f"'tex_dir' should be {(*mean.shape, 'K')}, found {tex_dir.shape}.")
    if vt.ndim != 2 or vt.shape[1] != 2 or ft.ndim != 2 or ft.shape[1] != 3:
        raise ValueError(f"'vt' should be (T,2) and 'ft' (F,3), found {vt.shape} and {ft.shape}.")
    if not (np.isfinite(mean).all() and np.isfinite(tex_dir).all()):
        raise ValueError(f"{path}: the texture space has values that are not finite.")
    arrays: dict[str, Any] = {
        "mean": mean.astype(np.float32, copy=False),
        "tex_dir": tex_dir.astype(np.float32, copy=False),
        "vt": vt,
        "ft": ft.astype(np.uint32),
    }
    for key, value in (extra or {}).items():
        if key in arrays:
            raise ValueError(f"the extra key '{key}' is one of the format's own.")
        plain = isinstance(value, np.ndarray | np.generic | int | float | str)
        arrays[key] = value if plain else json.dumps(value)
    with atomic_write(path) as temporary:
        np.savez(temporary, **arrays)
    return path


def save_texture_space(
    path: str | Path,
    space: TextureSpace,
    uv: Tensor,
    faces: Tensor,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a `TextureSpace`, with the texture coordinates (V,2) and faces (F,3) of its mesh."""
    mean = space.mean.flip(0).permute(1, 2, 0).cpu().numpy() * np.float32(255)
    basis = space.basis.flip(1).permute(2, 3, 1, 0).cpu().numpy() * np.float32(255)
    return write_texture_space(path, mean, basis, uv.cpu().numpy(), faces.cpu().numpy(), extra)


class _Rows:
    """Reads a member of a .npz image row by image row, resized, without holding all of it."""

    def __init__(self, archive: zipfile.ZipFile, path: Path, size: int, resize: Resize) -> None:
        self.archive, self.path, self.size, self.resize = archive, path, size, resize

    def __call__(self, name: str, components: int | None) -> Floats:
        """Return (size,size,3) or, flat over colours and components, (size,size,3k)."""
        with self.archive.open(f"{name}.npy") as stream:
            shape, fortran, dtype = _header(stream, f"{self.path}: '{name}'")
            last = shape[-1] if self._has_components(name, shape) else None
            total = int(np.prod(shape)) // (last or 1)
            side = round((total / 3) ** 0.5)
            if side * side * 3 != total or dtype.kind not in "fiu" or side < 1:
                raise ValueError(
                    f"{self.path}: '{name}' should be (S,S,3{',K' if last else ''}) or (3 S S"
                    f"{',K' if last else ''}) numbers, found {shape} {dtype}."
                )
            kept = last if last is None or components is None else min(components, last)
            if fortran:
                whole = np.frombuffer(stream.read(), dtype).reshape(shape, order="F")
                rows: Callable[[], Floats] = iter(whole.reshape(side, -1)).__next__
            else:
                width = side * 3 * (last or 1)
                rows = lambda: np.frombuffer(stream.read(width * dtype.itemsize), dtype)  # noqa: E731
            return self._resized(rows, side, last, kept)

    @staticmethod
    def _has_components(name: str, shape: tuple[int, ...]) -> bool:
        return name in ("tex_dir", "PC", "specPC") and len(shape) > 1

    def _resized(
        self, rows: Callable[[], Floats], side: int, last: int | None, kept: int | None
    ) -> Floats:
        shares = resize_weights(side, self.size, self.resize)
        out = np.zeros((self.size, self.size, 3 * (1 if kept is None else kept)), np.float32)
        for number in range(side):
            row = rows()
            used = np.flatnonzero(shares[:, number])
            if not len(used):
                continue
            row = row.reshape(side, 3, -1)[..., :kept].reshape(side, -1).astype(np.float32)
            narrow = self._narrowed(row, shares)
            for target in used:
                out[target] += shares[target, number] * narrow
        return out

    def _narrowed(self, row: Floats, shares: NDArray[np.float32]) -> Floats:
        """Resize one row of texels (S,C) to (size,C)."""
        if self.resize == "nearest":
            return row[np.arange(self.size) * len(row) // self.size]
        if len(row) % self.size:
            wide: Floats = shares @ row
            return wide
        mean: Floats = row.reshape(self.size, -1, row.shape[1]).mean(1)
        return mean


def resize_weights(source: int, size: int, resize: Resize) -> NDArray[np.float32]:
    """Return the matrix (size,source) that resizes a row of texels; each row sums to 1.

    Args:
        source: texels of the file.
        size: texels wanted.
        resize: 'area' (overlap of texels) or 'nearest' (texel floor(i source / size)).

    Raises:
        ValueError: another name.
    """
    if resize == "nearest":
        picked = np.arange(size) * source // size
        return np.eye(source, dtype=np.float32)[picked]
    if resize != "area":
        raise ValueError(f"resize should be 'area' or 'nearest', found {resize!r}.")
    edges = np.arange(size + 1) * (source / size)
    texels = np.arange(source)
    low = np.maximum(edges[:-1, None], texels[None])
    high = np.minimum(edges[1:, None], texels[None] + 1)
    overlap = np.maximum(high - low, 0)
    shares: NDArray[np.float32] = (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)
    return shares


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(stream)  # type: ignore[no-untyped-call]
    reader = {
        (1, 0): npy_format.read_array_header_1_0,
        (2, 0): npy_format.read_array_header_2_0,
    }.get(version)
    if reader is None:
        raise ValueError(f"{name} has an unknown version of numpy's format: {version}.")
    shape, fortran, dtype = reader(stream)  # type: ignore[no-untyped-call]
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects, expected numbers.")
    return shape, fortran, dtype


def _summed(maps: list[Floats]) -> Floats:
    """Add the maps of several parts; where one has fewer components, its missing ones are 0."""
    most = max(part.shape[3] for part in maps)
    total = np.zeros((*maps[0].shape[:3], most), np.float32)
    for part in maps:
        total[..., : part.shape[3]] += part
    return total


def _coverage(path: Path, size: int) -> Tensor:
    """Return the texels that faces cover; all of them where the file does not say."""
    with np.load(path, allow_pickle=False) as stored:
        if not {"vt", "ft"} <= set(stored.files):
            return torch.ones(size, size, dtype=torch.bool)
        vt = torch.from_numpy(stored["vt"].astype(np.float32))
        ft = torch.from_numpy(stored["ft"].astype(np.int64))
    return centred_resampling(vt, ft, size).mask.bool()
