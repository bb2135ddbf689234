"""Ground-truth position maps as one matrix product.

Which triangle covers which texel of a UV map never changes, so the interpolation is pushed through
the bases of the morphable model once; a batch of maps is then a batch of coefficients times a fixed
matrix, on the device, and nothing is rasterised or stored.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.uv import uv_resampling
from lit_face.morphable_models.base import MorphableModel


class PositionMaps(nn.Module):
    """Maps coefficients and cameras to position maps (Feng et al. 2018, section 3.1).

    Args:
        model: the morphable model that the coefficients belong to; not kept.
        size: side S of the square map, texels.

    Attributes:
        mask: (S,S) bool, the texels of the model's region 'face'; everything else is zero.
        texels: (T,) int64 flat indices (row * S + column) of the mask, ascending.
        texel_uv: (T,2) UV coordinates of those texels.
        mean_face: (T,3) mean face at those texels, head space, mm.
    """

    mask: Tensor
    texels: Tensor
    texel_uv: Tensor
    mean_face: Tensor
    _mean: Tensor
    _basis: Tensor

    def __init__(self, model: MorphableModel, size: int) -> None:
        super().__init__()
        self.size = size
        resampling = uv_resampling(model.uv, model.map_faces, size)
        face = resampling.apply(model.regions["face"][:, None].float())[:, 0] >= 0.5
        indices, weights = resampling.vertex_index[face], resampling.weights[face]
        texels = resampling.texels[face]
        self._identity_size = model.identity_size

        def at_texels(basis: Tensor) -> Tensor:
            """Interpolate (V,3,K) at the texels and append the vertices: (K, 3, T+V)."""
            sampled = torch.einsum("tc,tcdk->tdk", weights, basis[indices])
            return torch.cat([sampled, basis]).permute(2, 1, 0)

        bases = torch.cat([at_texels(model.identity_basis), at_texels(model.expression_basis)])
        mean = at_texels(model.mean[:, :, None])[0]
        rows, columns = texels // size, texels % size
        buffers = {
            "texels": texels,
            "texel_uv": torch.stack([columns, size - 1 - rows], dim=1).float() / (size - 1),
            "mean_face": mean[:, : len(texels)].T.contiguous(),
            "mask": torch.zeros(size * size, dtype=torch.bool).index_fill(0, texels, True),
            "_mean": mean.flatten(),
            "_basis": bases.flatten(1).contiguous(),
        }
        buffers["mask"] = buffers["mask"].view(size, size)
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, coefficients: dict[str, Tensor], camera: AffineCamera) -> Tensor:
        """Return position maps (B,3,S,S), float32.

        Args:
            coefficients: 'identity' (B,<=Ki) and 'expression' (B,<=Ke), standard deviations.
            camera: head space to image pixels. One that mirrors the image (negative determinant)
                gives the map of the mirrored face: columns change sides.

        Returns:
            x right and y down in pixels, z towards the viewer in the same scale with the rearmost
            vertex of the whole model at 0; zero outside `mask`.
        """
        with fp32_region():
            points = self._points(coefficients)
            matrix = camera.matrix.float()
            linear = matrix[:, :, :3] * matrix.new_tensor([1.0, 1.0, -1.0])[:, None]
            shift = torch.cat([matrix[:, :2, 3:], torch.zeros_like(matrix[:, :1, 3:])], dim=1)
            count = len(self.texels)
            image_points = torch.baddbmm(shift, linear, points[:, :, :count])
            rear = torch.bmm(linear[:, 2:], points[:, :, count:]).amin(dim=2)
            image_points[:, 2] -= rear
            mirrored = torch.linalg.det(matrix[:, :, :3]) < 0
            rows = self.texels // self.size
            other_side = (2 * rows + 1) * self.size - 1 - self.texels  # the column from the right
            places = torch.where(mirrored[:, None], other_side, self.texels)
            maps = image_points.new_zeros(len(points), 3, self.size * self.size)
            maps.scatter_(2, places[:, None].expand(-1, 3, -1), image_points)
            return maps.view(-1, 3, self.size, self.size)

    def neighbours(self, uv: Tensor) -> tuple[Tensor, Tensor]:
        """Find the texels to read a map at any UV coordinates, bilinearly within the mask.

        Args:
            uv: (N,2) coordinates on or near the face.

        Returns:
            Positions in `texels` (N,4) and weights (N,4) that sum to 1. Outside the mask the
            closest texel of it has all the weight.
        """
        columns, rows = (uv * (self.size - 1)).unbind(dim=1)
        rows = self.size - 1 - rows
        left, top = (p.floor().clamp(0, self.size - 2).long() for p in (columns, rows))
        right_share, bottom_share = columns - left, rows - top
        corner_weights = [
            (1 - right_share) * (1 - bottom_share),
            right_share * (1 - bottom_share),
            (1 - right_share) * bottom_share,
            right_share * bottom_share,
        ]
        offsets = torch.tensor([0, 1, self.size, self.size + 1], device=uv.device)
        flat = (top * self.size + left)[:, None] + offsets
        weights = torch.stack(corner_weights, dim=1) * self.mask.flatten()[flat]
        positions = torch.searchsorted(self.texels, flat).clamp(max=len(self.texels) - 1)
        nearest = torch.cdist(uv, self.texel_uv).argmin(dim=1)
        outside = weights.sum(dim=1) < 0.25
        positions = torch.where(outside[:, None], nearest[:, None], positions)
        weights = torch.where(outside[:, None], 0.25, weights)
        return positions, weights / weights.sum(dim=1, keepdim=True)

    def __deepcopy__(self, memo: dict[int, object]) -> PositionMaps:
        """Return itself: these are constants, and averaging of weights copies the method."""
        return self

    def masks(self, camera: AffineCamera) -> Tensor:
        """Return which texels hold a point (B,S,S) bool, mirrored where the camera mirrors."""
        mirrored = torch.linalg.det(camera.matrix[:, :, :3].float()) < 0
        return torch.where(mirrored[:, None, None], self.mask.flip(-1), self.mask)

    def _points(self, coefficients: dict[str, Tensor]) -> Tensor:
        """Return texels and vertices (B,3,T+V) in head space, mm."""
        identity, expression = coefficients["identity"], coefficients["expression"]
        start = self._identity_size
        if identity.shape[1] == start and start + expression.shape[1] == len(self._basis):
            basis = self._basis
        else:
            basis = torch.cat(
                [self._basis[: identity.shape[1]], self._basis[start:][: expression.shape[1]]]
            )
        joint = torch.cat([identity, expression], dim=1).float()
        return torch.addmm(self._mean, joint, basis).view(len(joint), 3, -1)
