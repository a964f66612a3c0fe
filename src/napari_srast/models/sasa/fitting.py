"""Fit SASA, structure-aware semantic alignment: a graph VAE on one slide, trained without labels.

The published description (SRast, arXiv 2602.10644) names a sample-specific graph VAE on a dual-topology graph and
Latent Norm. This is an independent implementation; sizes, losses and the shrinkage of Latent Norm are this project's
choice (docs/method.md). The steps:

1. Log-normalize the counts and project them on the slide's own principal components.
2. Build the dual-topology graph: edges between neighbors in space and between neighbors in expression.
3. Encode on both topologies, fused by a learned gate, to a Gaussian latent ``z``. Decode the counts (negative binomial
   with the spot's total as size factor, linear in ``z``, so that every gene has a loading) and both sets of edges. The
   loss is ``-E[log p(counts | z)] + kl_weight KL(q(z) || N(0, I)) + edge_weight (edge cross-entropy)``.
4. Apply Latent Norm: center, whiten and shrink each direction by its fraction of signal, so that latents of all slides
   have one scale. Only inner products and distances are used downstream, which rotations do not change.

Shape legend: N spots, G genes, P components, D latent width.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from napari_srast._utils.canonical_order import canonical_order
from napari_srast._utils.devices import graph_device, on_device
from napari_srast._utils.row_blocks import MAX_WHOLE_ROWS, add_up, row_blocks
from napari_srast._utils.threads import single_threaded_torch
from napari_srast.core.limits import MAX_SASA_TRAINING_SPOTS, SASA_TRAINING_PARTS
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.geometry.bisection import bisect_points, sample_patches
from napari_srast.geometry.lattice import Lattice
from napari_srast.geometry.neighbors import DualTopologyGraph, dual_topology_graph
from napari_srast.interpolation.denoising import N_SIMILAR
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.embedding import SlideEmbedding, log_normalize, similar_spots, spot_context
from napari_srast.models.sasa.graph_vae import GraphVAE, Topology
from napari_srast.models.sasa.negative_binomial import negative_binomial_log_likelihood

__all__ = ["fit_sasa", "latent_norm"]

_N_PATCHES = 8  # compact patches that make up the sample
_MAX_PCA_SPOTS = 10_000  # spots that the principal components are computed from

_torch_seed_lock = threading.Lock()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's global random state temporarily; a lock, because the state belongs to the whole process."""
    with _torch_seed_lock, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True, kw_only=True)
class _TrainingOptions:
    """Hold what every step of the training needs."""

    config: SasaConfig
    seed: int
    device: str
    monitor: RunMonitor


def fit_sasa(
    counts: sparse.csr_matrix,
    centers: np.ndarray,
    lattice: Lattice,
    *,
    config: SasaConfig | None = None,
    seed: int = 0,
    device: str = "cpu",
    monitor: RunMonitor = NO_MONITOR,
) -> SlideEmbedding:
    """Fit the graph VAE to one slide and embed its spots.

    The result does not depend on the order of the spots. It is deterministic for a seed on one device.

    Parameters
    ----------
    counts
        Raw counts, CSR, shape (N, G).
    centers
        Spot centers, shape (N, 2), in any unit of length.
    lattice
        Lattice of the spots, with the pitch in the same unit.
    config
        Size and training of the network; None for the default.
    seed
        Seed of weights, noise and batches.
    device
        Device to train on, such as "cpu" or "cuda".
    monitor
        Asked for cancellation before every epoch.

    Returns
    -------
    SlideEmbedding
        Embedding in the order of ``counts``. Latents are 0 if the slide has fewer than four spots or no variable genes.

    Raises
    ------
    Cancelled
        The monitor is canceled.
    """
    config = config or SasaConfig()
    device = graph_device(device)
    order = canonical_order(counts, centers)
    if not np.array_equal(order, np.arange(len(order))):  # copying a large slide takes time and memory
        counts = counts[order]
    points = centers[order]
    totals = np.asarray(counts.sum(axis=1)).ravel().astype(np.float64)
    components, panel = _components(counts, totals, config)
    similar = None
    if len(points) > MAX_WHOLE_ROWS and components.shape[1] > 0:
        # One search for graph and context; in all components it takes three times as long.
        similar = similar_spots(components, config.n_expression)
    if len(points) < 4 or components.shape[1] == 0:
        latent = np.zeros((len(points), config.latent), dtype=np.float32)
        raw = latent
    else:
        graph = dual_topology_graph(points, components, lattice, n_expression=config.n_expression, similar=similar)
        options = _TrainingOptions(config=config, seed=seed, device=device, monitor=monitor)
        with single_threaded_torch():
            raw, variance = _train_and_encode(counts, panel, components, graph, points, options)
        latent = latent_norm(raw, variance)
    original_order = np.argsort(order)
    latent, components = latent[original_order], components[original_order]
    if similar is not None:
        similar = order[similar[original_order]] if config.n_expression == N_SIMILAR else None
    return SlideEmbedding(
        latent=latent,
        totals=totals[original_order],
        components=components,
        raw_latent=raw[original_order],
        context=spot_context(components, latent, centers / lattice.pitch, similar),
        config=config,
    )


