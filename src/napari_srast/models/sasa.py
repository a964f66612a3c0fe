"""Structure-aware semantic alignment (SASA): a graph VAE fitted to each slide on its own, without labels.

Independent implementation after the published description (arXiv 2602.10644); sizes and losses are ours:

1. log-normalise, project on the slide's own principal components;
2. join spots that are near and spots that are alike (the dual-topology graph);
3. encode on both topologies, fused by a learned gate, to a Gaussian latent; decode counts (negative binomial with the
   spot's size factor and a decoder linear in the latent, so that every gene has a loading) and both edge sets;
4. Latent Norm: centre, whiten and shrink each direction by how much of it is signal, so that latents of all slides
   share one scale and only inner products and distances, which no rotation changes, are used downstream.

Shape legend: N spots, G genes, P components, D latent width, H hidden width.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import SimpleConv

from napari_srast.errors import Cancelled
from napari_srast.geometry.graphs import DualTopologyGraph, dual_topology_graph
from napari_srast.geometry.lattice import Lattice
from napari_srast.interpolation.denoising import mean_of_alike, mean_of_near
from napari_srast.models.devices import one_thread

__all__ = ["Denoising", "FeaturePool", "GraphVAE", "SasaConfig", "SpotFeatures", "canonical_order", "fit_sasa"]


_MANY_SPOTS = 3000  # from here on a second thread pays
_LEADING = 10  # components in which likeness is told: distances in more are mostly noise


@dataclass(frozen=True, kw_only=True, slots=True)
class SasaConfig:
    """Sizes and training of the graph VAE.

    Parameters
    ----------
    n_components
        Principal components that go in.
    n_expression
        Expression neighbours of each spot.
    n_panel
        Genes (the most variable) whose counts are decoded.
    hidden, latent
        Widths.
    epochs, learning_rate
        Full-batch Adam.
    kl_weight, edge_weight
        Weights of the KL and the edge terms against the mean log-likelihood of a spot.
    batch_spots, batch_edges
        Spots whose counts, and edges of each topology, enter the loss in one step (messages pass between all spots).
    """

    n_components: int = 50
    n_expression: int = 10
    n_panel: int = 1000
    hidden: int = 64
    latent: int = 16
    epochs: int = 150
    learning_rate: float = 0.01
    kl_weight: float = 1.0
    edge_weight: float = 20.0
    batch_spots: int = 512
    batch_edges: int = 20_000

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not (value > 0 or (value == 0 and name.endswith("_weight"))):
                raise ValueError(f"{name} must be above 0")


class _DualConv(nn.Module):
    """One layer of message passing on both topologies, fused by a gate, with a residual path."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.propagate = SimpleConv(aggr="sum")  # the adjacency comes row-normalised
        self.spatial = nn.Linear(width, width)
        self.expression = nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, width)
        self.own = nn.Linear(width, width)

    def forward(self, h: Tensor, spatial: Tensor, expression: Tensor) -> Tensor:
        near = self.spatial(self.propagate(h, spatial))
        alike = self.expression(self.propagate(h, expression))
        gate = torch.sigmoid(self.gate(torch.cat([near, alike], dim=1)))
        return h + F.silu(self.own(h) + gate * near + (1 - gate) * alike)


