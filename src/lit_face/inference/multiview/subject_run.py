"""One subject through the chain, stage by stage; what is done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lit_face.data.facescape_dataset import FaceScapeViews
from lit_face.data.facescape_fit import fit_base_meshes
from lit_face.data.facescape_layout import SELECT_FILE, FaceScapeFolder, MapKind
from lit_face.data.facescape_maps import MapOptions, read_scan, write_maps
from lit_face.data.facescape_raw import OWN_CAPTURE
from lit_face.geometry.detailed_mesh import DetailedMesh, tangent_normals
from lit_face.inference.multiview.chain import MultiviewChain
from lit_face.inference.multiview.landmarks import find_landmarks
from lit_face.inference.multiview.relief import (
    full_batch,
    surface_maps,
    surface_mesh,
    surface_texture,
)
from lit_face.inference.multiview.stages import Progress, Stages
from lit_face.inference.multiview.subject import Subject, check_subject, prepare_subject
from lit_face.inference.multiview.subject_result import SubjectResult
from lit_face.io.displacement_maps import (
    CANVAS,
    core_box,
    encode_displacement,
    write_displacement_map,
)
from lit_face.io.files import atomic_write
from lit_face.io.images import read_image, write_image
from lit_face.io.meshes import Mesh, write_mesh
from lit_face.metrics.scan_distance import Surface, closest_points, compare
from lit_face.rendering.drawing import to_pixels
from lit_face.types import FaceBatch

Array = NDArray[np.float32]
Tell = Callable[[int, int], None]

_NAME = OWN_CAPTURE


class SubjectRun:
    """Takes one subject through a chain.

    Args:
        chain: trained methods and options.
        subject: from `find_subject`.
        folder: of results; intermediate ones lie in `stages` there, a processed folder with the
            sample `OWN_CAPTURE`.
        report: is told of progress.
    """

    def __init__(
        self, chain: MultiviewChain, subject: Subject, folder: Path, report: Progress
    ) -> None:
        self.chain, self.subject, self.folder = chain, subject, folder
        self.work = FaceScapeFolder(folder / "stages")
        self.stages = Stages(folder, subject.digest(), report)
        self.found = SubjectResult(folder, self.stages.records, self.stages.skipped)
        self._batches: dict[bool, FaceBatch] = {}
        self._textures: dict[int, Tensor] = {}

    def run(self) -> SubjectResult:
        """Run all stages.

        Raises:
            ValueError: what is wrong with the subject's files, before any stage starts.
        """
        check_subject(self.subject, self.chain.preparation, self.chain.options.views, self.folder)
        self._photos()
        self._base_mesh()
        self._implicit()
        if hasattr(self.chain.method, "regularized"):
            self._regularized()
        self._texture()
        if self.chain.relief is not None:
            self._relief()
        self._meshes()
        if self.subject.scan is not None:
            self._errors()
        return self.found

    def _photos(self) -> None:
        work, options, model = self.work, self.chain.preparation, self.chain.bilinear
        self.stages.run(
            "photos",
            [options.long_side, options.views, model.name],
            [work.params_file(_NAME), work.mask_file, work.template_file, *self._prepared()],
            lambda tell: prepare_subject(self.subject, work, options, model, tell),
        )
        finder = self.chain.finder
        if finder is not None:
            self.stages.run(
                "landmarks",
                [type(finder).__name__],
                [work.landmarks_file(_NAME)],
                lambda tell: find_landmarks(work, _NAME, work.views(_NAME), finder, tell),
            )

    def _prepared(self) -> list[Path]:
        """Return the photos that an earlier run has prepared."""
        if not (self.work.root / SELECT_FILE).is_file():
            return []
        return [self.work.image_file(_NAME, view) for view in self.work.views(_NAME)]

    def _base_mesh(self) -> None:
        work, model = self.work, self.chain.bilinear
        mesh, maps = work.base_mesh_file(_NAME), MapOptions(size=2 * self.chain.uv_size)
        kinds: list[MapKind] = ["pos_map", "norm_map", "visibility_map"]
        kinds += [] if self.subject.scan is None else ["mv_map", "valid_map"]
        report = mesh.with_suffix(".json")
        self.stages.run(
            "base mesh",
            [model.name],
            [mesh, report],
            lambda tell: fit_base_meshes(work, model, [_NAME]),
        )
        self.found.base = json.loads(report.read_text(encoding="utf-8"))
        self.stages.run(
            "UV maps",
            [maps.size],
            [work.map_file(kind, _NAME) for kind in kinds],
            lambda tell: write_maps(work, samples=[_NAME], options=maps),
        )

    def _implicit(self) -> None:
        method, volume_file = self.chain.method, self.work.volume_file(_NAME)
        map_file, views_file = self._file("implicit.npy"), self._file("views.json")

        def work(tell: Tell) -> None:
            batch = method.implicit.cropped(self._batch().to(self.chain.device))
            with torch.no_grad():
                seen = method.implicit.look(batch)
            volume = method.implicit(batch, tell, seen)
            reading = method.implicit.readings(volume, _mask(batch))["implicit"]
            agreement = method.implicit.agreement(batch, reading, seen)
            _write_array(volume_file, volume[0].half())
            _write_array(map_file, reading[0, 0])
            views = {name: value[0].tolist() for name, value in agreement._asdict().items()}
            with atomic_write(views_file) as temporary:
                temporary.write_text(json.dumps(views), encoding="utf-8")

        settings = [self.chain.weights, self.chain.data.get("image_scale")]
        self.stages.run("implicit", settings, [volume_file, map_file, views_file], work)
        apart, views = json.loads(views_file.read_text(encoding="utf-8")), self.work.views(_NAME)
        self.found.features = dict(zip(views, apart["features"], strict=True))
        self.found.brightness = dict(zip(views, apart["brightness"], strict=True))
        implicit = np.load(map_file)
        self.found.displacements = {"base": np.zeros_like(implicit), "implicit": implicit}

    def _regularized(self) -> None:
        map_file, device = self._file("regularized.npy"), self.chain.device

        def work(tell: Tell) -> None:
            volume = torch.from_numpy(np.load(self.work.volume_file(_NAME))).float()[None]
            mask = _mask(self._batch()).to(device)
            found = self.chain.method.regularized(volume.to(device), mask)
            _write_array(map_file, found[0, 0])

        self.stages.run("regularized", [], [map_file], work)
        self.found.displacements["regularized"] = np.load(map_file)

    def _texture(self) -> None:
        size = self.chain.options.texture_size

        def work(tell: Tell) -> None:
            write_image(self._texture_file, to_pixels(self._blended(size)[None])[0])

        self.stages.run("texture", [size], [self._texture_file], work)

    def _relief(self) -> None:
        network, size, file = self.chain.relief, self.chain.relief_size, self._file("relief.npy")
        assert network is not None

        def work(tell: Tell) -> None:
            with torch.no_grad():
                texture = self._blended(size)[None].to(self.chain.device)
                _write_array(file, network(texture)[0, 0])

        settings = [size, self.chain.relief_weights]
        self.stages.run("displacement", settings, [file], work)
        self.found.relief = np.load(file)

    def _meshes(self) -> None:
        relief, levels = self._relief_map, self.chain.options.subdivisions
        names = [*self.found.displacements, *(["displacement"] if relief is not None else [])]
        self.found.meshes = {name: self.folder / f"{name}.obj" for name in names}
        face, canvas = self.folder / "face.glb", self.folder / "displacement.png"
        files = [*self.found.meshes.values(), face, *([canvas] if relief is not None else [])]

        def work(tell: Tell) -> None:
            texture, batch = read_image(self._texture_file), self._batch()
            for done, (name, mesh) in enumerate(self._surfaces().items(), 1):
                self._write_mesh(self.found.meshes[name], mesh, texture)
                tell(done, len(files))
            normals = None
            if relief is None:
                for stale in self.folder.glob("displacement*"):  # of a run with relief
                    stale.unlink()
            else:
                surface = surface_maps(batch, self._last, len(relief))
                normals = to_pixels((tangent_normals(surface, relief) + 1)[None] / 2)[0]
                write_displacement_map(canvas, _on_canvas(relief))
            self._write_mesh(face, surface_mesh(batch, self._last), texture, normals)

        self.stages.run("meshes", [levels], files, work)

    def _errors(self) -> None:
        file = self._file("errors.npz")

        def work(tell: Tell) -> None:
            vertices, faces = read_scan(self.work.scan_file(_NAME))
            scan = Surface.of(vertices * self.work.scale(_NAME), faces)
            content: dict[str, Any] = {}
            surfaces = self._surfaces()
            for done, (name, mesh) in enumerate(surfaces.items(), 1):
                surface = Surface.of(mesh.vertices.numpy(), mesh.faces.numpy())
                content[f"{name} errors"] = json.dumps(compare(surface, scan).summary())
                distance = closest_points(surface.vertices, scan).distance
                content[f"{name} distance"] = distance.astype(np.float32)
                tell(done, len(surfaces))
            with atomic_write(file) as temporary:
                np.savez(temporary, **content)

        self.stages.run("errors", [], [file], work)
        with np.load(file, allow_pickle=False) as stored:
            for name in self.found.meshes:
                self.found.errors[name] = json.loads(str(stored[f"{name} errors"]))
                self.found.distances[name] = stored[f"{name} distance"]

    @property
    def _texture_file(self) -> Path:
        return self.folder / "texture.png"

    @property
    def _last(self) -> Tensor:
        """The displacement (S,S) of the last surface, mm."""
        return torch.from_numpy(list(self.found.displacements.values())[-1])

    @property
    def _relief_map(self) -> Tensor | None:
        relief = self.found.relief
        return None if relief is None else torch.from_numpy(relief)

    def _blended(self, size: int) -> Tensor:
        """Blend the photos on the last surface, once a size: (3,T,T)."""
        if size not in self._textures:
            batch = self._batch(sharp=True)
            surface = surface_maps(batch, self._last, size)
            self._textures[size] = surface_texture(batch, surface)
        return self._textures[size]

    def _file(self, name: str) -> Path:
        return self.work.root / name

    def _batch(self, sharp: bool = False) -> FaceBatch:
        """Read the photos, as sharp as they are or at the method's scale, on the CPU."""
        if sharp not in self._batches:
            data = self.chain.data
            views = FaceScapeViews(
                self.work,
                self.work.split_of(_NAME),
                None,
                1.0 if sharp else data.get("image_scale", 1.0),
                self.chain.uv_size,
                data.get("pixel_center", True),
            )
            self._batches[sharp] = full_batch(views, _NAME)
        return self._batches[sharp]

    def _surfaces(self) -> dict[str, DetailedMesh]:
        """Make the meshes of all stages, world frame, mm."""
        batch = self._batch()
        meshes = {
            name: surface_mesh(batch, torch.from_numpy(height))
            for name, height in self.found.displacements.items()
        }
        if self._relief_map is not None:
            levels = self.chain.options.subdivisions
            meshes["displacement"] = surface_mesh(batch, self._last, self._relief_map, levels)
        return meshes

    def _write_mesh(
        self, path: Path, mesh: DetailedMesh, texture: Any, normal_map: Any = None
    ) -> None:
        to_head = torch.tensor(self.found.base["canonical"], dtype=torch.float64)
        # The fit's mm are those of the head model's size; a known scale has others.
        shift = to_head[:, 3] * (self.work.scale(_NAME) / self.found.base["scale_mm"])
        vertices = (mesh.vertices.double() @ to_head[:, :3].T + shift).float()
        shown = Mesh(vertices, mesh.faces, mesh.uv, texture=texture, normal_map=normal_map)
        write_mesh(path, shown)


def _mask(batch: FaceBatch) -> Tensor:
    return (batch.uv_maps or {})["mask"]


def _write_array(path: Path, values: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, values.detach().cpu().numpy())


def _on_canvas(relief: Tensor) -> NDArray[np.uint16]:
    """Return relief (T,T) of the core in mm as a map of FaceScape's canvas, 16 bits."""
    box = core_box()
    side = box[0].stop - box[0].start
    whole = torch.zeros(CANVAS, CANVAS)
    whole[box] = F.interpolate(relief[None, None], (side, side), mode="bilinear")[0, 0]
    return encode_displacement(whole.numpy())
