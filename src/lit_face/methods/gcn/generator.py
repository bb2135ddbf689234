"""The generator: an embedding and coarse colours of vertices to fine colours of vertices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_face.methods.gcn.layers import ChebyshevConv, ConvBlock, Linear, ResidualBlock
from lit_face.methods.gcn.sparse import SparseMatrix, SymmetricMatrix
from lit_face.morphable_models.mesh_hierarchy import EdgeWeights, MeshHierarchy

Variant = Literal["resnet", "normal"]
INPUT_CHANNELS = 7  # coarse colour, sampled colour where seen, seen
_LARGEST = 0.99  # coarse colour to which something can be added
SEED_CHANNELS = 32  # a vertex of the coarsest level, where the decoder starts


@dataclass(frozen=True)
class HierarchyShape:
    """A hierarchy of zeros: what an empty generator is built from.

    Attributes:
        sizes: number of vertices of each level.
        edges: stored values of each level's Laplacian.
        kept: of each step down.
        corners: of each step up.
    """

    sizes: Sequence[int]
    edges: Sequence[int]
    kept: Sequence[int]
    corners: Sequence[int]

    @classmethod
    def of(cls, levels: MeshLevels) -> HierarchyShape:
        """Measure the matrices of a hierarchy."""
        counts = (
            tuple(len(matrix.value) for matrix in matrices)
            for matrices in (levels.laplacian, levels.down, levels.up)
        )
        return cls(levels.sizes, *counts)

    @property
    def twin(self) -> NDArray[np.int64]:
        """(V,) of zeros."""
        return np.zeros(self.sizes[0], np.int64)

    def laplacian(self, level: int, edge_weights: EdgeWeights) -> scipy.sparse.csr_array:
        """Return as many zeros as that level's Laplacian has values."""
        return _zeros(self.sizes[level], self.sizes[level], self.edges[level])

    def down(self, level: int) -> scipy.sparse.csr_array:
        """Return as many zeros as that step has values."""
        return _zeros(self.sizes[level + 1], self.sizes[level], self.kept[level])

    def up(self, level: int) -> scipy.sparse.csr_array:
        """Return as many zeros as that step has values."""
        return _zeros(self.sizes[level], self.sizes[level + 1], self.corners[level])


@dataclass(frozen=True, eq=False)
class MeshLevels:
    """The matrices of a hierarchy as modules, for layers to share.

    Attributes:
        sizes: number of vertices of each level.
        laplacian: of each level.
        down: from level l to l + 1.
        up: from level l + 1 to l.
    """

    sizes: tuple[int, ...]
    laplacian: list[SymmetricMatrix]
    down: list[SparseMatrix]
    up: list[SparseMatrix]

    @classmethod
    def of(cls, hierarchy: MeshHierarchy | HierarchyShape, edge_weights: EdgeWeights) -> MeshLevels:
        """Make the modules of a hierarchy."""
        levels, steps = range(len(hierarchy.sizes)), range(len(hierarchy.sizes) - 1)
        return cls(
            tuple(hierarchy.sizes),
            [SymmetricMatrix(hierarchy.laplacian(level, edge_weights)) for level in levels],
            [SparseMatrix(hierarchy.down(level)) for level in steps],
            [SparseMatrix(hierarchy.up(level)) for level in steps],
        )


class GeneratedColours(NamedTuple):
    """What the generator yields, each (B,V,3).

    Attributes:
        colours: albedo in [-1,1].
        decoded: of the decoder alone, refined: of the refiner alone; not bounded.
    """

    colours: Tensor
    decoded: Tensor
    refined: Tensor


