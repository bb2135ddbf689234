"""Which vertices are neighbours, and the graph Laplacian of that."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Array = NDArray[Any]
EdgeWeights = Literal["reference", "binary"]


def adjacency(
    faces: Array, count: int, edge_weights: EdgeWeights = "reference"
) -> scipy.sparse.csr_array:
    """Return the symmetric (V,V) float64 matrix of edge weights, its diagonal empty.

    Args:
        faces: (F,3) integers.
        count: of vertices, V.
        edge_weights: 'reference': the number of faces at an edge (2 inside, 1 at borders);
            'binary': 1.
    """
    rows, columns = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    ones = np.ones(len(rows))
    directed = scipy.sparse.coo_array((ones, (rows, columns)), shape=(count, count)).tocsr()
    both = (directed + directed.T).tocsr()
    both.sum_duplicates()
    both.sort_indices()
    if edge_weights == "binary":
        both.data[:] = 1
    return both


def scaled_laplacian(matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Return L - I = -D^-1/2 A D^-1/2 (float32): the normalised Laplacian, largest eigenvalue 2.

    It is symmetric, with eigenvalues in [-1,1]; a vertex without neighbours has a row of zeros.

    Args:
        matrix: (V,V) symmetric, not negative, its diagonal empty.

    Source: Defferrard et al. (2016), "Convolutional neural networks on graphs with fast localized
    spectral filtering", with the eigenvalue fixed as in the reference.
    """
    degree = np.asarray(matrix.sum(axis=1)).reshape(-1)
    root = np.where(degree > 0, degree, 1) ** -0.5
    scaled = matrix.copy()
    scaled.data = -matrix.data * np.repeat(root, np.diff(matrix.indptr)) * root[matrix.indices]
    return scaled.astype(np.float32)
