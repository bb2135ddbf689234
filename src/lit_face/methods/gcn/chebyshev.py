"""A polynomial of a mesh's Laplacian, in the least memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.methods.gcn.sparse import Parts, SymmetricMatrix, csr


def chebyshev_sum(features: Tensor, weight: Tensor, laplacian: SymmetricMatrix) -> Tensor:
    """Return sum_k T_k(L) x W_k, with T_k the Chebyshev polynomials.

    The gradients need nothing but x, since L is symmetric: with S_k = T_k(L) g, that of W_k is
    x^T S_k and that of x is sum_k S_k W_k^T. So no T_k(L) x is kept.

    Args:
        features: x (V,B,C).
        weight: (K,C,C_out).
        laplacian: L (V,V), scaled to eigenvalues in [-1,1].

    Returns:
        (V,B,C_out), float32 under any autocast.
    """
    with fp32_region():
        result: Tensor = _ChebyshevSum.apply(  # type: ignore[no-untyped-call]
            features.to(laplacian.dtype), weight.to(laplacian.dtype), laplacian.parts()
        )
    return result


class _ChebyshevSum(torch.autograd.Function):
    @staticmethod
    @torch.compiler.disable
    def forward(ctx: Any, features: Tensor, weight: Tensor, parts: Parts) -> Tensor:
        features = features.contiguous()
        ctx.save_for_backward(features, weight)
        ctx.parts = parts
        narrows = weight.shape[2] < weight.shape[1]
        return (_clenshaw if narrows else _accumulate)(features, weight, parts)

    @staticmethod
    @torch.compiler.disable
    def backward(  # type: ignore[override]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        wants_features, wants_weight, _ = ctx.needs_input_grad
        by_features: Tensor | None = None
        by_weight = []
        with fp32_region():
            transposed = features.flatten(0, 1).mT
            for term, matrix in zip(
                _terms(gradient.contiguous(), len(weight), ctx.parts), weight, strict=True
            ):
                if wants_weight:
                    by_weight.append(transposed @ term.flatten(0, 1))
                if wants_features:
                    by_features = _add_product(by_features, term, matrix.mT)
        return by_features, torch.stack(by_weight) if wants_weight else None, None


def _accumulate(features: Tensor, weight: Tensor, parts: Parts) -> Tensor:
    """Recur over the input's channels, then multiply by the weights."""
    total: Tensor | None = None
    for term, matrix in zip(_terms(features, len(weight), parts), weight, strict=True):
        total = _add_product(total, term, matrix)
    return features if total is None else total


def _clenshaw(features: Tensor, weight: Tensor, parts: Parts) -> Tensor:
    """Multiply by the weights, then recur over the output's channels, from the last order.

    Source: Clenshaw (1955), "A note on the summation of Chebyshev series".
    """
    matrix = csr(parts)
    flat = features.flatten(0, 1)
    shape = (len(features), features.shape[1] * weight.shape[2])
    after, later = None, None  # the sums of orders k + 1 and k + 2
    for order in range(len(weight) - 1, -1, -1):
        total = (flat @ weight[order]).view(shape)
        if later is not None:
            total -= later
        if after is not None:
            total = total.addmm_(matrix, after, alpha=1 if order == 0 else 2)
        after, later = total, after
    return total.view(*features.shape[:2], -1)


def _terms(features: Tensor, count: int, parts: Parts) -> Iterator[Tensor]:
    """Yield T_k(L) x for k below `count`; a term is only valid until the one after the next."""
    matrix, shape = csr(parts), features.shape
    before = features.flatten(1)
    yield features
    if count == 1:
        return
    term = matrix @ before
    yield term.view(shape)
    for order in range(2, count):
        if order == 2 or torch.is_grad_enabled():  # the first is the caller's
            following = torch.addmm(before, matrix, term, beta=-1, alpha=2)
        else:
            following = before.addmm_(matrix, term, beta=-1, alpha=2)
        before, term = term, following
        yield term.view(shape)


def _add_product(total: Tensor | None, term: Tensor, matrix: Tensor) -> Tensor:
    """Add (V,B,C) times (C,D) to a sum (V,B,D), in place unless gradients are recorded."""
    flat = term.flatten(0, 1)
    if total is None:
        return (flat @ matrix).view(*term.shape[:2], -1)
    if torch.is_grad_enabled():
        return torch.addmm(total.flatten(0, 1), flat, matrix).view(total.shape)
    total.flatten(0, 1).addmm_(flat, matrix)
    return total