class MeshGenerator(nn.Module):
    """Decoder of an embedding and refiner of colours, put together by one convolution.

    Source: Lin et al. (2020), "Towards high-fidelity 3D face reconstruction from in-the-wild images
    using graph convolutional networks".

    Args:
        hierarchy: the levels of the mesh, at least two; or the numbers of a `HierarchyShape`, for a
            state_dict to fill.
        embedding_size: of the vector that describes the picture.
        variant: 'resnet': the paper's; 'normal': the released code's default, a U-Net with a
            bottleneck.
        is_wide: more channels.
        bottleneck: size of the vector in the middle of the refiner of 'normal'.
        edge_weights: of the Laplacians, see `adjacency`.
        residual: the fine colours are the coarse ones plus what is learnt, and start as these; else
            they are learnt from nothing, as in the reference.
        persistent: whether the state_dict holds the matrices. A method in training, which has the
            hierarchy, leaves them out.

    Raises:
        ValueError: unknown variant, or a hierarchy of one level.
    """

    twin: Tensor

    def __init__(
        self,
        hierarchy: MeshHierarchy | HierarchyShape | Mapping[str, Any],
        embedding_size: int,
        variant: Variant = "resnet",
        is_wide: bool = False,
        bottleneck: int = 512,
        edge_weights: EdgeWeights = "reference",
        residual: bool = True,
        persistent: bool = False,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "embedding_size": embedding_size,
            "variant": variant,
            "is_wide": is_wide,
            "bottleneck": bottleneck,
            "edge_weights": edge_weights,
            "residual": residual,
        }
        self.residual = residual
        if variant not in get_args(Variant):
            raise ValueError(f"variant should be 'resnet' or 'normal', found {variant!r}.")
        if isinstance(hierarchy, Mapping):
            hierarchy = HierarchyShape(**hierarchy)
        if len(hierarchy.sizes) < 2:
            raise ValueError("The mesh generator needs a hierarchy of two levels or more; found 1.")
        levels = MeshLevels.of(hierarchy, edge_weights)
        self.vertices = levels.sizes[0]
        self.register_buffer("twin", torch.tensor(hierarchy.twin), persistent=False)
        self.decoder = MeshDecoder(levels, embedding_size, variant, is_wide)
        self.refiner: nn.Module = (
            ResidualRefiner(levels, is_wide)
            if variant == "resnet"
            else BottleneckRefiner(levels, bottleneck)
        )
        self.combine = ChebyshevConv(6, 3, levels.laplacian[0])
        if residual:
            nn.init.zeros_(self.combine.weight)
        self.shape = HierarchyShape.of(levels)
        if persistent:
            for module in self.modules():
                for name, value in list(module.named_buffers(recurse=False)):
                    module.register_buffer(name, value)

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty generator is built."""
        return {
            "_target_": "lit_face.methods.gcn.MeshGenerator",
            "hierarchy": {name: list(value) for name, value in vars(self.shape).items()},
            **self.options,
            "persistent": True,
        }

    def persistent_copy(self) -> MeshGenerator:
        """Return a copy whose state_dict holds everything."""
        copy = MeshGenerator(self.shape, **self.options, persistent=True)
        # Layers of a level share its Laplacian.
        buffers = dict(self.named_buffers(remove_duplicate=False))
        copy.load_state_dict(buffers | dict(self.named_parameters()))
        return copy.to(self.twin.device)

    def forward(self, embedding: Tensor, features: Tensor) -> GeneratedColours:
        """Make colours.

        Args:
            embedding: (B,E).
            features: (B,V,7): coarse albedo in [-1,1], colour sampled from the picture where the
                vertex is seen (else 0), and whether it is seen (1 or 0).

        Raises:
            ValueError: another mesh's features.
        """
        expected = (len(embedding), self.vertices, INPUT_CHANNELS)
        if tuple(features.shape) != expected:
            raise ValueError(
                f"The mesh generator expects features {expected} (B,V,7) for this mesh and batch, "
                f"found {tuple(features.shape)}."
            )
        decoded = self.decoder(embedding)
        refined = self.refiner(features.transpose(0, 1).contiguous())
        combined = self.combine(torch.cat([decoded, refined], dim=-1))
        if self.residual:
            coarse = features[..., :3].transpose(0, 1).to(combined.dtype)
            combined = combined + torch.atanh(coarse.clamp(-_LARGEST, _LARGEST))
        colours = torch.tanh(combined)
        parts = (colours, decoded, refined)
        return GeneratedColours(*(part[self.twin].transpose(0, 1) for part in parts))

    def dense_parameters(self) -> list[nn.Parameter]:
        """Weights and biases of the layers over whole vectors: those that weight decay is for."""
        layers = (module for module in self.modules() if isinstance(module, Linear))
        return [parameter for layer in layers for parameter in layer.parameters()]


class MeshDecoder(nn.Module):
    """An embedding to colours, from the coarsest level to the finest: (B,E) to (V,B,3)."""

    def __init__(
        self, levels: MeshLevels, embedding_size: int, variant: Variant, is_wide: bool
    ) -> None:
        super().__init__()
        steps = len(levels.up)
        self.dense = Linear(embedding_size, levels.sizes[-1] * SEED_CHANNELS)
        ends_in_block = variant == "resnet"
        block = ResidualBlock if ends_in_block else ConvBlock
        widths = [SEED_CHANNELS << step if is_wide else 16 for step in range(steps)]
        if ends_in_block:
            widths = [*(2 * width if is_wide else width for width in widths[:-1]), 3]
        channels = [SEED_CHANNELS, *widths]
        laplacians = levels.laplacian[-2::-1]
        self.up = nn.ModuleList(levels.up[::-1])
        self.blocks = nn.ModuleList(
            block(channels[step], channels[step + 1], laplacians[step]) for step in range(steps)
        )
        self.last = nn.Identity() if ends_in_block else ConvBlock(widths[-1], 3, laplacians[-1])

    def forward(self, embedding: Tensor) -> Tensor:
        """Return (V,B,3) for (B,E)."""
        seed = F.relu(self.dense(embedding))
        features = seed.view(len(seed), -1, SEED_CHANNELS).transpose(0, 1)
        for up, block in zip(self.up, self.blocks, strict=True):
            features = block(up(features))
        colours: Tensor = self.last(features)
        return colours


class ResidualRefiner(nn.Module):
    """Residual blocks on the two finest levels: (V,B,7) to (V,B,3)."""

    def __init__(self, levels: MeshLevels, is_wide: bool) -> None:
        super().__init__()
        a, b, c, d = (16, 32, 64, 128) if is_wide else (16, 32, 32, 16)
        fine, coarse = levels.laplacian[0], levels.laplacian[1]
        self.layers = nn.Sequential(
            ResidualBlock(INPUT_CHANNELS, a, fine),
            levels.down[0],
            ResidualBlock(a, b, coarse),
            ResidualBlock(b, c, coarse),
            levels.up[0],
            ResidualBlock(c, d, fine),
            ResidualBlock(d, 3, fine),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return (V,B,3) for (V,B,7)."""
        colours: Tensor = self.layers(features)
        return colours


