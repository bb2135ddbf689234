"""Products with constant sparse matrices: Laplacians of meshes, and what goes from level to level.

A matrix lives in plain buffers, outside of checkpoints: a module that holds a sparse tensor cannot
be copied, cast, averaged, or wrapped for several processes. A sparse view of the buffers is made at
each use, which copies nothing. Products run in float32 (or float64) under any autocast.
"""

from __future__ import annotations

import warnings
from typing import Any

import scipy.sparse
import torch
from torch import Tensor, nn

from lit_face.geometry.precision import fp32_region

Parts = tuple[Tensor, Tensor, Tensor, int]  # row starts, columns, values, number of columns


class SparseMatrix(nn.Module):
    """A constant matrix (M,N) that multiplies features of vertices (N,B,C).

    Args:
        matrix: of real numbers.
    """

    row_start: Tensor
    column: Tensor
    value: Tensor

    def __init__(self, matrix: scipy.sparse.csr_array) -> None:
        super().__init__()
        self.shape: tuple[int, int] = matrix.shape
        _store(self, "", matrix)
        _store(self, "transposed_", matrix.T.tocsr())

    def forward(self, features: Tensor) -> Tensor:
        """Return (M,B,C) for features (N,B,C), in float32 (float64 if the module is)."""
        with fp32_region():
            flat = features.to(self.dtype).reshape(len(features), -1)
            product: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
                flat, self.parts(), self.parts("transposed_")
            )
        return product.view(len(product), *features.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """What products run in."""
        return torch.promote_types(self.value.dtype, torch.float32)

    def parts(self, prefix: str = "") -> Parts:
        """Return the matrix, or with 'transposed_' its transpose, as `csr` takes it."""
        start, column, value = (
            getattr(self, prefix + name) for name in ("row_start", "column", "value")
        )
        return start, column, value.to(self.dtype), self.shape[1 if not prefix else 0]

    def extra_repr(self) -> str:
        """Name the shape."""
        return f"{self.shape[0]}, {self.shape[1]}"


class SymmetricMatrix(SparseMatrix):
    """A constant matrix (N,N) that is its own transpose, which is not stored."""

    def __init__(self, matrix: scipy.sparse.csr_array) -> None:
        nn.Module.__init__(self)
        self.shape = matrix.shape
        _store(self, "", matrix)

    def parts(self, prefix: str = "") -> Parts:
        """Return the matrix as `csr` takes it."""
        return super().parts()


def csr(parts: Parts) -> Tensor:
    """Return a sparse tensor that shares the memory of its parts."""
    start, column, value, columns = parts
    return torch.sparse_csr_tensor(
        start, column, value, (len(start) - 1, columns), check_invariants=False
    )


class _Product(torch.autograd.Function):
    """The gradient multiplies by the transpose, which is at hand."""

    @staticmethod
    @torch.compiler.disable
    def forward(ctx: Any, features: Tensor, matrix: Parts, transpose: Parts) -> Tensor:
        ctx.matrix, ctx.transpose = matrix, transpose
        return csr(matrix) @ features

    @staticmethod
    @torch.compiler.disable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        with fp32_region():
            returned: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
                gradient.contiguous(), ctx.transpose, ctx.matrix
            )
        return returned, None, None


def _store(module: nn.Module, prefix: str, matrix: scipy.sparse.csr_array) -> None:
    for name, array, dtype in (
        ("row_start", matrix.indptr, torch.int32),
        ("column", matrix.indices, torch.int32),
        ("value", matrix.data, torch.float32),
    ):
        module.register_buffer(prefix + name, torch.tensor(array, dtype=dtype), persistent=False)
    with warnings.catch_warnings():  # torch says once a process that this is in beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        csr(
            (torch.zeros(2, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), torch.ones(0), 1)
        )
