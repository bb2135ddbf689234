"""Carry what one head model knows (landmarks, UV, regions, colours) to the mesh of another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_face.io.files import atomic_write, cache_root
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.correspondence import SurfacePoints, closest_points, warp_mesh
from lit_face.morphable_models.digest import model_digest

_LANDMARKS = 68
_MIN_ANCHORS = 4
_SEAM = 0.25  # a triangle that is wider than this in UV runs across a seam of the layout
_VERSION = 1  # of the stored layouts


@dataclass(frozen=True, eq=False)
class Layout:
    """What a mesh needs beside its shape: landmarks, UV coordinates and regions.

    Attributes:
        landmark_index: (68,) int64 vertices of the iBUG points.
        uv: (V,2) in [0,1], u right, v up.
        regions: name -> (V,) in [0,1].
    """

    landmark_index: Tensor
    uv: Tensor
    regions: dict[str, Tensor]


class TopologyTransfer:
    """Dense correspondence from a model to another mesh, by barycentric coordinates.

    The model's mean face is bent onto the mesh (thin-plate splines through the anchors, then
    closest points); each vertex of the mesh then sits at one point of the model's surface, and
    everything that lives on that surface can be read there.

    Args:
        source: the model that knows something.
        vertices: (V,3) the mesh in neutral pose, head space, mm.
        faces: (F,3) int64.
        anchors: number of an iBUG point (0 to 67) -> the vertex of the mesh where it lies. All 68
            where they are known; a dozen spread over the face will do (see docs/morphable_models).
        reach: vertices farther than this from the bent model (mm) are not covered: inner mouth,
            neck or skull that the model lacks.

    Attributes:
        points: (V) points of the source's surface; `points.distance` in mm.
        covered: (V,) bool.

    Raises:
        ValueError: too few anchors, or anchors outside of the mesh.
    """

    def __init__(
        self,
        source: MorphableModel,
        vertices: Tensor,
        faces: Tensor,
        anchors: Mapping[int, int],
        reach: float = 12.0,
    ) -> None:
        _check_anchors(anchors, len(vertices))
        self.source, self.anchors = source, dict(sorted(anchors.items()))
        self.vertices, self.faces = vertices.detach().cpu().float(), faces.detach().cpu()
        mean, source_faces = source.mean.detach().cpu(), source.faces.cpu()
        numbers = torch.tensor(list(self.anchors))
        own = mean[source.landmark_index.cpu()[numbers]]
        goal = self.vertices[torch.tensor(list(self.anchors.values()))]
        self.bent_source = warp_mesh(mean, own, goal, (self.vertices, self.faces))
        self.points: SurfacePoints = closest_points(self.vertices, self.bent_source, source_faces)
        self.covered = self.points.distance < reach

    @classmethod
    def between(cls, source: MorphableModel, target: MorphableModel) -> TopologyTransfer:
        """Correspondence of two models that both know their 68 landmarks."""
        anchors = dict(enumerate(target.landmark_index.tolist()))
        return cls(source, target.mean, target.faces, anchors)

    def attributes(self, values: Tensor) -> Tensor:
        """Interpolate attributes of the source's vertices (...,Vs,C) at the mesh's: (...,V,C)."""
        return self.points.carry(values)

    def surface_landmarks(self) -> Tensor:
        """Return the source's 68 landmarks (68,3) as closest points on the mesh, mm."""
        queries = self.bent_source[self.source.landmark_index.cpu()]
        return closest_points(queries, self.vertices, self.faces).carry(self.vertices)

    def landmark_index(self) -> Tensor:
        """Return the mesh's vertices (68,) nearest to the source's landmarks; anchors are kept."""
        used = self.faces.unique()
        nearest = torch.cdist(self.surface_landmarks(), self.vertices[used]).argmin(dim=1)
        index: Tensor = used[nearest]
        for number, vertex in self.anchors.items():
            index[number] = vertex
        return index

    def uv(self) -> Tensor:
        """Return UV coordinates (V,2) in the source's layout.

        Where the source's triangle runs across a seam of its layout, interpolation would land in
        the middle of nowhere: the nearest corner's coordinates are taken.
        """
        corners = self.source.uv.cpu()[self.points.vertex_index]
        across = (corners.amax(1) - corners.amin(1)).amax(1) > _SEAM
        nearest = self.points.weights.argmax(1)
        picked = corners[torch.arange(len(corners)), nearest]
        smooth = self.points.carry(self.source.uv.cpu())
        return torch.where(across[:, None], picked, smooth).clamp(0, 1)

    def regions(self) -> dict[str, Tensor]:
        """Return the source's regions (V,) by name; 0 at vertices that are not covered."""
        return {
            name: self.points.carry(weight.cpu().float()[:, None])[:, 0] * self.covered
            for name, weight in self.source.regions.items()
        }

    def albedo(self) -> tuple[Tensor, Tensor]:
        """Return diffuse albedo mean (V,3) and basis (V,3,K), sRGB, of the source's colours."""
        basis = self.source.albedo_basis.cpu().permute(2, 0, 1)
        mean = self.points.carry(self.source.albedo_mean.cpu())
        return mean, self.points.carry(basis).permute(1, 2, 0).contiguous()

    def layout(self) -> Layout:
        """Return landmarks, UV coordinates and regions together."""
        return Layout(self.landmark_index(), self.uv(), self.regions())


