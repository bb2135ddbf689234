"""Carry what one head model knows (landmarks, UV, regions, colours) to the mesh of another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

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
_VERSION = 2  # of the stored layouts


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
    everything that lives on that surface can be read there. The source's inner mouth takes no part:
    behind closed lips it is nearer than it looks.

    Args:
        source: the model that knows something.
        vertices: (V,3) the mesh in neutral pose, head space, mm.
        faces: (F,3) int64.
        anchors: number of an iBUG point (0 to 67) -> the vertex of the mesh where it lies. All 68
            where they are known; a dozen spread over the face will do (see docs/morphable_models).
        reach: vertices farther than this from the bent model (mm) are not covered: inner mouth,
            neck or skull that the model lacks.
        cache: store the correspondence (LIT_FACE_CACHE, else ~/.cache/lit_face), so that the next
            time takes none: some seconds for ten thousand vertices.

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
        cache: bool = False,
    ) -> None:
        _check_anchors(anchors, len(vertices))
        self.source, self.anchors = source, dict(sorted(anchors.items()))
        self.vertices, self.faces = vertices.detach().cpu().float(), faces.detach().cpu()
        self.bent_source, self.points = self._stored() if cache else self._computed()
        self.covered = self.points.distance < reach

    def _computed(self) -> tuple[Tensor, SurfacePoints]:
        mean = self.source.mean.detach().cpu()
        own = mean[self.source.landmark_index.cpu()[torch.tensor(list(self.anchors))]]
        goal = self.vertices[torch.tensor(list(self.anchors.values()))]
        bent = warp_mesh(mean, own, goal, (self.vertices, self.faces))
        return bent, closest_points(self.vertices, bent, _outer_faces(self.source))

    def _stored(self) -> tuple[Tensor, SurfacePoints]:
        names = ("bent", "vertex_index", "weights", "distance")
        text = f"{_VERSION} {model_digest(self.source)} {self.anchors}"
        digest = hashlib.sha256(text.encode())
        digest.update(self.vertices.numpy().tobytes())
        digest.update(self.faces.numpy().tobytes())
        path = cache_root() / f"topology-{self.source.name}-{digest.hexdigest()[:12]}.npz"
        if not path.is_file():
            bent, points = self._computed()
            values = (bent, points.vertex_index, points.weights, points.distance)
            arrays = {name: value.numpy() for name, value in zip(names, values, strict=True)}
            with atomic_write(path) as temporary:
                np.savez(temporary, **arrays)  # type: ignore[arg-type]
        with np.load(path, allow_pickle=False) as stored:
            bent, *parts = (torch.from_numpy(stored[name]) for name in names)
        return bent, SurfacePoints(*parts)

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


def with_albedo_of(arrays: ModelArrays, transfer: TopologyTransfer) -> ModelArrays:
    """Return the arrays with the colours of the transfer's source (for models of shape alone)."""
    mean, basis = transfer.albedo()
    return replace(arrays, albedo_mean=mean, albedo_basis=basis)


def _outer_faces(model: MorphableModel) -> Tensor:
    faces = model.faces.cpu()
    inside = model.regions.get("mouth_interior")
    return faces if inside is None else faces[~(inside.cpu()[faces] > 0.5).any(dim=1)]


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
