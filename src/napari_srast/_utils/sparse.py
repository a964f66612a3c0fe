"""Conversion of SciPy's sparse matrices to PyTorch tensors."""

from __future__ import annotations

import warnings

import torch
from scipy import sparse
from torch import Tensor

__all__ = ["csr_tensor"]


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
