"""The graph VAE of SASA: messages on two topologies, fused by a gate; a decoder linear in the latent.

Shape legend: N spots, P components, D latent width, H hidden width, E edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F

from napari_srast._utils.sparse import csr_tensor
from napari_srast.models.sasa.message_passing import MessagePassing

__all__ = ["GraphVAE", "Topology"]

_ENCODED = 16_384  # spots that are encoded at once


class _SymmetricProduct(torch.autograd.Function):
    """Sparse product with a symmetric matrix: its gradient needs no transposed matrix, which torch makes every time."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, matrix: Tensor) -> Tensor:
        ctx.matrix = matrix
        return _sum_of_neighbors(matrix, h)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _sum_of_neighbors(ctx.matrix, grad), None


def _sum_of_neighbors(adjacency: Tensor, h: Tensor) -> Tensor:
    """Multiply a CSR matrix of ones (N, N) by (N, H)."""
    return adjacency @ h if h.device.type == "cpu" else _sum_in_order(adjacency, h)


def _sum_in_order(adjacency: Tensor, h: Tensor) -> Tensor:
    """Do the same in an order that is always the same; CUDA's own product may change it from run to run."""
    of_neighbors = h.index_select(0, adjacency.col_indices())
    return torch.segment_reduce(of_neighbors, "sum", offsets=adjacency.crow_indices(), axis=0, unsafe=True)


class _NeighborMean(MessagePassing):
    """Mean over a spot's neighbors on one topology."""

    def forward(self, h: Tensor, topology: Topology) -> Tensor:
        return topology.share * self.propagate(topology.adjacency, h=h)

    def message_and_aggregate(self, edge_index: Tensor, h: Tensor) -> Tensor:
        return _SymmetricProduct.apply(h, edge_index)


@dataclass(frozen=True, eq=False)
class Topology:
    """Adjacency of ones, symmetric, CSR (N, N), and one over each spot's number of neighbors, (N, 1)."""

    adjacency: Tensor
    share: Tensor

    @classmethod
    def of(cls, adjacency: sparse.csr_matrix, device: str) -> Topology:
        """Copy an adjacency matrix (N, N) to a device."""
        matrix = csr_tensor(adjacency.astype(np.float32), device)
        degree = np.maximum(np.diff(adjacency.indptr), 1).astype(np.float32)
        return cls(matrix, torch.from_numpy(1 / degree)[:, None].to(device))


class _DualConv(nn.Module):
    """One layer of message passing on both topologies, fused by a gate, with a residual path."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.average = _NeighborMean()
        self.spatial = nn.Linear(width, width)
        self.expression = nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, width)
        self.own = nn.Linear(width, width)

    def forward(self, h: Tensor, spatial: Topology, expression: Topology) -> Tensor:
        means = self.average(h, spatial), self.average(h, expression)
        if torch.is_grad_enabled():
            return self._fused(h, *means)
        # Nothing is learned from what passes between: a part of the spots at a time keeps that small.
        parts = zip(*(value.split(_ENCODED) for value in (h, *means)), strict=True)
        return torch.cat([self._fused(*part) for part in parts])

    def _fused(self, h: Tensor, near: Tensor, alike: Tensor) -> Tensor:
        near, alike = self.spatial(near), self.expression(alike)
        gate = torch.sigmoid(self.gate(torch.cat([near, alike], dim=1)))
        return h + F.silu(self.own(h) + gate * near + (1 - gate) * alike)


class GraphVAE(nn.Module):
    """Encoder on the dual-topology graph, decoder linear in the latent."""

    def __init__(self, n_components: int, n_panel: int, *, hidden: int, latent: int) -> None:
        super().__init__()
        self.embed = nn.Linear(n_components, hidden)
        self.layers = nn.ModuleList([_DualConv(hidden), _DualConv(hidden)])
        self.mean = nn.Linear(hidden, latent)
        self.log_variance = nn.Linear(hidden, latent)
        self.decoder = nn.Linear(latent, n_panel)
        self.log_dispersion = nn.Parameter(torch.full((n_panel,), 1.0))
        self.edge_scale = nn.Parameter(torch.zeros(2, latent))
        self.edge_bias = nn.Parameter(torch.zeros(2))

    def encode(self, x: Tensor, spatial: Topology, expression: Topology) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latent, shape (N, D) each."""
        h = F.silu(self.embed(x))
        for layer in self.layers:
            h = layer(h, spatial, expression)
        return self.mean(h), self.log_variance(h).clamp(-8, 4)

    def decode(self, z: Tensor) -> Tensor:
        """Return the log share of each gene in the panel's counts, shape (N, n_panel)."""
        return torch.log_softmax(self.decoder(z), dim=1)

    def edge_logits(self, z: Tensor, edges: Tensor, kind: int) -> Tensor:
        """Return the logit of each edge (2, E) of one topology."""
        weight = F.softplus(self.edge_scale[kind])
        # A look-up: on CUDA the gradient of indexing adds up in another order every time, and that of this does not.
        return (F.embedding(edges[0], z) * weight * F.embedding(edges[1], z)).mean(dim=1) + self.edge_bias[kind]