def carried_layout(
    source: MorphableModel,
    vertices: Tensor,
    faces: Tensor,
    anchors: Mapping[int, int],
    cache_folder: str | Path | None = None,
) -> Layout:
    """`TopologyTransfer(...).layout()`, stored so that a second call takes no time.

    Args:
        source: see `TopologyTransfer`, as for the next three.
        vertices: (V,3).
        faces: (F,3).
        anchors: iBUG number -> vertex.
        cache_folder: default LIT_FACE_CACHE, else ~/.cache/lit_face.
    """
    digest = hashlib.sha256(f"{_VERSION}{model_digest(source)}{sorted(anchors.items())}".encode())
    digest.update(vertices.detach().cpu().float().numpy().tobytes())
    digest.update(faces.detach().cpu().numpy().tobytes())
    path = cache_root(cache_folder) / f"layout-{source.name}-{digest.hexdigest()[:12]}.npz"
    if not path.is_file():
        layout = TopologyTransfer(source, vertices, faces, anchors).layout()
        arrays = {f"region_{name}": weight.numpy() for name, weight in layout.regions.items()}
        arrays |= {"landmark_index": layout.landmark_index.numpy(), "uv": layout.uv.numpy()}
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    with np.load(path, allow_pickle=False) as stored:
        data = {name: torch.from_numpy(stored[name]) for name in stored.files}
    index, uv = data.pop("landmark_index"), data.pop("uv")
    return Layout(index, uv, {name.removeprefix("region_"): data[name] for name in sorted(data)})


def with_albedo_of(arrays: ModelArrays, transfer: TopologyTransfer) -> ModelArrays:
    """Return the arrays with the colours of the transfer's source (for models of shape alone)."""
    mean, basis = transfer.albedo()
    return ModelArrays(**{**vars(arrays), "albedo_mean": mean, "albedo_basis": basis})


def _check_anchors(anchors: Mapping[int, int], vertices: int) -> None:
    if len(anchors) < _MIN_ANCHORS:
        raise ValueError(
            f"a correspondence needs at least {_MIN_ANCHORS} anchors, found {len(anchors)}: give "
            "the vertices of more landmarks."
        )
    for number, vertex in anchors.items():
        if not (0 <= number < _LANDMARKS and 0 <= vertex < vertices):
            raise ValueError(
                f"anchor {number} -> vertex {vertex}: iBUG points count from 0 to 67, the mesh has "
                f"{vertices} vertices (from 0)."
            )
