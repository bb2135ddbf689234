"""UV maps of a processed FaceScape folder: position, normal, true displacement, visibility.

Everything is in the units of the cameras; where a scan is missing there is no displacement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.facescape_fit import Progress, fit_base_meshes
from lit_face.data.facescape_layout import FaceScapeFolder, MapKind, ViewCameras
from lit_face.geometry.line_query import signed_distance_along
from lit_face.geometry.uv_template import TemplateTexels, base_maps, rasterize_template
from lit_face.io.files import atomic_write
from lit_face.io.meshes import read_mesh
from lit_face.io.obj import read_obj_topology
from lit_face.rendering.view_visibility import view_visibility

__all__ = ["MapOptions", "SampleMaps", "Template", "fit_base_meshes", "read_template",
           "sample_maps", "write_maps"]  # fmt: skip

Array = NDArray[Any]

VERSION = 1  # of what the maps hold; another number, other maps


@dataclass(frozen=True)
class MapOptions:
    """How maps are made.

    Attributes:
        size: side of the template's map, texels; the core is half as wide.
        kernel: smooths normals, texels; None for 21 at 512, scaled.
        renormalise: give smoothed normals length 1; the reference does not.
        limit_mm: a scan further away than this is none.
    """

    size: int = 512
    kernel: int | None = None
    renormalise: bool = True
    limit_mm: float = 50.0


@dataclass(frozen=True, eq=False)
class Template:
    """The topology and the texels of a template.

    Attributes:
        path: the file, for messages.
        faces: (F,3) int64.
        texels: at `size`.
        vertex_count: vertices of every base mesh.
        digest: of the topology and UV coordinates.
    """

    path: Path
    faces: Array
    texels: TemplateTexels = field(repr=False)
    size: int
    vertex_count: int
    digest: str


class SampleMaps(NamedTuple):
    """Maps of one sample, as the files have them.

    Attributes:
        position: (S,S,3) float32.
        normal: (S,S,3) float32.
        visibility: (N,S,S) uint8, 1 = seen.
        displacement: (S,S) float32, along the normal to the scan; 0 where it is not valid.
        valid: (S,S) bool, whether the scan says.
    """

    position: Array
    normal: Array
    visibility: Array
    displacement: Array | None
    valid: Array | None

    def files(self) -> Iterator[tuple[MapKind, Array]]:
        """Yield kind and content of the files."""
        yield "pos_map", self.position
        yield "norm_map", self.normal
        yield "visibility_map", self.visibility
        if self.displacement is not None and self.valid is not None:
            yield "mv_map", self.displacement
            yield "valid_map", self.valid


def read_template(path: Path, size: int = 512) -> Template:
    """Read a template with UV coordinates and find its texels.

    Raises:
        DatasetNotFoundError: no such file.
        ValueError: corners without UV coordinates; the message names the file.
    """
    if not path.is_file():
        raise DatasetNotFoundError(f"{path}: no template; maps need an OBJ file with UV.")
    mesh = read_obj_topology(path)
    if not len(mesh.faces) or mesh.faces_uv.min() < 0:
        raise ValueError(f"{path}: every corner of a template needs a texture coordinate (vt).")
    texels = rasterize_template(mesh.uv, mesh.faces_uv, mesh.faces, size)
    if not len(texels.rows):
        raise ValueError(f"{path}: its triangles cover no texel of {size} x {size}.")
    digest = _digest(mesh.faces, mesh.uv, mesh.faces_uv)
    return Template(path, mesh.faces, texels, size, len(mesh.vertices), digest)


def sample_maps(
    vertices: Array,
    template: Template,
    cameras: ViewCameras,
    scan: tuple[Array, Array] | None = None,
    limit: float = np.inf,
    options: MapOptions | None = None,
) -> SampleMaps:
    """Make the maps of one sample.

    Args:
        vertices: (V,3) of the base mesh, world frame.
        template: with the texels of `options.size`.
        cameras: of the views.
        scan: vertices and faces of the true surface.
        limit: a scan further away is none, in the units of the vertices.
        options: how.

    Raises:
        ValueError: other vertices than the template has, or values that are not finite.
    """
    options = options or MapOptions(template.size)
    if vertices.shape != (template.vertex_count, 3) or not np.isfinite(vertices).all():
        raise ValueError(
            f"A base mesh should have the {template.vertex_count} finite vertices of "
            f"{template.path}, found {vertices.shape}."
        )
    maps = base_maps(
        vertices, template.faces, template.texels, options.size, None, options.kernel,
        options.renormalise,
    )  # fmt: skip
    seen = view_visibility(
        maps.position, maps.normal, cameras.K, cameras.Rt, cameras.heights, cameras.widths,
        vertices, template.faces,
    )  # fmt: skip
    if scan is None:
        return SampleMaps(maps.position, maps.normal, seen, None, None)
    there = maps.position.any(axis=2)
    points, normals = maps.position[there], maps.normal[there]
    along, is_hit = signed_distance_along(points, normals, *scan, limit)
    displacement = np.zeros(there.shape, np.float32)
    valid = np.zeros(there.shape, bool)
    displacement[there], valid[there] = along, is_hit
    return SampleMaps(maps.position, maps.normal, seen, displacement, valid)


def write_maps(
    folder: FaceScapeFolder,
    template: Path | None = None,
    samples: Sequence[str] | None = None,
    workers: int = 0,
    options: MapOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Make the maps of a folder; what was made from the same files stays.

    Beside the position map lies `<its name>.json` with a digest of template, base mesh, scan,
    cameras and options: maps of two generations are never mixed, for a change makes all anew.

    Args:
        folder: processed, with base meshes; scans are optional.
        template: OBJ file with UV; None for the folder's.
        samples: names; None for all.
        workers: processes; 0 works in this one.
        options: how.
        overwrite: make what is there, too.
        progress: is called after each sample.

    Returns:
        The samples of which maps were made.

    Raises:
        DatasetNotFoundError: no template or base mesh.
        ValueError: names the file.
    """
    options = options or MapOptions()
    read = read_template(folder.template_file if template is None else template, options.size)
    names = folder.ids() if samples is None else list(samples)
    todo = [name for name in names if overwrite or not _is_current(folder, name, read, options)]
    if workers < 1:
        for done, name in enumerate(todo, start=1):
            _write_sample(folder, name, read, options)
            if progress is not None:
                progress(done, len(todo), name)
        return todo
    # Not forked: the parent may have threads of torch and Embree.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(_write_sample, folder, name, read, options): name for name in todo}
        with _cancelled_on_error(pool):
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                if progress is not None:
                    progress(done, len(todo), jobs[job])
    return todo


