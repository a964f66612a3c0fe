"""Draw some procedural tissues for the documentation: ``python docs/make_tissues.py``."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.simulation.tissues import make_tissue

PICTURE = Path(__file__).resolve().parent / "images" / "tissues.png"
SEEDS = (103, 105, 106, 101, 8, 7, 3, 111)


def main() -> None:
    """Write docs/images/tissues.png: cell types, and below them one patterned gene as the platform sees it."""
    figure = Figure(figsize=(11, 11.5), layout="constrained")
    grid = figure.subplots(4, 4)
    for index, seed in enumerate(SEEDS):
        points, counts, description = make_tissue(seed)
        row, col = 2 * (index // 4), index % 4
        style = {"s": 1.3e4 / len(points), "linewidths": 0}
        cells, gene = grid[row, col], grid[row + 1, col]
        positions = description.cell_positions
        cells.scatter(*positions.T, c=description.cell_types, cmap="tab20", s=1.3e4 / len(positions), linewidths=0)
        cells.set_title(f"{seed}: {', '.join((description.plan, *description.motifs[:3]))}", fontsize=9)
        values = np.log1p(counts[:, _patterned(points, counts)].toarray().ravel())
        gene.scatter(*points.T, c=values, vmax=np.quantile(values, 0.99), **style)
        gene.set_title(
            f"{description.n_observations} {description.platform}, {description.n_genes} genes, "
            f"{description.counts_per_observation:.3g} counts per observation",
            fontsize=9,
        )
    for axes in grid.ravel():
        axes.set(aspect="equal", xticks=[], yticks=[], facecolor="#181818")
    drawn = BytesIO()
    figure.savefig(drawn, dpi=80)
    Image.open(drawn).convert("RGB").quantize(48).save(PICTURE, optimize=True)


def _patterned(points: np.ndarray, counts: sparse.csr_matrix) -> int:
    """Return the high-count gene whose neighboring observations are most similar."""
    high_count = np.argsort(-np.asarray(counts.sum(axis=0)).ravel())[:30]
    values = np.log1p(counts[:, high_count].toarray())
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)
    nearest = cKDTree(points).query(points, k=7)[1][:, 1:]
    return int(high_count[np.argmax((values[nearest].mean(axis=1) * values).mean(axis=0))])


if __name__ == "__main__":
    main()
