"""ICT-FaceKit's OBJ folder as released (FaceXModel), packed into the one .npz that is read.

To do it by hand, for machines that should not hold 400 MB of text:

    python -m lit_face.morphable_models.ict_obj FaceXModel ict_facekit.npz
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.io.files import atomic_write, cache_root

log = logging.getLogger(__name__)

Array = NDArray[Any]

NEUTRAL, INDICES = "generic_neutral_mesh.obj", "vertex_indices.json"
_NOISE_CM = 1e-5  # smaller deltas are rounding of the text
_LANDMARKS = 68
_WHERE = "get the folder FaceXModel of the public repository ICT-VGL/ICT-FaceKit (MIT licence)"


def find_obj_folder(root: str | Path) -> Path | None:
    """Return the folder with generic_neutral_mesh.obj: `root` or its FaceXModel, if any."""
    root = Path(root)
    for folder in (root, root / "FaceXModel"):
        if (folder / NEUTRAL).is_file():
            return folder
    return None


def packed(folder: str | Path) -> Path:
    """Return the .npz of an OBJ folder; the first call makes it in the cache (some seconds).

    Raises:
        FileNotFoundError, ValueError: see `read_obj_folder`.
    """
    folder = Path(folder)
    digest = hashlib.sha256(str(folder.resolve()).encode())
    for path in sorted(folder.glob("*.obj")):
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    target = cache_root() / f"ict_facekit-obj-{digest.hexdigest()[:12]}.npz"
    if not target.is_file():
        log.info("Packing %s (once) into %s", folder, target)
        write_packed(read_obj_folder(folder), target)
    return target


def read_obj_folder(folder: str | Path) -> dict[str, Array]:
    """Read the folder: the fields of `ict_facekit.npz` that the model needs, same order and unit.

    Quads (a, b, c, d) become (a, b, c), (a, c, d); a delta is a target minus the neutral mesh.

    Args:
        folder: with generic_neutral_mesh.obj, identity000.obj and so on, one .obj an expression,
            and vertex_indices.json.

    Raises:
        FileNotFoundError: names every file that is missing.
        ValueError: a file that is damaged or of another topology.
    """
    folder = Path(folder)
    for name in (NEUTRAL, INDICES):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"ICT-FaceKit: no file {folder / name}; {_WHERE}.")
    indices = _read_indices(folder / INDICES)
    identities = sorted(p.stem for p in folder.glob("identity*.obj") if re.search(r"\d+$", p.stem))
    expressions = [str(name) for name in indices["expressions"]]
    missing = [name for name in expressions if not (folder / f"{name}.obj").is_file()]
    missing += [] if identities else ["identity000"]
    if missing:
        listing = ", ".join(f"{name}.obj" for name in missing)
        raise FileNotFoundError(f"ICT-FaceKit: {folder} lacks {listing}; {_WHERE}.")
    text = (folder / NEUTRAL).read_text(errors="replace")
    neutral, uv = _numbers(text, "v", 3), _numbers(text, "vt", 2)
    faces, uv_faces = _triangles(folder / NEUTRAL, text, len(neutral), len(uv))
    landmarks = np.asarray(indices["idx_to_landmark_verts"], dtype=np.int32)
    if landmarks.shape != (_LANDMARKS,) or landmarks.min() < 0 or landmarks.max() >= len(neutral):
        raise ValueError(
            f"{folder / INDICES}: 'idx_to_landmark_verts' should be 68 vertices of "
            f"{len(neutral)}, found {landmarks.shape}."
        )
    return {
        "neutral": neutral,
        "faces": faces,
        "uv": uv,
        "uv_faces": uv_faces,
        "identity_deltas": _deltas(folder, identities, neutral),
        "identity_names": np.array(identities),
        "expression_deltas": _deltas(folder, expressions, neutral),
        "expression_names": np.array(expressions),
        "landmarks68": landmarks,
        "unit": np.array("cm"),
    }


def write_packed(arrays: Mapping[str, Array], path: str | Path) -> None:
    """Write the arrays as `ict_facekit.npz`: compressed, deltas in half precision (0.01 mm)."""
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m lit_face.morphable_models.ict_obj",
        description="Pack ICT-FaceKit's OBJ folder into one .npz.",
    )
    parser.add_argument("folder", help="FaceXModel, as released")
    parser.add_argument("out", help="the .npz file")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arrays = read_obj_folder(options.folder)
    write_packed(arrays, options.out)
    log.info(
        "Wrote %s: %d vertices, %d identities, %d expressions.", options.out,
        len(arrays["neutral"]), len(arrays["identity_deltas"]), len(arrays["expression_deltas"]),
    )  # fmt: skip


def _read_indices(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        wanted = ("expressions", "idx_to_landmark_verts")
        return {name: content[name] for name in wanted}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not ICT-FaceKit's vertex_indices.json ({type(error).__name__}: {error})."
        ) from error


def _numbers(text: str, word: str, columns: int) -> NDArray[np.float32]:
    """Return the numbers (N,columns) of the lines that start with a word."""
    lines = re.findall(rf"^{word}[ \t]+([^\n]+)$", text, flags=re.MULTILINE)
    try:
        table = np.array(" ".join(lines).split(), dtype=np.float64)
        return table.reshape(len(lines), -1)[:, :columns].astype(np.float32)
    except ValueError:
        return np.zeros((0, columns), np.float32)


def _triangles(
    path: Path, text: str, vertices: int, texture_points: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    corners: list[tuple[int, int]] = []
    for line in re.findall(r"^f[ \t]+([^\n]+)$", text, flags=re.MULTILINE):
        words = line.split()
        try:
            polygon = [(int(a) - 1, int(b) - 1) for a, b in (w.split("/")[:2] for w in words)]
        except ValueError as error:
            raise ValueError(f"{path}: the face 'f {line}' should be v/vt v/vt v/vt.") from error
        for last in range(2, len(polygon)):
            corners += [polygon[0], polygon[last - 1], polygon[last]]
    index = np.array(corners, dtype=np.int32).reshape(-1, 3, 2)
    if not len(index) or index.min() < 0:
        raise ValueError(f"{path}: no faces that can be read.")
    if index[..., 0].max() >= vertices or index[..., 1].max() >= texture_points:
        raise ValueError(
            f"{path}: faces name vertex {index[..., 0].max() + 1} of {vertices} and texture point "
            f"{index[..., 1].max() + 1} of {texture_points}: the file is truncated. {_WHERE}."
        )
    return index[..., 0].copy(), index[..., 1].copy()


def _deltas(folder: Path, names: Sequence[str], neutral: Array) -> NDArray[np.float16]:
    deltas = np.zeros((len(names), *neutral.shape), np.float16)
    for row, name in enumerate(names):
        path = folder / f"{name}.obj"
        vertices = _numbers(path.read_text(errors="replace"), "v", 3)
        if vertices.shape != neutral.shape:
            raise ValueError(
                f"{path}: {len(vertices)} vertices, {NEUTRAL} has {len(neutral)}. {_WHERE}."
            )
        delta = vertices.astype(np.float64) - neutral
        delta[np.abs(delta) < _NOISE_CM] = 0
        deltas[row] = delta
    return deltas


if __name__ == "__main__":
    main()
