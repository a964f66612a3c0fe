"""Find domains: clusters of pixels on expression.

Shape legend: Q pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast._version import __version__
from napari_srast.analysis.clustering import Partition, embed, find_partition, nearby_pixels, neighbor_graph, partition
from napari_srast.analysis.expression_scaling import expression_of, log_normalize
from napari_srast.analysis.markers import find_markers
from napari_srast.analysis.packages import import_package
from napari_srast.analysis.resampling import check_seed
from napari_srast.core.progress import NO_MONITOR, CancelCheck, ProgressCallback, RunMonitor
from napari_srast.core.result import UpsampleResult
from napari_srast.errors import InputError, SettingsError, value_out_of_range

__all__ = ["Domains", "domains", "read_domains"]

_N_STEPS = 3  # neighbors, clusters, markers
_SPOT_RESOLUTION = 1.0  # of the clusters of spots whose number is the default number of domains
_PIXEL_EXPONENT = -0.75  # the search begins at this power of the pixels of a spot, which is often close enough
_TOLERANCE = 0.2  # of the default number of domains


@dataclass(frozen=True, kw_only=True, eq=False)
class Domains:
    """Domains of a result.

    Parameters
    ----------
    result
        The result whose pixels are labeled.
    labels
        Domain of each pixel, shape (Q,), with the categories "1", "2", ... from the largest to the smallest domain.
    markers
        Genes of each domain; see :func:`napari_srast.analysis.markers.find_markers`. ``markers.attrs["note"]`` says
        that clusters and markers come from the same counts.
    genes
        Genes that the domains were computed from.
    resolution
        Resolution of the Leiden algorithm.
    seed
        Random seed.
    notices
        What differs from the request, one sentence each.
    """

    result: UpsampleResult
    labels: pd.Categorical
    markers: pd.DataFrame
    genes: tuple[str, ...]
    resolution: float
    seed: int
    notices: tuple[str, ...] = ()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {size:,}" for name, size in self.sizes.items())
        return f"Domains of '{self.result.run}' by {len(self.genes):,} genes, pixels per domain {sizes}"

    @property
    def sizes(self) -> pd.Series:
        """Number of pixels of each domain, by its name."""
        counts = np.bincount(self.labels.codes, minlength=len(self.labels.categories))
        return pd.Series(counts, index=self.labels.categories, name="pixels")

    def rename(self, names: Mapping[str, str]) -> Domains:
        """Return the domains with other names.

        Parameters
        ----------
        names
            New name of each domain that gets one, by its name.

        Raises
        ------
        SettingsError
            A domain does not exist, or two would have the same name, or none.
        """
        self._check_names(names)
        new = [names.get(name, name).strip() for name in self.labels.categories]
        if len(set(new)) < len(new) or "" in new:
            raise SettingsError("Each domain needs a name of its own; merge domains that belong together.")
        labels: Any = self.labels.rename_categories(dict(zip(self.labels.categories, new, strict=True)))
        markers = self.markers.replace({"domain": dict(zip(self.labels.categories, new, strict=True))})
        markers.attrs.update(self.markers.attrs)
        return replace(self, labels=labels, markers=markers)

    def merge(self, names: Iterable[str], monitor: RunMonitor = NO_MONITOR) -> Domains:
        """Return the domains with some of them merged to one, under the name of the first, and new markers.

        Parameters
        ----------
        names
            Names of at least two domains.
        monitor
            Asked for cancellation.

        Raises
        ------
        SettingsError
            A domain does not exist, or fewer than two are named.
        """
        merged = list(dict.fromkeys(names))
        self._check_names(merged)
        if len(merged) < 2:
            raise SettingsError("Merging needs at least two domains; name them.")
        old = list(self.labels.categories)
        target = next(name for name in old if name in merged)
        kept = [name for name in old if name == target or name not in merged]
        codes = np.array([kept.index(target if name in merged else name) for name in old])[self.labels.codes]
        categories: Any = kept  # the stubs accept no list of texts here
        labels: Any = pd.Categorical.from_codes(codes, categories)
        genes, values = expression_of(self.result)
        return replace(self, labels=labels, markers=find_markers(values, genes, labels, monitor))

    def _check_names(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.labels.categories:
                raise SettingsError(f"There is no domain '{name}'; choose from {', '.join(self.labels.categories)}.")

    def image(self) -> np.ndarray:
        """Return an image of the domains, int32, shape (rows, columns): 1, 2, ..., and 0 without a parent spot."""
        from napari_srast.io.result_images import to_dense_image

        return to_dense_image(self.result.raster, self.labels.codes.astype(np.int32) + 1, np.int32)

    def write(self, path: str | Path, name: str = "domains") -> Path:
        """Add the domains to the store of the result.

        Parameters
        ----------
        path
            The ``.zarr`` store that contains the result.
        name
            Name of the column in the table's ``obs``, and last part of the name of the labels element,
            ``srast_<run>_<name>``. ``uns[name]`` holds the settings.

        Raises
        ------
        InputError
            The store does not contain the result.
        OutputError
            The name is invalid or exists already, or the store cannot be written; it is then unchanged.
        """
        from napari_srast.io.pixel_classes import add_pixel_classes

        settings = {
            "resolution": self.resolution,
            "seed": self.seed,
            "genes": list(self.genes),
            "version": __version__,
            "note": str(self.markers.attrs.get("note", "")),
        }
        return add_pixel_classes(self.result, Path(path), name, self.labels, settings)


def domains(
    result: UpsampleResult,
    *,
    resolution: float | None = None,
    n_domains: int | None = None,
    genes: Sequence[str] | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> Domains:
    """Find domains of pixels with similar expression.

    The expression per 10,000 of the pixel, on a logarithmic scale, is reduced to at most 30 principal components. The
    Leiden algorithm clusters a graph that joins each pixel to its nearest neighbors in expression on the whole slide,
    and to pixels at most two pixels away that look alike.

    Parameters
    ----------
    result
        The result, with expression.
    resolution
        Resolution of the Leiden algorithm; larger values give more domains, and so do more pixels. Ignored if
        ``n_domains`` is given.
    n_domains
        Number of domains, for which the resolution is searched. Without it and ``resolution``, there are about as many
        domains as the Leiden algorithm finds clusters of the measured spots at a resolution of 1, so that their number
        does not grow with the number of pixels.
    genes
        Genes to cluster by; None for all that have expression.
    seed
        Random seed; the same seed gives the same domains.
    progress
        Called after each step.
    should_stop
        Returns True once the computation should end.

    Returns
    -------
    Domains
        Domain of each pixel, and the markers among all genes with expression.

    Raises
    ------
    InputError
        The result has no expression, as a whole or of a gene, or too few pixels; or igraph is not installed.
    SettingsError
        A number is out of its range.
    Cancelled
        ``should_stop`` returned True.

    Examples
    --------
    >>> import napari_srast as srast
    >>> found = srast.domains(result, n_domains=7)  # doctest: +SKIP
    >>> found.write("fine.zarr")  # doctest: +SKIP
    """
    if resolution is not None and not (np.isfinite(resolution) and resolution > 0):
        raise value_out_of_range("resolution", float(resolution), "above 0")
    if n_domains is not None and not 2 <= n_domains <= result.n_pixels:
        raise value_out_of_range("number of domains", n_domains, f"between 2 and the {result.n_pixels:,} pixels")
    check_seed(seed)
    if result.n_pixels < 2:
        raise InputError("The result has a single pixel, which has no neighbors; run again on a larger region.")
    import_package("igraph", "Domains need")
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    names, values = expression_of(result)
    wanted = set(names) if genes is None else set(expression_of(result, genes)[0])
    chosen = np.array([i for i, name in enumerate(names) if name in wanted], dtype=int)
    monitor.check_canceled()
    graph = neighbor_graph(embed(values[:, chosen], seed), nearby_pixels(result.raster), monitor)
    monitor.report("domains", 1, _N_STEPS)
    notices = []
    if n_domains is not None:
        found = find_partition(graph, n_domains, seed, monitor)
        if found.n_clusters != n_domains:
            notices.append(f"No resolution that was tried gives {n_domains} domains; {found.n_clusters} is closest.")
    elif resolution is not None:
        found = partition(graph, resolution, seed)
    else:
        found = _as_many_as_spots(graph, result, np.asarray(result.expression_columns)[chosen], seed, monitor)
    monitor.check_canceled()
    monitor.report("domains", 2, _N_STEPS)
    names_of_domains: Any = [str(i + 1) for i in range(found.n_clusters)]  # the stubs accept no list of texts here
    labels: Any = pd.Categorical.from_codes(found.labels, names_of_domains)
    return Domains(
        result=result,
        labels=labels,
        markers=find_markers(values, names, labels, monitor),
        genes=tuple(str(name) for name in names[chosen]),
        resolution=found.resolution,
        seed=seed,
        notices=tuple(notices),
    )


def _as_many_as_spots(
    graph: Any, result: UpsampleResult, columns: np.ndarray, seed: int, monitor: RunMonitor
) -> Partition:
    """Find about as many clusters of pixels as the measured spots have by the same genes, the result's ``columns``."""
    spots, spot_of_pixel = np.unique(result.raster.parent, return_inverse=True)
    membership = sparse.csr_matrix(
        (np.ones(result.n_pixels), (spot_of_pixel, np.arange(result.n_pixels))), shape=(len(spots), result.n_pixels)
    )
    n_clusters = 2
    if len(spots) > 2:
        values = log_normalize((membership @ result.counts[:, columns]).toarray())
        of_spots = neighbor_graph(embed(values, seed), np.empty((0, 2), dtype=np.int64), monitor)
        n_clusters = max(n_clusters, partition(of_spots, _SPOT_RESOLUTION, seed).n_clusters)
    first = _SPOT_RESOLUTION * (result.n_pixels / len(spots)) ** _PIXEL_EXPONENT
    return find_partition(
        graph, n_clusters, seed, monitor, first=first, tolerance=int(np.floor(_TOLERANCE * n_clusters))
    )


