"""Test message passing of the graph VAE."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from napari_srast._utils.devices import available_devices
from napari_srast._utils.sparse import csr_tensor
from napari_srast.models.sasa.graph_vae import _sum_in_order, _sum_of_neighbors


@pytest.mark.parametrize("device", [name for name in available_devices() if name != "mps"])
def test_ordered_sum_equals_sparse_product(device: str) -> None:
    matrix = sparse.random(40, 40, 0.1, format="csr", random_state=0, dtype=np.float32)
    matrix.data[:] = 1.0
    h = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).to(device)
    adjacency = csr_tensor(matrix, device)
    torch.testing.assert_close(_sum_of_neighbors(adjacency, h).cpu(), torch.from_numpy(matrix @ h.cpu().numpy()))
    torch.testing.assert_close(_sum_in_order(adjacency, h), adjacency @ h)
