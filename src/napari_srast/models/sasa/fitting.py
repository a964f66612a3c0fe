"""Structure-aware semantic alignment (SASA): a graph VAE fitted to each slide on its own, without labels.

Independent implementation after the published description (arXiv 2602.10644); sizes and losses are ours:

1. log-normalize, project on the slide's own principal components;
2. join spots that are near and spots that are alike (the dual-topology graph);
3. encode on both topologies, fused by a learned gate, to a Gaussian latent; decode counts (negative binomial with the
   spot's size factor and a decoder linear in the latent, so that every gene has a loading) and both edge sets;
4. Latent Norm: center, whiten and shrink each direction by how much of it is signal, so that latents of all slides
   share one scale and only inner products and distances, which no rotation changes, are used downstream.

Shape legend: N spots, G genes, P components, D latent width, H hidden width.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from napari_srast._utils.canonical_order import canonical_order
from napari_srast._utils.devices import graph_device, on_device, one_thread
from napari_srast.errors import Cancelled
from napari_srast.geometry.bisection import sample_patches
from napari_srast.geometry.lattice import Lattice
from napari_srast.geometry.neighbors import DualTopologyGraph, dual_topology_graph
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.embedding import SlideEmbedding, log_normalize, spot_context
from napari_srast.models.sasa.graph_vae import GraphVAE, Topology
from napari_srast.models.sasa.negative_binomial import negative_binomial

__all__ = ["fit_sasa"]


_LEARNED = 20_000  # spots that the model is learned from, at the most
_PATCHES = 8  # that they lie in, where the slide has more
_DECOMPOSED = 10_000  # spots that the principal components are found on, at the most


_random = threading.Lock()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's own random numbers for a while; they are the whole process's, so one slide at a time."""
    with _random, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def fit_sasa(
    counts: sparse.csr_matrix,
    centers: np.ndarray,
    lattice: Lattice,
    *,
    config: SasaConfig | None = None,
    seed: int = 0,
    device: str = "cpu",
    should_stop: Callable[[], bool] | None = None,
) -> SlideEmbedding:
    """Fit the graph VAE to one slide and return its feature pool.

    Parameters
    ----------
    counts
        Raw counts, CSR, shape (N, G).
    centers
        Spot centers, shape (N, 2).
    lattice
        Their lattice.
    config, seed, device
        Deterministic for a seed on one device.
    should_stop
        Asked before every epoch.

    Raises
    ------
    Cancelled
        ``should_stop`` said so.
    """
    config = config or SasaConfig()
    device = graph_device(device)
    order = canonical_order(counts, centers)
    if not np.array_equal(order, np.arange(len(order))):  # a copy of a large slide is felt
        counts = counts[order]
    points = centers[order]
    totals = np.asarray(counts.sum(axis=1)).ravel().astype(np.float64)
    components, panel = _components(counts, totals, config)
    if len(points) < 4 or components.shape[1] == 0:
        latent = np.zeros((len(points), config.latent), dtype=np.float32)
        raw = latent
    else:
        graph = dual_topology_graph(points, components, lattice, n_expression=config.n_expression)
        with one_thread():
            raw, variance = _train(counts, panel, components, graph, points, config, seed, device, should_stop)
        latent = latent_norm(raw, variance)
    back = np.argsort(order)
    latent, components = latent[back], components[back]
    return SlideEmbedding(
        latent=latent,
        totals=totals[back],
        components=components,
        raw_latent=raw[back],
        context=spot_context(components, latent, centers / lattice.pitch),
        config=config,
    )


