"""Implement ``napari-srast compare`` with a table of samples: sum counts by donor and group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from napari_srast._utils.text import count
from napari_srast.cli.output import note, print_table, progress_bar
from napari_srast.cli.parsing import check_exists, check_output
from napari_srast.cli.sample_table import SampleTable, read_sample_table
from napari_srast.core.progress import RunMonitor
from napari_srast.errors import SrastError
from napari_srast.io.file_kinds import has_suffix

if TYPE_CHECKING:
    import anndata

__all__ = ["run", "sum_samples"]


def run(source: Path, output: Path | None, coordinate_system: str | None) -> None:
    """Sum the counts of the samples, write the sums of each gene, and print those of all genes.

    Parameters
    ----------
    source
        The table of samples.
    output
        File of the counts: a table with a row per gene, or an ``.h5ad`` file. None to print only.
    coordinate_system
        Coordinate system of regions that name none; None for that of each slide.
    """
    check_exists(source, "table of samples")
    samples = read_sample_table(source)
    if output is not None:
        check_output(output, (".csv", ".csv.gz", ".h5ad"), inputs=tuple({row.slide for row in samples.rows}))
    with progress_bar() as report:
        table = sum_samples(samples, coordinate_system, RunMonitor(on_progress=report))
    if output is not None:
        _write(table, output)
    totals = np.asarray(table.X).sum(axis=1)
    rows = [
        [name, *values, int(n_spots), float(total)]
        for (name, *values, n_spots), total in zip(table.obs.itertuples(name=None), totals, strict=True)
    ]
    print_table(["sample", *table.obs.columns, "counts"], rows)
    note(f"Note: {count(table.n_vars, 'gene')}. {table.uns['note']}")
    if samples.unused:
        note(f"Note: These columns of '{source}' are not used: {', '.join(samples.unused)}.")
    if output is not None:
        typer.echo(f"Wrote {output}")


def sum_samples(samples: SampleTable, coordinate_system: str | None, monitor: RunMonitor) -> anndata.AnnData:
    """Read the slides of a table one after the other, and sum the counts of its samples by donor and group.

    Parameters
    ----------
    samples
        The table.
    coordinate_system
        Coordinate system of regions that name none; None for that of each slide.
    monitor
        Receives a report before each sample.

    Returns
    -------
    anndata.AnnData
        As of :func:`napari_srast.analysis.pseudobulk.pseudobulk`.

    Raises
    ------
    SrastError
        A group has no replicates, or a slide or a region cannot be used; the message names the line of the table.
    """
    from napari_srast.analysis.pseudobulk import DonorCounts, Sample, check_donors
    from napari_srast.io.slide_reader import read_slide
    from napari_srast.io.slide_source import open_slide_source

    check_donors((row.donor, row.group) for row in samples.rows)
    for row in samples.rows:  # before the first slide is read
        check_exists(row.slide, f"slide of line {row.number} of '{samples.path}'")
    sums, slide, path = DonorCounts(), None, None
    for i, row in enumerate(samples.rows):
        monitor.check_canceled()
        monitor.report("sum", i, len(samples.rows), row.slide.name)
        try:
            if slide is None or row.slide != path:
                slide = None  # freed before the next one is read
                slide = read_slide(open_slide_source(row.slide), image=None, coordinate_system=coordinate_system)
                path = row.slide
            region = row.read_region(slide.coordinate_system)
            sums.add(Sample(slide=slide, region=region, donor=row.donor, group=row.group))
        except SrastError as error:
            raise type(error)(f"Line {row.number} of '{samples.path}': {error}") from error
    return sums.to_anndata()


def _write(table: anndata.AnnData, path: Path) -> None:
    """Write the counts: genes x samples as a table, which R packages read, or samples x genes as AnnData."""
    from napari_srast.io.atomic import atomic_output, write_table
    from napari_srast.io.h5ad_writer import write_h5ad

    if has_suffix(path, ".h5ad"):
        with atomic_output(path) as partial:
            write_h5ad(table, partial)
        return
    counts = table.to_df().T
    if not np.mod(counts.to_numpy(), 1).any():  # as whole numbers, which the packages for tests ask for
        counts = counts.astype(np.int64)
    write_table(counts.rename_axis("gene").reset_index(), path)
