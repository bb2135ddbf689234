"""Reading and writing .obj text, every vertex in its row (trimesh renumbers unused ones)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class ObjData(NamedTuple):
    """What an .obj file holds.

    Attributes:
        vertices: (V,3), first those of the file in its order, then the copies that seams need.
        faces: (F,3) int64; polygons are split into fans.
        uv: (V,2), 0 where unknown (vertices that no face uses); None if the faces name none.
        colors: (V,3), None if not every vertex has one.
        texture: the image of the first material that has one.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    uv: NDArray[np.float64] | None
    colors: NDArray[np.float64] | None
    texture: Path | None


class ObjTopology(NamedTuple):
    """An .obj file as it is written, with seams.

    Attributes:
        vertices: (V,3).
        faces: (F,3) int64 rows of `vertices`; polygons are split into fans.
        uv: (U,2).
        faces_uv: (F,3) int64 rows of `uv`, -1 where a corner has none.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    uv: NDArray[np.float64]
    faces_uv: NDArray[np.int64]


class _Lines(NamedTuple):
    points: list[list[float]]
    texture_points: list[list[float]]
    corners: list[tuple[int, int]]  # three a triangle: vertex, texture point or -1
    libraries: list[str]


def obj_text(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int64],
    uv: NDArray[np.float32] | None = None,
    colors: NDArray[np.float32] | None = None,
    material: tuple[str, str] | None = None,
) -> str:
    """Return the text of an .obj file; each vertex has its own texture coordinate.

    Args:
        vertices: (V,3).
        faces: (F,3).
        uv: (V,2), u right, v up.
        colors: (V,3) in [0,1], appended to the vertices' lines, as most readers understand.
        material: names of the material file and of the material in it.
    """
    rows = vertices if colors is None else np.column_stack([vertices, colors])
    line = "v" + " %.6f" * 3 + " %.4f" * (rows.shape[1] - 3) + "\n"
    head = "" if material is None else f"mtllib {material[0]}\n"
    parts = [head, (line * len(rows)) % tuple(rows.ravel().tolist())]
    if uv is not None:
        parts.append(("vt %.7f %.7f\n" * len(uv)) % tuple(uv.ravel().tolist()))
    parts.append("" if material is None else f"usemtl {material[1]}\n")
    parts.append(_face_lines(faces.astype(np.int64).tobytes(), uv is not None))
    return "".join(parts)


@lru_cache(maxsize=4)
def _face_lines(faces: bytes, with_uv: bool) -> str:
    """Return the lines of the faces (bytes of int64); all faces of a run share them."""
    index = np.frombuffer(faces, np.int64).reshape(-1, 3) + 1
    if not with_uv:
        return ("f %d %d %d\n" * len(index)) % tuple(index.ravel().tolist())
    values = tuple(np.repeat(index, 2, axis=1).ravel().tolist())
    return ("f %d/%d %d/%d %d/%d\n" * len(index)) % values


def read_obj(path: Path) -> ObjData:
    """Read an .obj file; a vertex with several texture coordinates becomes several vertices.

    Raises:
        FileNotFoundError: a material file or texture that it names is missing.
        ValueError: a line that cannot be parsed; the message names file and line.
    """
    points, texture_points, corners, libraries = _read_lines(path)
    with_color = bool(points) and all(len(point) == 6 for point in points)
    table = np.array([point[:6] if with_color else point[:3] for point in points])
    table = table.reshape(len(points), 6 if with_color else 3)
    index = np.array(corners, dtype=np.int64).reshape(-1, 2)
    faces, origin, uv = _split_seams(index, np.array(texture_points).reshape(-1, 2), len(points))
    table = table[origin]
    texture = _texture(path, libraries)
    return ObjData(table[:, :3], faces, uv, table[:, 3:] if with_color else None, texture)


def read_obj_topology(path: Path) -> ObjTopology:
    """Read an .obj file without giving vertices at seams copies.

    Raises:
        ValueError: a line that cannot be parsed; the message names file and line.
    """
    lines = _read_lines(path)
    corners = np.array(lines.corners, dtype=np.int64).reshape(-1, 3, 2)
    points = np.array([point[:3] for point in lines.points]).reshape(-1, 3)
    uv = np.array(lines.texture_points).reshape(-1, 2)
    return ObjTopology(points, corners[..., 0], uv, corners[..., 1])


def _read_lines(path: Path) -> _Lines:
    """Parse what `read_obj` uses."""
    points: list[list[float]] = []
    texture_points: list[list[float]] = []
    corners: list[tuple[int, int]] = []
    libraries: list[str] = []
    with path.open(errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            words = line.split()
            try:
                if not words:
                    continue
                if words[0] == "v":
                    points.append([float(word) for word in words[1:7]])
                elif words[0] == "vt":
                    texture_points.append([float(word) for word in words[1:3]])
                elif words[0] == "f":
                    counts = len(points), len(texture_points)
                    polygon = [_corner(word, *counts) for word in words[1:]]
                    for last in range(2, len(polygon)):
                        corners += [polygon[0], polygon[last - 1], polygon[last]]
                elif words[0] == "mtllib":
                    libraries.append(line.split(maxsplit=1)[1].strip())
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path}, line {number}: {line.strip()!r} ({error}).") from error
    return _Lines(points, texture_points, corners, libraries)


def _corner(word: str, points: int, texture_points: int) -> tuple[int, int]:
    """Parse `vertex`, `vertex/texture` or `vertex/texture/normal`; negative counts from the end."""
    parts = word.split("/")
    indices = []
    for text, count in zip((*parts, "")[:2], (points, texture_points), strict=True):
        index = int(text) if text else 0
        index = index - 1 if index >= 0 else count + index
        if index >= count or (index < 0 and text):
            raise ValueError(f"corner {word} names a row that is not there")
        indices.append(index)
    return indices[0], indices[1]


def _split_seams(
    corners: NDArray[np.int64], texture_points: NDArray[np.float64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64] | None]:
    """Return faces, the file's vertex of each vertex, and uv, giving each vertex one uv."""
    if not len(corners) or (corners[:, 1] < 0).any():
        return corners[:, 0].reshape(-1, 3), np.arange(count), None
    pairs, inverse = np.unique(corners, axis=0, return_inverse=True)
    first = np.append(True, pairs[1:, 0] != pairs[:-1, 0])  # each vertex's first pair keeps its row
    row = np.where(first, pairs[:, 0], count - 1 + np.cumsum(~first))
    uv = np.zeros((count + int((~first).sum()), 2))
    if len(texture_points) == count:  # then they go with the vertices that no face uses, too
        uv[:count] = texture_points
    uv[row] = texture_points[pairs[:, 1]]
    origin = np.concatenate([np.arange(count), pairs[~first, 0]])
    return row[inverse.reshape(-1)].reshape(-1, 3), origin, uv


def _texture(path: Path, libraries: list[str]) -> Path | None:
    """Find the first diffuse texture that the material files name."""
    for name in libraries:
        library = path.parent / name
        if not library.is_file():
            raise FileNotFoundError(f"{path} names the material file {library}, which is missing.")
        for line in library.read_text(errors="replace").splitlines():
            words = line.split(maxsplit=1)
            if len(words) == 2 and words[0].lower() == "map_kd":
                texture = library.parent / words[1].strip().replace("\\", "/")
                if not texture.is_file():
                    raise FileNotFoundError(f"{library} names {texture}, which is missing.")
                return texture
    return None
