"""Score gene sets in every pixel.

Shape legend: Q pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_srast._utils.text import count
from napari_srast.analysis.expression_scaling import expression_of
from napari_srast.analysis.gene_sets import check_gene_sets
from napari_srast.analysis.packages import import_package
from napari_srast.analysis.resampling import check_seed
from napari_srast.core.progress import CancelCheck, ProgressCallback, RunMonitor
from napari_srast.core.result import UpsampleResult
from napari_srast.errors import InputError
from napari_srast.io.atomic import atomic_output

if TYPE_CHECKING:
    import anndata

__all__ = ["describe_left_out", "describe_scores", "signatures", "write_scores"]

_MAX_NAMES = 5  # genes that a message lists
_MAX_BINS = 25  # of mean expression, as in scanpy
_GENES_PER_BIN = 10  # at least, so that small panels have control genes


def signatures(
    result: UpsampleResult,
    sets: Mapping[str, Iterable[str]],
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> pd.DataFrame:
    """Score gene sets in every pixel by ``scanpy.tl.score_genes`` on log-normalized expression.

    A score is the mean of log(1 + expression per 10,000 of the pixel) over the genes of the set, minus that over
    control genes of similar expression, which are drawn from all genes with expression: at most 50 per bin of mean
    expression, with 25 bins, or fewer in panels below 250 genes, so that each bin has ten genes.

    Parameters
    ----------
    result
        The result, with expression.
    sets
        Genes of each set by its name, such as :func:`napari_srast.analysis.gene_sets.read_gene_sets` returns. Genes
        without expression in the result are left out.
    seed
        Random seed of the control genes.
    progress
        Called before each set.
    should_stop
        Returns True once the computation should end.

    Returns
    -------
    pandas.DataFrame
        Scores, float64, a row per pixel in the order of the result and a column per set; the index is that of the
        result's table. ``attrs["genes"]`` and ``attrs["missing"]`` list the genes of each set that were used and left
        out, and ``attrs["left_out"]`` has the reason for each set that has no score.

    Raises
    ------
    InputError
        The result has no expression, or not the genes or the control genes of any set; or scanpy is not installed.
    SettingsError
        A set has no name or no gene, or the seed is out of its range.
    Cancelled
        ``should_stop`` returned True.

    Examples
    --------
    >>> import napari_srast as srast
    >>> scores = srast.signatures(result, {"Podocyte": ["NPHS2", "PODXL"]})  # doctest: +SKIP
    """
    check_seed(seed)
    checked = check_gene_sets(sets)
    scanpy = import_package("scanpy", "Signatures need")
    import anndata

    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    names, values = expression_of(result)
    known = set(names)
    used = {name: [gene for gene in genes if gene in known] for name, genes in checked.items()}
    missing = {name: [gene for gene in genes if gene not in known] for name, genes in checked.items()}
    left_out: dict[str, str] = {name: "no gene has expression" for name, genes in used.items() if not genes}
    if len(left_out) == len(used):
        name = next(iter(used))
        raise InputError(
            f"The result has no expression of any gene of '{name}' ({_some(missing[name])}); run again with these "
            "genes, or leave the set out."
        )
    index = [f"{result.run}_{i + 1}" for i in range(result.n_pixels)]
    table = anndata.AnnData(values, obs=pd.DataFrame(index=index), var=pd.DataFrame(index=names))
    scores: dict[str, np.ndarray] = {}
    for i, (name, genes) in enumerate(used.items()):
        monitor.check_canceled()
        monitor.report("signatures", i, len(used))
        values_of_set = _score(scanpy, table, genes, seed) if genes else None
        if values_of_set is not None:
            scores[name] = values_of_set
        elif genes:
            left_out[name] = "no control genes"
    if not scores:
        name = next(name for name, reason in left_out.items() if reason == "no control genes")
        raise InputError(
            f"The result has no control genes for '{name}', because nearly all genes of similar expression are in "
            "the set; run again with more genes."
        )
    found = pd.DataFrame(scores, index=index)
    known_sets = {name: genes for name, genes in used.items() if name in scores}
    found.attrs.update(genes=known_sets, missing={name: missing[name] for name in known_sets}, left_out=left_out)
    return found


def describe_scores(scores: pd.DataFrame, name: str) -> str:
    """Describe the score of a set: its genes, and those that have no expression.

    Parameters
    ----------
    scores
        Table of :func:`signatures`.
    name
        Name of the set.
    """
    genes, missing = scores.attrs["genes"][name], scores.attrs["missing"][name]
    without = f"; without {_some(missing)}, which have no expression" if missing else ""
    return f"'{name}' has {count(len(genes), 'gene')}: {_some(genes)}{without}."


def describe_left_out(scores: pd.DataFrame) -> str:
    """Name the sets that have no score, with the reasons; empty if all have one."""
    left_out = [f"'{name}' ({reason})" for name, reason in scores.attrs["left_out"].items()]
    return f"Left out {_some(left_out)}." if left_out else ""


def write_scores(result: UpsampleResult, scores: pd.DataFrame, path: Path) -> None:
    """Write scores as CSV: position and spot of each pixel, and a column ``score:NAME`` for each set.

    Parameters
    ----------
    result
        The result.
    scores
        Table of :func:`signatures`.
    path
        The new ``.csv`` or ``.csv.gz`` file.
    """
    x, y = result.raster.centers.T
    pixels = pd.DataFrame({"x": x, "y": y, "spot": result.slide.spot_ids[result.raster.parent]}, index=scores.index)
    with atomic_output(path) as partial:
        pd.concat([pixels, scores.add_prefix("score:")], axis=1).to_csv(partial, index_label="pixel")


def _score(scanpy: Any, table: anndata.AnnData, genes: list[str], seed: int) -> np.ndarray | None:
    """Return the scores of a set, or None without control genes; NumPy's global random state is kept."""
    n_bins = int(np.clip(table.n_vars // _GENES_PER_BIN, 2, _MAX_BINS))
    state = np.random.get_state()  # noqa: NPY002 - scanpy seeds this generator
    try:
        scanpy.tl.score_genes(table, genes, n_bins=n_bins, score_name="score", random_state=seed, use_raw=False)
    except (RuntimeError, ZeroDivisionError):
        return None
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return np.asarray(table.obs["score"], dtype=np.float64)


def _some(genes: list[str]) -> str:
    return ", ".join(genes[:_MAX_NAMES]) + (f" and {len(genes) - _MAX_NAMES} more" if len(genes) > _MAX_NAMES else "")