def latent_norm(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Center and whiten latents; each direction keeps the share of its variance that is signal.

    Parameters
    ----------
    mean, variance
        Posterior of each spot, shape (N, D) each.
    """
    centerd = mean - mean.mean(axis=0)
    value, vector = np.linalg.eigh(np.cov(centerd.T) + 1e-9 * np.eye(centerd.shape[1]))
    value = np.maximum(value, 1e-9)
    noise = np.einsum("nd,dk->k", variance, vector**2) / len(variance)
    signal = np.sqrt(value / (value + noise))
    vector = vector * np.where(np.abs(vector).max(axis=0) == vector.max(axis=0), 1.0, -1.0)  # a fixed sign
    return (centerd @ vector / np.sqrt(value) * signal)[:, ::-1].astype(np.float32)


def _components(counts: sparse.csr_matrix, totals: np.ndarray, config: SasaConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return principal components (N, P), scaled to the first one's spread, and the indices of the decoded panel."""
    positive = totals[totals > 0]
    scale = float(np.median(positive)) if len(positive) else 1.0
    logged = log_normalize(counts, totals, scale)
    mean = np.asarray(logged.mean(axis=0)).ravel()
    spread = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
    expressed = np.flatnonzero(spread > 1e-12)
    panel = np.sort(expressed[np.argsort(-spread[expressed], kind="stable")[: config.n_panel]])
    n_components = min(config.n_components, len(panel) - 1, counts.shape[0] - 1)
    if n_components < 1:
        return np.zeros((counts.shape[0], 0), dtype=np.float32), panel
    wide = min(2 * config.n_panel, len(expressed))
    chosen = np.sort(expressed[np.argsort(-spread[expressed], kind="stable")[:wide]])
    with _seeded(0):
        # Torch's, not scikit-learn's: it leaves Python's lock free, so that a window lives on meanwhile.
        wanted = logged[:, chosen].astype(np.float32)
        some = wanted[:_DECOMPOSED].toarray()  # in canonical order, the first are as good as any
        _, _, axes = torch.pca_lowrank(torch.from_numpy(some), q=min(n_components + 10, *some.shape), niter=4)
    directions = axes[:, :n_components].numpy()
    components = wanted @ directions - some.mean(axis=0) @ directions
    return np.ascontiguousarray(components / max(components[:, 0].std(), 1e-9)), panel


def _train(
    counts: sparse.csr_matrix,
    panel: np.ndarray,
    components: np.ndarray,
    graph: DualTopologyGraph,
    points: np.ndarray,
    config: SasaConfig,
    seed: int,
    device: str,
    should_stop: Callable[[], bool] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit by Adam; return the latent's posterior mean and variance, (N, D) each.

    Messages pass between all spots that are learned from. On large slides these are patches all over it, and the
    whole slide is only encoded: the time and memory of learning are bounded.
    """
    learned = sample_patches(points, _LEARNED, _PATCHES)
    decoded = counts[learned][:, panel]
    model = _initial_model(decoded, components.shape[1], config, seed, device)
    if len(learned) == len(points):
        part = graph
    else:
        part = DualTopologyGraph(
            spatial=graph.spatial[learned][:, learned].tocsr(), expression=graph.expression[learned][:, learned].tocsr()
        )
    _optimize(model, decoded, components[learned], part, config, seed, device, should_stop)
    with torch.no_grad():
        topologies = (Topology.of(a, device) for a in (graph.spatial, graph.expression))
        mean, log_variance = model.encode(torch.from_numpy(components).to(device), *topologies)
    return mean.cpu().numpy().astype(np.float64), log_variance.exp().cpu().numpy().astype(np.float64)


def _initial_model(
    counts: sparse.csr_matrix, n_components: int, config: SasaConfig, seed: int, device: str
) -> GraphVAE:
    """Return a model that decodes every latent to the mean expression."""
    with _seeded(seed):
        model = GraphVAE(n_components, counts.shape[1], hidden=config.hidden, latent=config.latent).to(device)
    frequency = torch.from_numpy(np.asarray(counts.sum(axis=0), dtype=np.float32).ravel()).to(device) + 1e-3
    with torch.no_grad():
        model.decoder.bias.copy_(torch.log(frequency / frequency.sum()))
        model.decoder.weight.mul_(0.1)
    return model


def _optimize(
    model: GraphVAE,
    counts: sparse.csr_matrix,
    components: np.ndarray,
    graph: DualTopologyGraph,
    config: SasaConfig,
    seed: int,
    device: str,
    should_stop: Callable[[], bool] | None,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    n_spots = len(components)
    x = torch.from_numpy(components).to(device)
    panel_totals = np.asarray(counts.sum(axis=1), dtype=np.float32).ravel()
    spatial, expression = (Topology.of(a, device) for a in (graph.spatial, graph.expression))
    edges = [torch.from_numpy(np.stack(sparse.triu(a).nonzero())).to(device) for a in (graph.spatial, graph.expression)]
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config.learning_rate, total_steps=config.epochs)
    for _ in range(config.epochs):
        if should_stop is not None and should_stop():
            raise Cancelled
        mean, log_variance = model.encode(x, spatial, expression)
        noise = on_device(torch.randn(mean.shape, generator=generator), device)
        z = mean + noise * torch.exp(0.5 * log_variance)
        rows = torch.randperm(n_spots, generator=generator)[: config.batch_spots]
        y = on_device(torch.from_numpy(counts[rows.numpy()].toarray().astype(np.float32)), device)
        totals = on_device(torch.from_numpy(panel_totals[rows.numpy()]), device)
        loss = _count_loss(model, z[on_device(rows, device)], y, totals)
        loss = loss + config.kl_weight * 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        for kind, edge in enumerate(edges):
            if edge.shape[1]:
                some = torch.randint(edge.shape[1], (min(config.batch_edges, edge.shape[1]),), generator=generator)
                part = edge[:, on_device(some, device)]
                loss = loss + config.edge_weight * _edge_loss(model, z, part, kind, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()


def _count_loss(model: GraphVAE, z: Tensor, y: Tensor, totals: Tensor) -> Tensor:
    """Negative log-likelihood of the panel's counts of a spot, negative binomial, constants left out."""
    log_rate = model.decode(z) + torch.log(totals.clamp_min(1e-3))[:, None]
    dispersion = torch.exp(model.log_dispersion).clamp(1e-3, 1e4)
    likelihood = negative_binomial(log_rate, dispersion, y)
    return -likelihood.sum(dim=1).mean()


def _edge_loss(model: GraphVAE, z: Tensor, edges: Tensor, kind: int, generator: torch.Generator) -> Tensor:
    """Tell true edges from random pairs, as many of each."""
    fake = on_device(torch.randint(0, len(z), edges.shape, generator=generator), edges.device)
    true_logit, fake_logit = model.edge_logits(z, edges, kind), model.edge_logits(z, fake, kind)
    return F.softplus(-true_logit).mean() + F.softplus(fake_logit).mean()