class GraphVAE(nn.Module):
    """Encoder on the dual-topology graph, decoder linear in the latent."""

    def __init__(self, n_components: int, n_panel: int, config: SasaConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(n_components, config.hidden)
        self.layers = nn.ModuleList([_DualConv(config.hidden), _DualConv(config.hidden)])
        self.mean = nn.Linear(config.hidden, config.latent)
        self.log_variance = nn.Linear(config.hidden, config.latent)
        self.decoder = nn.Linear(config.latent, n_panel)
        self.log_dispersion = nn.Parameter(torch.full((n_panel,), 1.0))
        self.edge_scale = nn.Parameter(torch.zeros(2, config.latent))
        self.edge_bias = nn.Parameter(torch.zeros(2))

    def encode(self, x: Tensor, spatial: Tensor, expression: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latent, shape (N, D) each."""
        h = F.silu(self.embed(x))
        for layer in self.layers:
            h = layer(h, spatial, expression)
        return self.mean(h), self.log_variance(h).clamp(-8, 4)

    def decode(self, z: Tensor, totals: Tensor) -> Tensor:
        """Return expected counts of the panel, shape (N, n_panel); rows sum to the spot's total over the panel."""
        return totals[:, None] * torch.softmax(self.decoder(z), dim=1)

    def edge_logits(self, z: Tensor, edges: Tensor, kind: int) -> Tensor:
        """Return the logit of each edge (2, E) of one topology."""
        weight = F.softplus(self.edge_scale[kind])
        return (z[edges[0]] * weight * z[edges[1]]).mean(dim=1) + self.edge_bias[kind]


@dataclass(frozen=True, kw_only=True, eq=False)
class Denoising:
    """A denoiser of fields, fitted to a slide: enough to denoise them at any of its spots.

    Parameters
    ----------
    loading
        Ridge coefficients of log-normalised counts, intercept first, shape (C + 1, F).
    factor
        Brings each field to its total over the slide, shape (F,).
    """

    loading: np.ndarray
    factor: np.ndarray

    def __getitem__(self, fields: slice) -> Denoising:
        """Return the denoiser of some fields."""
        return Denoising(loading=self.loading[:, fields], factor=self.factor[fields])

    @classmethod
    def join(cls, parts: Sequence[Denoising]) -> Denoising:
        """Join the denoisers of blocks of fields."""
        return cls(
            loading=np.concatenate([p.loading for p in parts], axis=1), factor=np.concatenate([p.factor for p in parts])
        )

    def at(self, surroundings: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return denoised counts (n, F) of spots with given surroundings (n, C + 1) and depth (n,)."""
        return _expected(surroundings, self.loading, depth) * self.factor


@dataclass(frozen=True, kw_only=True, eq=False)
class SpotFeatures:
    """The features of some of a slide's n spots.

    Parameters
    ----------
    comparable
        Latents of a common length, shape (n, D); see :attr:`FeaturePool.comparable`.
    totals
        Total counts, shape (n,).
    surroundings, depth
        What fields are denoised by, shape (n, C + 1) and (n,).
    """

    comparable: np.ndarray
    totals: np.ndarray
    surroundings: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class FeaturePool:
    """General features of a slide's spots: the normalised latents and what follows from them.

    Parameters
    ----------
    latent
        Normalised latents, shape (N, D); mean 0, variance of a direction = the part of it that is signal.
    totals
        Total counts of each spot, shape (N,).
    components
        Principal components, shape (N, P).
    raw_latent
        Latent means before Latent Norm, shape (N, D).
    context
        Averages a spot's neighbours in space and in expression, shape (N, N); see :func:`spot_context`.
    config
        How it was made.
    """

    latent: np.ndarray
    totals: np.ndarray
    components: np.ndarray
    raw_latent: np.ndarray
    context: sparse.csr_matrix
    config: SasaConfig

    @property
    def scale(self) -> float:
        """Counts that a spot's expression is normalised to: the median total."""
        positive = self.totals[self.totals > 0]
        return float(np.median(positive)) if len(positive) else 1.0

    @cached_property
    def _latent_design(self) -> tuple[np.ndarray, np.ndarray]:
        return _ridge_design(self.latent)

    @cached_property
    def _design(self) -> tuple[np.ndarray, np.ndarray]:
        return _ridge_design(np.column_stack([self.components, self.latent]))

    def loadings(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Return w_g with an intercept for each column of (N, F) counts: ridge on log-normalised counts, (D + 1, F)."""
        return (log_normalise(counts, self.totals, self.scale).T @ self._latent_design[1].T).T

    @cached_property
    def comparable(self) -> np.ndarray:
        """Latents, shape (N, D), shortened where their mean square length is above 1."""
        return self.latent / np.sqrt(max(1.0, float((self.latent**2).sum(axis=1).mean())))

    @cached_property
    def surroundings(self) -> np.ndarray:
        """Components and latents, with an intercept, averaged over each spot's neighbours, shape (N, C + 1)."""
        return np.asarray(self.context @ self._design[0])

    @property
    def depth(self) -> np.ndarray:
        """Totals in units of the scale, shape (N,)."""
        return self.totals / self.scale

    def at(self, spots: np.ndarray) -> SpotFeatures:
        """Return the features of some spots."""
        return SpotFeatures(
            comparable=self.comparable[spots],
            totals=self.totals[spots],
            surroundings=self.surroundings[spots],
            depth=self.depth[spots],
        )

    def fit_denoising(self, counts: sparse.csr_matrix) -> Denoising:
        """Fit the denoiser of fields (N, F).

        Log-normalised counts are regressed (ridge) on the components and latents, and the regression is evaluated on
        the mean of these over the spot's neighbours on both topologies (``context``). Each field keeps its total.
        """
        loading = (log_normalise(counts, self.totals, self.scale).T @ self._design[1].T).T
        level = _expected(self.surroundings, loading, self.depth).mean(axis=0)
        mean = np.asarray(counts.mean(axis=0)).ravel()
        return Denoising(loading=loading, factor=np.divide(mean, level, out=np.zeros_like(level), where=level > 0))

    def denoise(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Return denoised counts (N, F): what a spot's context expects, at the spot's own depth."""
        return self.fit_denoising(counts).at(self.surroundings, self.depth)


def _expected(surroundings: np.ndarray, loading: np.ndarray, depth: np.ndarray) -> np.ndarray:
    return np.expm1(np.clip(surroundings @ loading, 0, 15)) * depth[:, None]


def _ridge_design(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features with an intercept (N, C + 1), and the operator that solves for ridge coefficients (C + 1, N)."""
    x = np.column_stack([np.ones(len(features)), features]).astype(np.float64)
    ridge = np.eye(x.shape[1])
    ridge[0, 0] = 1e-9
    return x, np.linalg.solve(x.T @ x + ridge, x.T)


def spot_context(components: np.ndarray, latent: np.ndarray, places: np.ndarray) -> sparse.csr_matrix:
    """Return the (N, N) matrix that averages a spot's neighbours: half in space, half in expression.

    Parameters
    ----------
    components, latent
        Features of the spots, shape (N, P) and (N, D): neighbours in expression are sought in the leading components
        and in the latent, a quarter of the weight each.
    places
        Spot centres in pitches, shape (N, 2).
    """
    near = mean_of_near(places)
    if components.shape[1] == 0:  # too few spots or genes to tell what is alike
        return near
    alike = mean_of_alike(components[:, :_LEADING]) + mean_of_alike(latent)
    return sparse.csr_matrix(alike / 4 + near / 2)


def log_normalise(counts: sparse.csr_matrix, totals: np.ndarray, scale: float) -> sparse.csr_matrix:
    """Return log(1 + counts / total * scale), sparse."""
    factor = np.divide(scale, totals, out=np.zeros(len(totals)), where=totals > 0)
    normalised = sparse.csr_matrix(sparse.diags(factor) @ counts, dtype=np.float64)
    return normalised.log1p()


def canonical_order(counts: sparse.csr_matrix, centers: np.ndarray) -> np.ndarray:
    """Order spots by what they hold, so that no permutation, shift or turn of the slide changes a random draw."""
    counts = counts.tocsr()
    counts.sort_indices()
    digest = [
        hashlib.blake2b(
            counts.indices[a:b].astype(np.int64).tobytes() + counts.data[a:b].astype(np.float64).tobytes(),
            digest_size=8,
        ).digest()
        for a, b in zip(counts.indptr[:-1], counts.indptr[1:], strict=True)
    ]
    key = np.array([int.from_bytes(d, "big") for d in digest], dtype=np.uint64)
    relative = centers - centers.min(axis=0)
    return np.lexsort((relative[:, 0], relative[:, 1], key))


def fit_sasa(
    counts: sparse.csr_matrix,
    centers: np.ndarray,
    lattice: Lattice,
    *,
    config: SasaConfig | None = None,
    seed: int = 0,
    device: str = "cpu",
    should_stop: Callable[[], bool] | None = None,
) -> FeaturePool:
    """Fit the graph VAE to one slide and return its feature pool.

    Parameters
    ----------
    counts
        Raw counts, CSR, shape (N, G).
    centers
        Spot centres, shape (N, 2).
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
    order = canonical_order(counts, centers)
    counts, points = counts[order], centers[order]
    totals = np.asarray(counts.sum(axis=1)).ravel().astype(np.float64)
    components, panel = _components(counts, totals, config)
    if len(points) < 4 or components.shape[1] == 0:
        latent = np.zeros((len(points), config.latent), dtype=np.float32)
        raw = latent
    else:
        graph = dual_topology_graph(points, components, lattice, n_expression=config.n_expression)
        with one_thread(len(points) < _MANY_SPOTS):
            raw, variance = _train(counts[:, panel], components, graph, config, seed, device, should_stop)
        latent = latent_norm(raw, variance)
    back = np.argsort(order)
    latent, components = latent[back], components[back]
    return FeaturePool(
        latent=latent,
        totals=totals[back],
        components=components,
        raw_latent=raw[back],
        context=spot_context(components, latent, centers / lattice.pitch),
        config=config,
    )


def latent_norm(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Centre and whiten latents; each direction keeps the share of its variance that is signal.

    Parameters
    ----------
    mean, variance
        Posterior of each spot, shape (N, D) each.
    """
    centred = mean - mean.mean(axis=0)
    value, vector = np.linalg.eigh(np.cov(centred.T) + 1e-9 * np.eye(centred.shape[1]))
    value = np.maximum(value, 1e-9)
    noise = np.einsum("nd,dk->k", variance, vector**2) / len(variance)
    signal = np.sqrt(value / (value + noise))
    vector = vector * np.where(np.abs(vector).max(axis=0) == vector.max(axis=0), 1.0, -1.0)  # a fixed sign
    return (centred @ vector / np.sqrt(value) * signal)[:, ::-1].astype(np.float32)


def _components(counts: sparse.csr_matrix, totals: np.ndarray, config: SasaConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return principal components (N, P), scaled to the first one's spread, and the indices of the decoded panel."""
    positive = totals[totals > 0]
    scale = float(np.median(positive)) if len(positive) else 1.0
    logged = log_normalise(counts, totals, scale)
    mean = np.asarray(logged.mean(axis=0)).ravel()
    spread = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
    expressed = np.flatnonzero(spread > 1e-12)
    panel = np.sort(expressed[np.argsort(-spread[expressed], kind="stable")[: config.n_panel]])
    n_components = min(config.n_components, len(panel) - 1, counts.shape[0] - 1)
    if n_components < 1:
        return np.zeros((counts.shape[0], 0), dtype=np.float32), panel
    wide = min(2 * config.n_panel, len(expressed))
    chosen = np.sort(expressed[np.argsort(-spread[expressed], kind="stable")[:wide]])
    with torch.random.fork_rng(devices=[]):
        # Torch's, not scikit-learn's: it leaves Python's lock free, so that a window lives on meanwhile.
        torch.manual_seed(0)
        x = torch.from_numpy(logged[:, chosen].toarray().astype(np.float32))
        u, s, _ = torch.pca_lowrank(x, q=min(n_components + 10, *x.shape), niter=4)
    components = (u * s)[:, :n_components].numpy()
    return np.ascontiguousarray(components / max(components[:, 0].std(), 1e-9)), panel


def _row_normalised(adjacency: sparse.csr_matrix, device: str) -> Tensor:
    """Return the adjacency with rows that sum to 1, as a torch sparse CSR tensor."""
    degree = np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1)
    matrix = sparse.csr_matrix(sparse.diags(1 / degree) @ adjacency, dtype=np.float32)
    matrix.sort_indices()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.indices.astype(np.int64)),
            torch.from_numpy(matrix.data),
            size=matrix.shape,
            device=device,
            check_invariants=True,
        )


def _train(
    counts: sparse.csr_matrix,
    components: np.ndarray,
    graph: DualTopologyGraph,
    config: SasaConfig,
    seed: int,
    device: str,
    should_stop: Callable[[], bool] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit by full-batch Adam; return the latent's posterior mean and variance, (N, D) each."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(components).to(device)
    y = torch.from_numpy(counts.toarray().astype(np.float32)).to(device)
    panel_totals = y.sum(dim=1)
    spatial, expression = (_row_normalised(a, device) for a in (graph.spatial, graph.expression))
    edges = [torch.from_numpy(np.stack(sparse.triu(a).nonzero())).to(device) for a in (graph.spatial, graph.expression)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GraphVAE(components.shape[1], counts.shape[1], config).to(device)
    frequency = y.sum(dim=0) + 1e-3
    with torch.no_grad():
        model.decoder.bias.copy_(torch.log(frequency / frequency.sum()))
        model.decoder.weight.mul_(0.1)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=config.learning_rate, total_steps=config.epochs)
    for _ in range(config.epochs):
        if should_stop is not None and should_stop():
            raise Cancelled
        mean, log_variance = model.encode(x, spatial, expression)
        noise = torch.randn(mean.shape, generator=generator).to(device)
        z = mean + noise * torch.exp(0.5 * log_variance)
        rows = torch.randperm(len(y), generator=generator)[: config.batch_spots].to(device)
        loss = _count_loss(model, z[rows], y[rows], panel_totals[rows])
        loss = loss + config.kl_weight * 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        for kind, edge in enumerate(edges):
            if edge.shape[1]:
                some = torch.randint(edge.shape[1], (min(config.batch_edges, edge.shape[1]),), generator=generator)
                loss = loss + config.edge_weight * _edge_loss(model, z, edge[:, some.to(device)], kind, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        mean, log_variance = model.encode(x, spatial, expression)
    return mean.cpu().numpy().astype(np.float64), log_variance.exp().cpu().numpy().astype(np.float64)


def _count_loss(model: GraphVAE, z: Tensor, y: Tensor, totals: Tensor) -> Tensor:
    """Negative log-likelihood of the panel's counts of a spot, negative binomial, constants left out."""
    rate = model.decode(z, totals) + 1e-6
    dispersion = torch.exp(model.log_dispersion).clamp(1e-3, 1e4)
    total = torch.log(rate + dispersion)
    likelihood = (
        torch.lgamma(y + dispersion)
        - torch.lgamma(dispersion)
        + dispersion * (torch.log(dispersion) - total)
        + y * (torch.log(rate) - total)
    )
    return -likelihood.sum(dim=1).mean()


def _edge_loss(model: GraphVAE, z: Tensor, edges: Tensor, kind: int, generator: torch.Generator) -> Tensor:
    """Tell true edges from random pairs, as many of each."""
    fake = torch.randint(0, len(z), edges.shape, generator=generator).to(edges.device)
    true_logit, fake_logit = model.edge_logits(z, edges, kind), model.edge_logits(z, fake, kind)
    return F.softplus(-true_logit).mean() + F.softplus(fake_logit).mean()
