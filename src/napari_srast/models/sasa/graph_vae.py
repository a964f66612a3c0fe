"""Encode spots by message passing on two topologies, and decode counts and edges from their latents.

The encoder has two layers ``h <- h + SiLU(W h + g * W_s mean_s(h) + (1 - g) * W_e mean_e(h))`` with the means over the
neighbors in space (s) and in expression (e), and a gate ``g = sigmoid(W_g [W_s mean_s(h), W_e mean_e(h)])``. The count
decoder is linear in the latent. A graph VAE on a dual-topology graph is the paper's (SRast, arXiv 2602.10644); these
layers are this project's choice (docs/method.md).

Shape legend: N spots, G decoded genes, P components, D latent width, H hidden width, E edges.
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

_ENCODER_BATCH = 16_384  # spots per batch when no gradient is needed


class _SymmetricProduct(torch.autograd.Function):
    """Multiply by a symmetric sparse matrix; its gradient avoids the transposed copy that torch makes each time."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, matrix: Tensor) -> Tensor:
        ctx.matrix = matrix
        return _sum_of_neighbors(matrix, h)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _sum_of_neighbors(ctx.matrix, grad), None


def _sum_of_neighbors(adjacency: Tensor, h: Tensor) -> Tensor:
    """Multiply a CSR matrix of ones (N, N) by features (N, H)."""
    return adjacency @ h if h.device.type == "cpu" else _sum_in_order(adjacency, h)


def _sum_in_order(adjacency: Tensor, h: Tensor) -> Tensor:
    """Multiply a CSR matrix of ones by features in a fixed summation order; CUDA's product varies between runs."""
    of_neighbors = h.index_select(0, adjacency.col_indices())
    return torch.segment_reduce(of_neighbors, "sum", offsets=adjacency.crow_indices(), axis=0, unsafe=True)


class _NeighborMean(MessagePassing):
    """Average features over the neighbors of each spot on one topology."""

    def forward(self, h: Tensor, topology: Topology) -> Tensor:
        return topology.inverse_degree * self.propagate(topology.adjacency, h=h)

    def message_and_aggregate(self, edge_index: Tensor, h: Tensor) -> Tensor:
        return _SymmetricProduct.apply(h, edge_index)


@dataclass(frozen=True, eq=False)
class Topology:
    """Hold one topology of the graph on a device.

    Parameters
    ----------
    adjacency
        Symmetric adjacency matrix of ones, CSR, shape (N, N).
    inverse_degree
        One over the number of neighbors of each spot (1 for spots without), shape (N, 1).
    """

    adjacency: Tensor
    inverse_degree: Tensor

    @classmethod
    def from_adjacency(cls, adjacency: sparse.csr_matrix, device: str) -> Topology:
        """Copy an adjacency matrix (N, N) to a device."""
        matrix = csr_tensor(adjacency.astype(np.float32), device)
        degree = np.maximum(np.diff(adjacency.indptr), 1).astype(np.float32)
        return cls(matrix, torch.from_numpy(1 / degree)[:, None].to(device))


class _DualTopologyLayer(nn.Module):
    """Pass messages on both topologies, fuse them by a gate, and add the result to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.average = _NeighborMean()
        self.spatial = nn.Linear(width, width)
        self.expression = nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, width)
        self.self_connection = nn.Linear(width, width)

    def forward(self, h: Tensor, spatial: Topology, expression: Topology) -> Tensor:
        means = self.average(h, spatial), self.average(h, expression)
        if torch.is_grad_enabled():
            return self._fuse(h, *means)
        # Without gradients no activation has to be kept: batches of spots bound the memory.
        batches = zip(*(value.split(_ENCODER_BATCH) for value in (h, *means)), strict=True)
        return torch.cat([self._fuse(*batch) for batch in batches])

    def _fuse(self, h: Tensor, spatial_mean: Tensor, expression_mean: Tensor) -> Tensor:
        spatial, expression = self.spatial(spatial_mean), self.expression(expression_mean)
        gate = torch.sigmoid(self.gate(torch.cat([spatial, expression], dim=1)))
        return h + F.silu(self.self_connection(h) + gate * spatial + (1 - gate) * expression)


class GraphVAE(nn.Module):
    """Encode spots to a Gaussian latent on the dual-topology graph; decode counts and edges from it.

    Parameters
    ----------
    n_components
        Principal components per spot, P.
    n_panel
        Decoded genes, G.
    hidden, latent
        Hidden width H and latent width D.
    """

    def __init__(self, n_components: int, n_panel: int, *, hidden: int, latent: int) -> None:
        super().__init__()
        self.embed = nn.Linear(n_components, hidden)
        self.layers = nn.ModuleList([_DualTopologyLayer(hidden), _DualTopologyLayer(hidden)])
        self.mean = nn.Linear(hidden, latent)
        self.log_variance = nn.Linear(hidden, latent)
        self.decoder = nn.Linear(latent, n_panel)
        self.log_dispersion = nn.Parameter(torch.full((n_panel,), 1.0))
        self.edge_scale = nn.Parameter(torch.zeros(2, latent))
        self.edge_bias = nn.Parameter(torch.zeros(2))

    def encode(self, x: Tensor, spatial: Topology, expression: Topology) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latent posterior, shape (N, D) each.

        Parameters
        ----------
        x
            Principal components, shape (N, P).
        spatial, expression
            Topologies of the N spots.
        """
        h = F.silu(self.embed(x))
        for layer in self.layers:
            h = layer(h, spatial, expression)
        return self.mean(h), self.log_variance(h).clamp(-8, 4)

    def decode(self, z: Tensor) -> Tensor:
        """Decode latents (N, D) to the log fraction of each gene in the panel's counts, shape (N, G)."""
        return torch.log_softmax(self.decoder(z), dim=1)

    def edge_logits(self, z: Tensor, edges: Tensor, kind: int) -> Tensor:
        """Return the logit of each edge, a weighted inner product of the latents at its ends.

        Parameters
        ----------
        z
            Latents, shape (N, D).
        edges
            Indices of the two spots of each edge, shape (2, E).
        kind
            Topology: 0 for space, 1 for expression.
        """
        weight = F.softplus(self.edge_scale[kind])
        # Embedding look-ups, not indexing: on CUDA, only the gradient of the look-up has a fixed summation order.
        return (F.embedding(edges[0], z) * weight * F.embedding(edges[1], z)).mean(dim=1) + self.edge_bias[kind]