def read_domains(
    result: UpsampleResult,
    path: str | Path,
    *,
    on_damage: Callable[[InputError], None] | None = None,
    should_stop: CancelCheck | None = None,
) -> dict[str, Domains]:
    """Read the domains that were added to the store of a result, and compute their markers again.

    Parameters
    ----------
    result
        The result.
    path
        The ``.zarr`` store that contains it.
    on_damage
        Called with the error of each set of domains that is damaged, which is then left out. None: the first one is
        raised.
    should_stop
        Returns True once the computation should end.

    Returns
    -------
    dict
        The domains by the name under which :meth:`Domains.write` added them, the last one last; empty if there are
        none. Without expression, the result has no markers.

    Raises
    ------
    InputError
        There is no such store, or the domains in it are damaged or have other pixels.
    Cancelled
        ``should_stop`` returned True.

    Examples
    --------
    >>> import napari_srast as srast
    >>> srast.read_domains(srast.read_result("fine.zarr"), "fine.zarr")  # doctest: +SKIP
    """
    from napari_srast.io.pixel_classes import read_pixel_classes

    monitor, found = RunMonitor(should_stop=should_stop), {}
    for name, stored in read_pixel_classes(Path(path), result.run, on_damage=on_damage).items():
        if not {"resolution", "genes", "seed"} <= stored.settings.keys():  # classes of another kind
            continue
        try:
            found[name] = _stored_domains(result, stored.labels, stored.settings, monitor)
        except (TypeError, ValueError) as error:
            damage = InputError(
                f"The domains '{name}' in '{path}' do not match the pixels of their result or have no valid settings; "
                "find them again, and save them under another name."
            )
            if on_damage is None:
                raise damage from error
            on_damage(damage)
    return found


