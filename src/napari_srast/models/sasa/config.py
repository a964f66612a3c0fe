"""TODO docstring."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SasaConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SasaConfig:
    """Sizes and training of the graph VAE.

    Parameters
    ----------
    n_components
        Principal components that go in.
    n_expression
        Expression neighbors of each spot; 0 leaves the spatial topology alone.
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

    Raises
    ------
    ValueError
        One is no number, not above 0, or above its limit.
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
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if type(value) is not int and not (type(value) is float and isinstance(largest, float)):
                raise ValueError(f"{name} must be a {'number' if isinstance(largest, float) else 'whole number'}")
            if not (value > 0 or (value == 0 and (name.endswith("_weight") or name == "n_expression"))):
                raise ValueError(f"{name} must be above 0")
            if value > largest:
                raise ValueError(f"{name} must be at most {largest:,}")


# Of each size, far above what serves: a checkpoint from a stranger may ask for no more memory or time than this.
_LARGEST: dict[str, int | float] = {
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