def read_scan(path: Path) -> tuple[Array, Array]:
    """Read a scan's vertices (V,3) float64 and faces (F,3).

    Raises:
        ValueError: not a mesh, or vertices that are not finite; the message names the file.
    """
    mesh = read_mesh(path)
    bad = ~np.isfinite(mesh.vertices).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{path}: {int(bad.sum())} of {len(bad)} vertices are not finite, the first one is "
            f"number {int(bad.argmax())}."
        )
    return mesh.vertices.astype(np.float64), mesh.faces


def read_base_mesh(path: Path, template: Template) -> Array:
    """Read the vertices (V,3) of a base mesh, float32 values in float64.

    Raises:
        DatasetNotFoundError: no such file.
        ValueError: other vertices than the template's.
    """
    if not path.is_file():
        raise DatasetNotFoundError(f"{path}: no base mesh; fit it first.")
    vertices = read_obj_topology(path).vertices.astype(np.float32).astype(np.float64)
    if len(vertices) != template.vertex_count or not np.isfinite(vertices).all():
        raise ValueError(
            f"{path}: should have the {template.vertex_count} finite vertices of "
            f"{template.path}, found {len(vertices)}."
        )
    return vertices


def _write_sample(
    folder: FaceScapeFolder, name: str, template: Template, options: MapOptions
) -> None:
    digest = _sample_digest(folder, name, template, options)
    vertices = read_base_mesh(folder.base_mesh_file(name), template)
    cameras = folder.cameras(name, folder.views(name))
    scan_file = folder.scan_file(name)
    scan = read_scan(scan_file) if scan_file.is_file() else None
    limit = options.limit_mm / folder.scale(name)
    stamp = _stamp_file(folder, name)
    stamp.unlink(missing_ok=True)  # until all maps are there
    maps = sample_maps(vertices, template, cameras, scan, limit, options)
    for kind, content in maps.files():
        with atomic_write(folder.map_file(kind, name)) as temporary:
            np.save(temporary, content, allow_pickle=False)
    if scan is None:
        for kind in ("mv_map", "valid_map"):
            folder.map_file(kind, name).unlink(missing_ok=True)
    with atomic_write(stamp) as temporary:
        facts = {"digest": digest, "version": VERSION, "options": asdict(options)}
        temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def maps_digest(folder: FaceScapeFolder, name: str) -> str | None:
    """Return the digest of a sample's maps, to be kept with what is learnt from them."""
    path = _stamp_file(folder, name)
    if not path.is_file():
        return None
    return str(json.loads(path.read_text(encoding="utf-8")).get("digest"))


def _is_current(
    folder: FaceScapeFolder, name: str, template: Template, options: MapOptions
) -> bool:
    if maps_digest(folder, name) != _sample_digest(folder, name, template, options):
        return False
    kinds: list[MapKind] = ["pos_map", "norm_map", "visibility_map"]
    kinds += ["mv_map", "valid_map"] if folder.scan_file(name).is_file() else []
    return all(folder.map_file(kind, name).is_file() for kind in kinds)


def _sample_digest(
    folder: FaceScapeFolder, name: str, template: Template, options: MapOptions
) -> str:
    base, scan = folder.base_mesh_file(name), folder.scan_file(name)
    if not base.is_file():
        raise DatasetNotFoundError(f"{base}: no base mesh; fit it first.")
    views = folder.views(name)
    cameras = folder.cameras(name, views)
    facts = [VERSION, asdict(options), template.digest, views, folder.scale(name)]
    text = json.dumps(facts).encode()
    scanned = scan.read_bytes() if scan.is_file() else b""
    return _digest(np.frombuffer(text, np.uint8), *cameras, base.read_bytes(), scanned)


def _digest(*parts: Array | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes()
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()


def _stamp_file(folder: FaceScapeFolder, name: str) -> Path:
    return folder.map_file("pos_map", name).with_suffix(".json")


@contextmanager
def _cancelled_on_error(pool: ProcessPoolExecutor) -> Iterator[None]:
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
