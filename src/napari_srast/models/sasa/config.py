"""Configure size and training of the SASA graph VAE."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SasaConfig"]

# Far above what a slide needs: a checkpoint from an unknown source cannot ask for unlimited memory or time.
# An integer limit requires an integer value.
_LIMITS: dict[str, int | float] = {
    "n_components": 1000,
    "n_expression": 1000,
    "n_panel": 20_000,
    "hidden": 1024,
    "latent": 1024,
    "epochs": 100_000,
    "learning_rate": 1.0,
    "kl_weight": 1e6,
    "edge_weight": 1e6,
    "batch_spots": 20_000,
    "batch_edges": 10_000_000,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SasaConfig:
    """Configure the graph VAE; stored in checkpoints, so the field names are part of the file format.

    Parameters
    ----------
    n_components
        Principal components of log-normalized counts that the encoder reads.
    n_expression
        Expression neighbors of each spot; 0 uses spatial edges only.
    n_panel
        Number of genes, the most variable ones, whose counts are decoded.
    hidden, latent
        Width of hidden layers and of the latent.
    epochs
        Number of full-batch Adam steps.
    learning_rate
        Maximum learning rate of the one-cycle schedule.
    kl_weight, edge_weight
        Weights of the KL and the edge term, relative to the mean log-likelihood of a spot's counts.
    batch_spots
        Spots whose counts enter the loss in one step; messages pass between all spots.
    batch_edges
        Edges of each topology that enter the loss in one step.

    Raises
    ------
    ValueError
        A value is not a number, not above 0, or above its limit.
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
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int and not (type(value) is float and isinstance(limit, float)):
                raise ValueError(f"{name} must be {'a number' if isinstance(limit, float) else 'an integer'}")
            if not (value > 0 or (value == 0 and (name.endswith("_weight") or name == "n_expression"))):
                raise ValueError(f"{name} must be above 0")
            if value > limit:
                raise ValueError(f"{name} must be at most {limit:,}")