class BottleneckRefiner(nn.Module):
    """A U-Net over all levels, with one vector in the middle: (V,B,7) to (V,B,3).

    Levels 2 and coarser hand their features across; the two finest do not.
    """

    def __init__(self, levels: MeshLevels, bottleneck: int) -> None:
        super().__init__()
        steps, laplacians = len(levels.down), levels.laplacian
        width = [16, *(16 << step for step in range(steps))]  # 16, 16, 32, 64, 128
        self.first = ChebyshevConv(INPUT_CHANNELS, width[0], laplacians[0])
        self.down, self.up = nn.ModuleList(levels.down), nn.ModuleList(levels.up)
        self.descent = nn.ModuleList(
            ConvBlock(width[level], width[level + 1], laplacians[level + 1])
            for level in range(steps)
        )
        inner = levels.sizes[-1] * width[-1]
        self.dense = nn.Sequential(
            Linear(inner, bottleneck), nn.ReLU(), Linear(bottleneck, inner), nn.ReLU()
        )
        rising = [16 << level for level in range(steps)]  # outputs, by level: 16, 32, 64, 128
        below = [*rising[1:], width[-1]]
        self.ascent = nn.ModuleList(
            ConvBlock(
                below[level] + (width[level] if level >= 2 else 0), rising[level], laplacians[level]
            )
            for level in range(steps)
        )
        self.last = ConvBlock(rising[0], 3, laplacians[0])

    def forward(self, features: Tensor) -> Tensor:
        """Return (V,B,3) for (V,B,7)."""
        features = self.first(features)
        passed = [features]
        for down, block in zip(self.down, self.descent, strict=True):
            features = block(down(features))
            passed.append(features)
        flat = features.transpose(0, 1).flatten(1)  # vertex by vertex
        features = self.dense(flat).view(len(flat), -1, features.shape[-1]).transpose(0, 1)
        for level in range(len(self.up) - 1, -1, -1):
            features = self.up[level](features)
            if level >= 2:
                features = torch.cat([features, passed[level]], dim=-1)
            features = self.ascent[level](features)
        colours: Tensor = self.last(features)
        return colours


def _zeros(rows: int, columns: int, count: int) -> scipy.sparse.csr_array:
    place = np.arange(count)
    entries = (np.zeros(count, np.float32), (place // columns, place % columns))
    return scipy.sparse.coo_array(entries, shape=(rows, columns)).tocsr()
