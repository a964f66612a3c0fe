"""Implement ``napari-srast domains``: cluster the pixels of a result."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_srast.cli.output import note, print_table, progress_bar
from napari_srast.cli.parsing import check_exists, check_output, parse_genes
from napari_srast.errors import InputError, SettingsError
from napari_srast.io.file_kinds import has_suffix

if TYPE_CHECKING:
    from napari_srast.analysis.domains import Domains
    from napari_srast.core.result import UpsampleResult

_SHOWN_MARKERS = 8


@dataclass(frozen=True, kw_only=True)
class DomainsRequest:
    """The options of the command.

    Parameters
    ----------
    n_domains, resolution, genes, seed, merge, rename, name, run
        As on the command line.
    source
        Name of saved domains; None to find them.
    """

    n_domains: int | None
    resolution: float | None
    genes: str | None
    seed: int
    source: str | None
    merge: tuple[str, ...]
    rename: tuple[str, ...]
    name: str
    run: str | None


def run(source: Path, output: Path | None, request: DomainsRequest) -> None:
    """Find domains, add them to the result, and print their sizes and markers."""
    check_exists(source, "result")
    if request.n_domains is not None and request.resolution is not None:
        raise SettingsError(
            "--n-domains searches the resolution, so --resolution has no effect; leave one of them out."
        )
    searched = (request.n_domains, request.resolution, request.genes)
    if request.source is not None and any(option is not None for option in searched):
        raise SettingsError(
            "--from takes saved domains, so --n-domains, --resolution and --genes have no effect; leave them out."
        )
    if request.source is not None and not (request.merge or request.rename):
        raise SettingsError("--from takes saved domains to change; name changes with --merge A,B or --rename OLD=NEW.")
    names = dict(_parse_rename(text) for text in request.rename)
    if has_suffix(source, ".h5ad"):
        raise InputError(f"'{source}' cannot store domains; upsample to a .zarr store, and name that.")
    if output is not None:
        check_output(output, (".csv", ".csv.gz"), inputs=(source,))
    genes = None if request.genes is None else parse_genes(request.genes)
    from napari_srast.analysis.domains import domains
    from napari_srast.analysis.packages import import_package

    if request.source is None:
        import_package("igraph", "Domains need")  # before the result is read
    from napari_srast.io.atomic import atomic_output
    from napari_srast.io.result_reader import read_result

    result = read_result(source, request.run)
    if request.source is None:
        with progress_bar() as report:
            found = domains(
                result,
                resolution=request.resolution,
                n_domains=request.n_domains,
                genes=genes,
                seed=request.seed,
                progress=report,
            )
    else:
        found = _saved(result, source, request.source)
    for text in request.merge:
        found = found.merge(name.strip() for name in text.split(","))
    if names:
        found = found.rename(names)
    with nullcontext() if output is None else atomic_output(output) as partial:
        if partial is not None:  # before the store is changed, so that a full disk leaves nothing half done
            found.markers.to_csv(partial, index=False)
        found.write(source, request.name)
    rows = []
    for domain, size in found.sizes.items():
        markers = found.markers[(found.markers["domain"] == domain) & (found.markers["log2_fold_change"] > 0)]
        rows.append([str(domain), int(size), ", ".join(markers["gene"].head(_SHOWN_MARKERS))])
    print_table(["domain", "pixels", "markers"], rows)
    for sentence in (*found.notices, str(found.markers.attrs["note"])):
        note(f"Note: {sentence}")
    typer.echo(f"Added '{request.name}' to {source}")
    if output is not None:
        typer.echo(f"Wrote {output}")


def _parse_rename(text: str) -> tuple[str, str]:
    old, sign, new = text.partition("=")
    if not (sign and old.strip() and new.strip()):
        raise SettingsError(f"'{text}' names no domain and its new name; write --rename OLD=NEW.")
    return old.strip(), new.strip()


def _saved(result: UpsampleResult, path: Path, name: str) -> Domains:
    """Return the domains that a store contains under a name."""
    from napari_srast.analysis.domains import read_domains

    saved = read_domains(result, path)
    if name not in saved:
        known = f"it has {', '.join(map(repr, saved))}" if saved else "find some first, without --from"
        raise InputError(f"The result has no domains '{name}'; {known}.")
    return saved[name]