def latent_norm(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Apply Latent Norm: center and whiten the latents, and shrink each direction to its fraction of signal.

    With eigenvalue ``v`` of the covariance of the means and mean posterior variance ``s`` along its eigenvector, the
    whitened direction is multiplied by ``sqrt(v / (v + s))``. Latent Norm is the paper's (SRast, arXiv 2602.10644); the
    shrinkage is this project's choice (docs/method.md).

    Parameters
    ----------
    mean, variance
        Posterior mean and variance of each spot's latent, shape (N, D) each.

    Returns
    -------
    np.ndarray
        Float32, shape (N, D), directions in order of decreasing variance of the means.
    """
    centered = mean - mean.mean(axis=0)
    value, vector = np.linalg.eigh(np.cov(centered.T) + 1e-9 * np.eye(centered.shape[1]))
    value = np.maximum(value, 1e-9)
    noise = np.einsum("nd,dk->k", variance, vector**2) / len(variance)
    signal = np.sqrt(value / (value + noise))
    vector = vector * np.where(np.abs(vector).max(axis=0) == vector.max(axis=0), 1.0, -1.0)  # a reproducible sign
    return (centered @ vector / np.sqrt(value) * signal)[:, ::-1].astype(np.float32)


def _components(counts: sparse.csr_matrix, totals: np.ndarray, config: SasaConfig) -> tuple[np.ndarray, np.ndarray]:
    """Compute principal components (N, P), the first with standard deviation 1, and select the genes to decode.

    Returns
    -------
    components
        Shape (N, P); P = 0 if the slide has too few spots or variable genes.
    panel
        Column indices of the decoded genes.
    """
    positive = totals[totals > 0]
    scale = float(np.median(positive)) if len(positive) else 1.0
    blocks = row_blocks(len(totals), counts.nnz)

    def logged(rows: slice) -> sparse.csr_matrix:
        of_block = counts if rows == slice(0, len(totals)) else counts[rows]
        return log_normalize(of_block, totals[rows], scale)

    variance = _column_variance(logged(rows) for rows in blocks)
    variable = np.flatnonzero(variance > 1e-12)
    panel = np.sort(variable[np.argsort(-variance[variable], kind="stable")[: config.n_panel]])
    n_components = min(config.n_components, len(panel) - 1, counts.shape[0] - 1)
    if n_components < 1:
        return np.zeros((counts.shape[0], 0), dtype=np.float32), panel
    n_pca_genes = min(2 * config.n_panel, len(variable))
    pca_genes = np.sort(variable[np.argsort(-variance[variable], kind="stable")[:n_pca_genes]])
    with _seeded(0):
        # Torch's PCA, not scikit-learn's: it releases Python's global lock, so that the window stays responsive.
        sampled = slice(0, min(_MAX_PCA_SPOTS, len(totals)))  # canonical order is unrelated to position: a sample
        sample = logged(sampled)[:, pca_genes].astype(np.float32).toarray()
        _, _, axes = torch.pca_lowrank(torch.from_numpy(sample), q=min(n_components + 10, *sample.shape), niter=4)
    directions = axes[:, :n_components].numpy()
    origin = sample.mean(axis=0) @ directions
    components = np.concatenate(
        [logged(rows)[:, pca_genes].astype(np.float32) @ directions - origin for rows in blocks], dtype=np.float32
    )
    return np.ascontiguousarray(components / max(components[:, 0].std(), 1e-9)), panel


def _column_variance(blocks: Iterable[sparse.csr_matrix]) -> np.ndarray:
    """Return the variance of each column over the rows of all blocks, shape (G,)."""
    n_rows, means, squares = [], [], []
    for block in blocks:
        n_rows.append(block.shape[0])
        means.append(np.asarray(block.mean(axis=0)).ravel())
        squares.append(np.asarray(block.multiply(block).mean(axis=0)).ravel())
    share = [n / sum(n_rows) for n in n_rows]  # 1 for a single block
    mean, square = (add_up(map(np.multiply, parts, share)) for parts in (means, squares))
    return np.asarray(square - mean**2)


def _train_and_encode(
    counts: sparse.csr_matrix,
    panel: np.ndarray,
    components: np.ndarray,
    graph: DualTopologyGraph,
    points: np.ndarray,
    options: _TrainingOptions,
) -> tuple[np.ndarray, np.ndarray]:
    """Train the graph VAE and encode all spots; return posterior mean and variance of the latent, (N, D) each.

    A large slide is trained on a sample of compact patches, which bounds the time and memory of training, and encoded
    as a whole. Each step takes a part of these patches, between whose spots messages pass.
    """
    sample = sample_patches(points, MAX_SASA_TRAINING_SPOTS, _N_PATCHES)
    decoded = counts[sample][:, panel]
    model = _initial_model(decoded, components.shape[1], options)
    device = options.device
    if len(sample) == len(points):
        parts = [_TrainingPart.of_spots(decoded, components, graph, device)]
    else:
        members = _spread_parts(points[sample])
        parts = [
            _TrainingPart.of_spots(decoded[part], components[spots], _restrict(graph, spots), device)
            for part, spots in ((part, sample[part]) for part in members)
        ]
    _optimize(model, parts, options)
    with torch.no_grad():
        topologies = (Topology.from_adjacency(a, device) for a in (graph.spatial, graph.expression))
        mean, log_variance = model.encode(torch.from_numpy(components).to(device), *topologies)
    return mean.cpu().numpy().astype(np.float64), log_variance.exp().cpu().numpy().astype(np.float64)


def _initial_model(counts: sparse.csr_matrix, n_components: int, options: _TrainingOptions) -> GraphVAE:
    """Initialize the graph VAE so that every latent decodes to nearly the mean expression."""
    config, device = options.config, options.device
    with _seeded(options.seed):
        model = GraphVAE(n_components, counts.shape[1], hidden=config.hidden, latent=config.latent).to(device)
    frequency = torch.from_numpy(np.asarray(counts.sum(axis=0), dtype=np.float32).ravel()).to(device) + 1e-3
    with torch.no_grad():
        model.decoder.bias.copy_(torch.log(frequency / frequency.sum()))
        model.decoder.weight.mul_(0.1)
    return model


def _spread_parts(points: np.ndarray) -> list[np.ndarray]:
    """Divide the spots of a sample into parts, given as indices: each takes patches from all over the slide."""
    size = -(-len(points) // _N_PATCHES)
    patches = bisect_points(points, lambda group: len(group) <= size)
    n_parts = min(SASA_TRAINING_PARTS, len(patches))
    return [np.sort(np.concatenate(patches[first::n_parts])) for first in range(n_parts)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _TrainingPart:
    """Hold n spots between which messages pass in a step of the training.

    Parameters
    ----------
    counts
        Counts of the decoded genes, shape (n, G).
    totals
        Their sums, shape (n,).
    components
        Principal components, shape (n, P).
    topologies, edges
        Neighbors in space and in expression, and the edges of both, shape (2, E).
    """

    counts: sparse.csr_matrix
    totals: np.ndarray
    components: Tensor
    topologies: tuple[Topology, Topology]
    edges: tuple[Tensor, Tensor]

    @classmethod
    def of_spots(
        cls, counts: sparse.csr_matrix, components: np.ndarray, graph: DualTopologyGraph, device: str
    ) -> _TrainingPart:
        """Copy what a step needs of some spots to a device."""
        spatial, expression = graph.spatial, graph.expression
        return cls(
            counts=counts,
            totals=np.asarray(counts.sum(axis=1), dtype=np.float32).ravel(),
            components=torch.from_numpy(components).to(device),
            topologies=(Topology.from_adjacency(spatial, device), Topology.from_adjacency(expression, device)),
            edges=(_edges_of(spatial, device), _edges_of(expression, device)),
        )


def _restrict(graph: DualTopologyGraph, spots: np.ndarray) -> DualTopologyGraph:
    """Return the graph of some spots, with the edges between them."""
    spatial, expression = (a[spots][:, spots].tocsr() for a in (graph.spatial, graph.expression))
    return DualTopologyGraph(spatial=spatial, expression=expression)


def _edges_of(adjacency: sparse.csr_matrix, device: str) -> Tensor:
    return torch.from_numpy(np.stack(sparse.triu(adjacency).nonzero())).to(device)


def _optimize(model: GraphVAE, parts: Sequence[_TrainingPart], options: _TrainingOptions) -> None:
    """Minimize the loss with Adam and a one-cycle schedule; the steps take the parts in turn."""
    config, device = options.config, options.device
    generator = torch.Generator().manual_seed(options.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config.learning_rate, total_steps=config.epochs)
    for step in range(config.epochs):
        options.monitor.check_canceled()
        part = parts[step % len(parts)]
        mean, log_variance = model.encode(part.components, *part.topologies)
        noise = on_device(torch.randn(mean.shape, generator=generator), device)
        z = mean + noise * torch.exp(0.5 * log_variance)
        rows = torch.randperm(len(part.totals), generator=generator)[: config.batch_spots]
        y = on_device(torch.from_numpy(part.counts[rows.numpy()].toarray().astype(np.float32)), device)
        totals = on_device(torch.from_numpy(part.totals[rows.numpy()]), device)
        loss = _count_loss(model, z[on_device(rows, device)], y, totals)
        loss = loss + config.kl_weight * 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        for kind, edge in enumerate(part.edges):
            if edge.shape[1]:
                batch = torch.randint(edge.shape[1], (min(config.batch_edges, edge.shape[1]),), generator=generator)
                batch_edges = edge[:, on_device(batch, device)]
                loss = loss + config.edge_weight * _edge_loss(model, z, batch_edges, kind, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()


def _count_loss(model: GraphVAE, z: Tensor, y: Tensor, totals: Tensor) -> Tensor:
    """Compute the mean negative log-likelihood of a spot's counts (negative binomial), up to a constant."""
    log_rate = model.decode(z) + torch.log(totals.clamp_min(1e-3))[:, None]
    dispersion = torch.exp(model.log_dispersion).clamp(1e-3, 1e4)
    likelihood = negative_binomial_log_likelihood(log_rate, dispersion, y)
    return -likelihood.sum(dim=1).mean()


def _edge_loss(model: GraphVAE, z: Tensor, edges: Tensor, kind: int, generator: torch.Generator) -> Tensor:
    """Compute the binary cross-entropy of edges against as many random pairs of spots."""
    random_pairs = on_device(torch.randint(0, len(z), edges.shape, generator=generator), edges.device)
    edge_logit, random_logit = model.edge_logits(z, edges, kind), model.edge_logits(z, random_pairs, kind)
    return F.softplus(-edge_logit).mean() + F.softplus(random_logit).mean()
