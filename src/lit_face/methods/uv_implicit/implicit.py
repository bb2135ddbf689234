"""The implicit function: what the photos of a face say of displacements of its base mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.cost_volumes import (
    argmax_displacement,
    depth_values,
    expected_displacement,
)
from lit_face.geometry.precision import fp32_region
from lit_face.io.network_weights import load_network
from lit_face.io.start_weights import weights_come_later
from lit_face.methods.uv_implicit.agreement import ViewAgreement, view_agreement
from lit_face.methods.uv_implicit.network import ImplicitNetwork
from lit_face.methods.uv_implicit.query import (
    FACING,
    FLOOR,
    Alignment,
    facing,
    in_picture,
    project,
    sample_features,
    variance,
)
from lit_face.methods.uv_implicit.views import cropped_to_face
from lit_face.types import FaceBatch, required

Weighting = Literal["visibility", "none"]

_AGREEMENT_GRID = 64  # texels a side at which views are compared


class ViewFeatures(NamedTuple):
    """What is known of the photos of a batch.

    Attributes:
        maps: (B,N,H,W,C) features, channels last.
        camera: world frame to pixels of the maps.
    """

    maps: Tensor
    camera: PerspectiveCamera


class BaseSurface(NamedTuple):
    """Texels of the base mesh, one list a sample.

    Attributes:
        points: (B,T,3) world frame, mm.
        normals: (B,T,3).
        weights: (B,N,T) of the views, or None where all count alike.
    """

    points: Tensor
    normals: Tensor
    weights: Tensor | None

    def at(self, texel: Tensor) -> BaseSurface:
        """Return the texels (B,P) of each sample."""
        rows = texel[..., None].expand(-1, -1, 3)
        weights = self.weights
        if weights is not None:
            weights = weights.gather(2, texel[:, None].expand(-1, weights.shape[1], -1))
        return BaseSurface(self.points.gather(1, rows), self.normals.gather(1, rows), weights)


class ImplicitSurface(nn.Module):
    """Photos and a base mesh in, a cost volume over its UV map out.

    Args:
        network: features and cost.
        planes: D, candidate displacements of a texel.
        interval: distance of the planes, mm.
        weighting: 'visibility' weighs views by how much they face the surface and whether they
            see it; 'none' counts all alike, as released.
        alignment: see `sample_features`.
        temperature: of the displacement that is read off the volume.
        crop: pixels around the face that are kept of photos; None keeps all, as released.
        memory: MiB that points in work may take; the features of a photo come on top.
        weights: a run of uv_implicit, its checkpoint, or a released checkpoint_if.pkl to start
            from.
    """

    def __init__(
        self,
        network: ImplicitNetwork,
        planes: int = 201,
        interval: float = 0.2,
        weighting: Weighting = "visibility",
        alignment: Alignment = "exact",
        temperature: float = 40.0,
        crop: int | None = 24,
        memory: float = 512.0,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("planes", planes), ("interval", interval), ("memory", memory)):
            if value <= 0:
                raise ValueError(f"{name} should be positive, found {value}.")
        self.network = network
        self.planes, self.interval = planes, interval
        self.weighting, self.alignment = weighting, alignment
        self.temperature, self.crop, self.memory = temperature, crop, memory
        if weights is not None and not weights_come_later():
            load_network(network, weights, "method.implicit.weights", "implicit.network.")

    def cropped(self, batch: FaceBatch) -> FaceBatch:
        """Keep of the photos what shows the face."""
        if self.crop is None:
            return batch
        return cropped_to_face(batch, self.camera_of(batch), self.crop)

    def look(self, batch: FaceBatch) -> ViewFeatures:
        """Return the features of all photos of a batch."""
        return self.look_at(batch.image, self.camera_of(batch))

    def look_at(self, image: Tensor, camera: PerspectiveCamera) -> ViewFeatures:
        """Return the features of photos (B,N,3,H,W), RGB in [0,1]."""
        batch, views = image.shape[:2]
        photos = image.flatten(0, 1).flip(1) * 255  # BGR in 0..255, as released
        maps = self.network.image_filter(photos).float()
        maps = maps.permute(0, 2, 3, 1).unflatten(0, (batch, views))
        # Feature i sits on pixel 2 i, so the intrinsics are halved exactly.
        half = camera.intrinsics.new_tensor([0.5, 0.5, 1])[:, None]
        camera = PerspectiveCamera(camera.intrinsics * half, camera.rotation, camera.translation)
        return ViewFeatures(maps, camera)

    @staticmethod
    def camera_of(batch: FaceBatch) -> PerspectiveCamera:
        """Return the cameras of a batch's views.

        Raises:
            ValueError: the batch has none, or not one a view.
        """
        camera = required(batch.camera, "camera", "uv_implicit")
        if not isinstance(camera, PerspectiveCamera) or camera.intrinsics.ndim != 4:
            raise ValueError(
                "uv_implicit needs a perspective camera of every view, intrinsics (B,N,3,3); "
                "choose data=facescape."
            )
        return camera

    @fp32_region()
    def surface(self, batch: FaceBatch) -> tuple[BaseSurface, Tensor]:
        """Return the masked texels of each sample's base mesh.

        Lists are as long as the longest; short ones repeat their first texel.

        Returns:
            The texels, and their flat indices (B,T) in the map, -1 where a list is filled up.
        """
        maps = required(batch.uv_maps, "uv_maps", "uv_implicit")
        texels = _lists(maps["mask"][:, 0] > 0.5)
        rows = texels.clamp(min=0)
        points = _pick(maps["position"], rows).mT
        normals = _pick(maps["normal"], rows).mT
        weights = None
        if self.weighting == "visibility":
            camera = self.camera_of(batch)
            weights = (facing(camera, points, normals) - FACING).clamp(min=0)
            if "visibility" in maps:
                weights = weights * _pick(maps["visibility"], rows)
            weights = weights + FLOOR
        return BaseSurface(points.contiguous(), normals.contiguous(), weights), texels

    def cost(self, seen: ViewFeatures, texels: BaseSurface, displacement: Tensor) -> Tensor:
        """Return the cost in [0,1] of points on the texels' normals.

        Args:
            seen: the photos' features.
            texels: P of each sample.
            displacement: (B,P) along the normals, intervals.

        Returns:
            (B,P).
        """
        points = texels.points + texels.normals * (self.interval * displacement)[..., None]
        position = 2 * displacement / self.planes
        return self.cost_at(seen, points, position, texels.weights)

    def cost_at(
        self, seen: ViewFeatures, points: Tensor, position: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the cost (B,P) of any points.

        Args:
            seen: the photos' features.
            points: (B,P,3) world frame.
            position: (B,P) where between the planes they lie, in [-1,1].
            weights: (B,N,P) of the views; None counts all alike.
        """
        known = self.evidence(seen, points, weights)
        vector = torch.cat([known, position[..., None].to(known.dtype)], dim=-1).mT
        found: Tensor = self.network.surface_classifier(vector)
        return found

    def evidence(self, seen: ViewFeatures, points: Tensor, weights: Tensor | None) -> Tensor:
        """Return the variance over views (B,P,C) of the features at points (B,P,3)."""
        pixels, depth = project(seen.camera, points)
        if weights is not None:
            height, width = seen.maps.shape[2:4]
            inside = in_picture(pixels, depth, height, width)
            weights = torch.where(inside, weights, FLOOR * 1e-3)
        return variance(seen.maps, pixels, weights, self.alignment)

    @torch.no_grad()
    def forward(
        self,
        batch: FaceBatch,
        progress: Callable[[int, int], None] | None = None,
        seen: ViewFeatures | None = None,
    ) -> Tensor:
        """Return the cost volume (B,D,S,S); 0 outside of the mask.

        Args:
            batch: photos and base mesh.
            progress: is told how many texels of how many are done.
            seen: features of the batch as it is, where they are known; None computes them.
        """
        if seen is None:
            batch = self.cropped(batch)
            seen = self.look(batch)
        surface, texels = self.surface(batch)
        size = required(batch.uv_maps, "uv_maps", "uv_implicit")["mask"].shape[-1]
        count = texels.shape[1]
        volume = surface.points.new_zeros(len(batch), self.planes, size * size + 1)
        where = torch.where(texels >= 0, texels, size * size)  # the filled up go beside the map
        depth = depth_values(self.planes, surface.points.device)
        tile = self.tile(len(batch), seen.maps.shape[1])
        step = max(1, tile // self.planes)
        for start in range(0, count, step):
            part = torch.arange(start, min(start + step, count), device=texels.device)
            some = surface.at(part.expand(len(batch), -1))
            some = _repeated(some, self.planes)
            displacement = depth.repeat(len(part)).expand(len(batch), -1)
            cost = self.cost(seen, some, displacement).unflatten(1, (len(part), self.planes))
            index = where[:, None, start : start + len(part)].expand(-1, self.planes, -1)
            volume.scatter_(2, index, cost.mT)
            if progress is not None:
                progress(start + len(part), count)
        filled: Tensor = volume[..., :-1].unflatten(2, (size, size))
        return filled

    @torch.no_grad()
    def agreement(
        self, batch: FaceBatch, displacement: Tensor, seen: ViewFeatures | None = None
    ) -> ViewAgreement:
        """Compare what each view shows of a surface with what the other views show.

        Args:
            batch: photos and base mesh.
            displacement: (B,1,S,S) of the surface, mm.
            seen: see `forward`.
        """
        if seen is None:
            batch = self.cropped(batch)
            seen = self.look(batch)
        maps = required(batch.uv_maps, "uv_maps", "uv_implicit")
        step = max(1, maps["mask"].shape[-1] // _AGREEMENT_GRID)
        grid = torch.zeros_like(maps["mask"])
        grid[..., ::step, ::step] = 1
        thin = replace(batch, uv_maps={**maps, "mask": maps["mask"] * grid})
        surface, texels = self.surface(thin)
        height = displacement.flatten(1).gather(1, texels.clamp(min=0))
        points = surface.points + surface.normals * height[..., None]
        pixels, depth = project(seen.camera, points)
        weights = torch.ones_like(depth) if surface.weights is None else surface.weights - FLOOR
        weights = weights * in_picture(pixels, depth, *seen.maps.shape[2:4])
        weights = weights.clamp(min=0) * (texels >= 0)[:, None]
        photos = batch.image.permute(0, 1, 3, 4, 2)
        return view_agreement(
            sample_features(seen.maps, pixels, self.alignment),
            sample_features(photos, 2 * pixels),  # feature i sits on pixel 2 i
            weights,
        )

    def tile(self, samples: int, views: int) -> int:
        """Return how many points a sample may have in work within `memory`."""
        channels, *hidden = self.network.surface_classifier.sizes
        floats = 24 * views + 8 * channels + 2 * sum(hidden)
        return max(1, int(self.memory * 2**20 / (4 * floats * samples)))

    def readings(self, volume: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Return the displacements (B,1,S,S) in mm that a cost volume (B,D,S,S) means.

        Returns:
            `implicit_argmax`, of the best plane, and `implicit`, the mean of the planes about it.
        """
        best = argmax_displacement(volume, mask)
        mean = expected_displacement(volume, mask, self.temperature)
        return {"implicit_argmax": best * self.interval, "implicit": mean * self.interval}


def _lists(mask: Tensor) -> Tensor:
    """Return flat indices (B,T) of the true texels of (B,S,S), row by row; -1 fills up."""
    flat = mask.flatten(1)
    longest = int(flat.sum(1).max())
    order = torch.argsort((~flat).to(torch.uint8), dim=1, stable=True)[:, :longest]
    return torch.where(flat.gather(1, order), order, -1)


def _pick(maps: Tensor, rows: Tensor) -> Tensor:
    """Read (B,C,S,S) maps at flat indices (B,T): (B,C,T)."""
    return maps.flatten(2).gather(2, rows[:, None].expand(-1, maps.shape[1], -1))


def _repeated(surface: BaseSurface, times: int) -> BaseSurface:
    """Repeat each texel `times` times in a row."""
    points, normals, weights = surface
    return BaseSurface(
        points.repeat_interleave(times, dim=1),
        normals.repeat_interleave(times, dim=1),
        None if weights is None else weights.repeat_interleave(times, dim=2),
    )
