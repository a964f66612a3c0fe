"""Conversion of SciPy's sparse matrices to PyTorch tensors."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

__all__ = ["csr_tensor", "drop_columns"]


def csr_tensor(matrix: sparse.csr_matrix, device: str = "cpu") -> Tensor:
    """Convert a CSR matrix to a sparse CSR tensor; on the CPU both share their memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr),
            torch.from_numpy(matrix.indices),
            torch.from_numpy(matrix.data),
            size=matrix.shape,
            device=device,
            check_invariants=False,  # SciPy has checked them
        )


def drop_columns(counts: sparse.csr_matrix, columns: np.ndarray) -> sparse.csr_matrix:
    """Return counts without the entries of some columns, given as (G,) bool; the shape stays."""
    keep = ~columns[counts.indices]
    pointer = np.concatenate([[0], np.cumsum(keep)])[counts.indptr]
    return sparse.csr_matrix((counts.data[keep], counts.indices[keep], pointer), shape=counts.shape)