def _stored_domains(
    result: UpsampleResult, labels: pd.Categorical, settings: Mapping[str, Any], monitor: RunMonitor
) -> Domains:
    """Return domains as they were stored, with new markers; raise TypeError or ValueError if they are damaged."""
    genes = tuple(map(str, np.atleast_1d(settings["genes"])))
    resolution, seed = float(settings["resolution"]), int(settings["seed"])
    sizes = np.bincount(labels.codes + 1, minlength=len(labels.categories) + 1)
    if len(labels) != result.n_pixels or sizes[0] or not sizes[1:].all():  # a lost part of a column reads as zeros
        raise ValueError("pixels without a domain, or domains without pixels")
    names: Any = [str(one) for one in labels.categories]  # the stubs accept no list of texts here
    labels = labels.rename_categories(names)
    return Domains(
        result=result,
        labels=labels,
        markers=_markers(result, labels, monitor),
        genes=genes,
        resolution=resolution,
        seed=seed,
    )


def _markers(result: UpsampleResult, labels: pd.Categorical, monitor: RunMonitor) -> pd.DataFrame:
    """Return the markers of domains; an empty table if the result has no expression."""
    if result.expression is None or not len(result.expression_columns):
        return find_markers(np.empty((result.n_pixels, 0), dtype=np.float32), [], labels, monitor)
    genes, values = expression_of(result)
    return find_markers(values, genes, labels, monitor)
