"""A flow network as after training, and random inputs for it."""

from __future__ import annotations

import torch

from napari_srast.models.pcfm.inputs import N_CONDITIONS, N_FEATURES, PairBatch
from napari_srast.models.pcfm.network import DiT, DiTConfig


def random_network() -> DiT:
    """Return a network whose last layer and gates are not zero, as after training."""
    torch.manual_seed(0)
    network = DiT(DiTConfig(width=16, depth=2, heads=2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def random_batch(b: int = 5, k: int = 6) -> PairBatch:
    """Return random inputs of b pairs with k pixels; the first pair has only four."""
    torch.manual_seed(1)
    mask = torch.ones(b, k, dtype=torch.bool)
    mask[0, 4:] = False
    prior = torch.randn(b, k).masked_fill(~mask, -torch.inf)
    tokens = torch.randn(b, k, N_FEATURES) * mask[..., None]
    return PairBatch(tokens, torch.randn(b, N_CONDITIONS), torch.log_softmax(prior, dim=1), mask)
