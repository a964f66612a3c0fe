"""Declare the commands. Each command imports its dependencies when it runs, so that ``--help`` is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_srast._version import __version__

__all__ = ["Counts", "Device", "Json", "Library", "Model", "Seed", "SpotShape", "app", "example"]

app = typer.Typer(
    name="napari-srast",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Options that several commands share
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Device on which the networks run.")]
Model = Annotated[str, typer.Option(metavar="NAME|FILE", help="Name of a shipped model, or a checkpoint file.")]
Spots = Annotated[str | None, typer.Option(metavar="NAME", help="Element with the spots.")]
Table = Annotated[str | None, typer.Option(metavar="NAME", help="Table with the counts.")]
Image = Annotated[str, typer.Option(metavar="NAME|none", help="Histology image; none to ignore it.")]
Library = Annotated[str | None, typer.Option(metavar="NAME", help="Section to read from a source of several ones.")]
SpotShape = Annotated[str | None, typer.Option(metavar="circle|square", help="Shape of the spots, if not stated.")]
Counts = Annotated[str | None, typer.Option(metavar="X|raw|LAYER", help="Matrix of the raw counts, if not clear.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Random seed; the same seed gives the same result.")]


def example(line: str) -> str:
    """Return the last paragraph of a command's help, with a command line."""
    return f"\b\nExample:\n  {line}"  # \b keeps the line break


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-srast {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=example("napari-srast demo"))
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Visual super-resolution of spatial transcriptomics slides: split the counts of every spot over finer pixels."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    short_help="Run the whole workflow on the built-in slide.",
    epilog=example("napari-srast demo --headless --out demo"),
)
def demo(
    headless: Annotated[bool, typer.Option("--headless", help="Run on a virtual screen, without a display.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Output folder for overlay.png, result.zarr and report.json.")
    ] = None,
    real: Annotated[
        bool, typer.Option("--real", help="Use the measured sample slide (Visium, mouse brain, no histology).")
    ] = False,
    json: Json = False,
) -> None:
    """Run the whole workflow on the built-in synthetic slide: open, select a region, upsample, overlay, export.

    With a display, the window stays open. With --headless, the same window runs on a virtual screen and writes
    overlay.png, result.zarr and report.json to DIR (srast-demo by default).
    """
    from napari_srast.cli.commands.demo import run

    run(out, real=real, headless=headless, as_json=json)


@app.command("open", short_help="Open the window.", epilog=example("napari-srast open slide.zarr"))
def open_slide(
    slide: Annotated[
        Path | None, typer.Argument(metavar="[SLIDE.zarr]", help="A slide, or a result of napari-srast.")
    ] = None,
) -> None:
    """Open napari with the SRast widget docked and the slide loaded."""
    from napari_srast.cli.parsing import check_exists
    from napari_srast.cli.virtual_display import DisplayError, has_display

    if slide is not None:
        check_exists(slide, "slide")
    if not has_display():
        raise DisplayError("No display was found, so no window can be opened; use 'napari-srast upsample' instead.")
    from napari_srast.gui.runtime.launch import launch

    launch(slide)


@app.command(
    "import",
    short_help="Convert a table or a Space Ranger folder.",
    epilog=example("napari-srast import breast.h5ad -o breast.zarr --image breast_he.jpg"),
)
def import_slide(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="An .h5ad file, or a folder of Space Ranger.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="SLIDE.zarr", help="SpatialData store to write.")],
    image: Annotated[
        Path | None,
        typer.Option(metavar="HE.jpg", help="Histology image: that of obsm['spatial_px'], or the one of Space Ranger."),
    ] = None,
    spot_diameter: Annotated[
        float | None, typer.Option(metavar="UM", help="Spot diameter, in the units of the slide.")
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(metavar="UM", help="Side of an image pixel, if obsm['spatial_px'] is missing.")
    ] = None,
    bin_size: Annotated[
        float | None, typer.Option(metavar="UM", help="Bin size of Visium HD; without it, 8 if the folder has them.")
    ] = None,
    library: Library = None,
    spot_shape: SpotShape = None,
    counts: Counts = None,
) -> None:
    """Convert an .h5ad table (with an image) or a Space Ranger folder (Visium, Visium HD) to a SpatialData store."""
    from shlex import quote

    from napari_srast.cli.parsing import check_exists, check_output

    check_exists(source, "file or folder")
    if image is not None:
        check_exists(image, "image")
    _check_positive("--spot-diameter", spot_diameter)
    _check_positive("--pixel-size", pixel_size)
    _check_positive("--bin-size", bin_size)
    check_output(output, (".zarr",), inputs=(source,))
    from napari_srast.cli.output import progress_bar
    from napari_srast.io.convert.importer import import_slide as run

    with progress_bar() as report:
        written = run(
            source,
            output,
            image=image,
            spot_diameter=spot_diameter,
            pixel_size=pixel_size,
            bin_size=bin_size,
            library=library,
            spot_shape=spot_shape,
            counts=counts,
            progress=report,
        )
    typer.echo(f"Wrote {written}; inspect it with: napari-srast info {quote(str(written))}")


@app.command(
    short_help="Score all methods against a ground truth.",
    epilog=example(
        "napari-srast evaluate hd_8um.h5ad --pitch 96 --spot-diameter 55 --lattice hexagon --factor 6 --thin 3"
    ),
)
def evaluate(
    truth: Annotated[
        Path,
        typer.Argument(metavar="HR.h5ad|HR.zarr", help="High-resolution slide: bins or cells with known counts."),
    ],
    pitch: Annotated[
        float, typer.Option(metavar="P", help="Distance between the simulated spots, in the units of the slide.")
    ],
    lattice: Annotated[str, typer.Option(metavar="square|hexagon", help="Lattice of the simulated spots.")] = "square",
    factor: Annotated[float, typer.Option(metavar="N", help="Pixels per pitch.")] = 2,
    spot_diameter: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Diameter of the disc that a spot measures; without it, its whole cell."),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|none", help="Histology image of an .h5ad file, or name of the image in a store; scores both."
        ),
    ] = None,
    thin: Annotated[
        int | None,
        typer.Option(
            metavar="SEEDS",
            help="Number of random splits of the counts in two halves: one is upsampled and scored on the other.",
        ),
    ] = None,
    genes: Annotated[
        str | None,
        typer.Option(metavar="A,B|@FILE|N|all", help="Genes of the slide: names, a file, the N most abundant, or all."),
    ] = None,
    mode: Annotated[str | None, typer.Option(metavar="mean|sample", help="Mode of the runs.")] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="smoother,smoothie,gaston,tobler,istar-like",
            help="Also score these published methods, if installed.",
        ),
    ] = None,
    library: Library = None,
    model: Model = "default",
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all scores to a file; - prints them.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for plots.")] = None,
) -> None:
    """Coarsen a high-resolution slide, upsample it, and score the maps against the ground truth.

    With --spot-diameter, --image, --thin, --genes, --mode, --peers, --library or a store: spots measure discs or cells
    of one random half of the counts, and the maps are scored on the other half (--thin, 1 by default). Otherwise every
    method is scored on the counts that the spots were made from.
    """
    from napari_srast.cli.parsing import check_exists, parse_genes
    from napari_srast.errors import SettingsError
    from napari_srast.io.file_kinds import has_suffix

    check_exists(truth, "file")
    _check_positive("--pitch", pitch)
    _check_positive("--spot-diameter", spot_diameter)
    if not 1 < factor <= 64:
        raise SettingsError(f"--factor is {factor:g}, but must be above 1 and at most 64; 2 or 4 suit most slides.")
    if lattice not in ("square", "hex", "hexagon"):
        raise SettingsError(f"--lattice is '{lattice}', but must be square or hexagon.")
    if mode not in (None, "mean", "sample"):
        raise SettingsError(f"--mode is '{mode}', but must be mean or sample.")
    if thin is not None and not 1 <= thin <= 100:
        raise SettingsError(f"--thin is {thin}, but must be a number of thinnings from 1 to 100; 3 show their spread.")
    is_store = has_suffix(truth, ".zarr")
    if image is not None and image != "none" and not is_store:
        check_exists(Path(image), "image")
    from napari_srast.cli.commands.evaluate import FineOptions, run

    fine = None
    if is_store or any(option is not None for option in (spot_diameter, image, thin, genes, mode, peers, library)):
        fine = FineOptions(
            spot_diameter=spot_diameter,
            image=None if image == "none" else image or ("auto" if is_store else None),
            thinnings=1 if thin is None else thin,
            genes=None if genes is None else int(genes) if genes.strip().isdecimal() else parse_genes(genes),
            peers=() if peers is None else tuple(name.strip() for name in peers.split(",")),
            mode="sample" if mode == "sample" else "mean",
            library=library,
        )
    kind: Literal["square", "hex"] = "square" if lattice == "square" else "hex"
    run(truth, pitch=pitch, lattice=kind, factor=factor, model=model, json_path=json, plots=plots, fine=fine)


@app.command(short_help="Train a model from a recipe.", epilog=example("napari-srast train recipe.toml"))
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="Recipe: training slides and settings.")],
    json: Json = False,
) -> None:
    """Train a model from a recipe and write a checkpoint and its model card; resumes after an interruption."""
    from napari_srast.cli.parsing import check_exists

    check_exists(recipe, "recipe")
    from napari_srast.cli.commands.train import run

    run(recipe, as_json=json)


@app.command(short_help="Measure run time and memory.", epilog=example("napari-srast bench --spots 500,1000 --json"))
def bench(
    spots: Annotated[
        str, typer.Option(metavar="N,N,...", help="Numbers of spots of the generated slides.")
    ] = "500,1000,2000",
    genes: Annotated[
        str, typer.Option(metavar="N,N,...", help="Numbers of genes; the first is used with every number of spots.")
    ] = ("200,50,800"),
    factors: Annotated[
        str, typer.Option(metavar="N,N,...", help="Pixels per pitch; the first is used with every number of spots.")
    ] = "2,4",
    workers: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Numbers of tiles computed at once, to compare.")
    ] = None,
    devices: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|mps,...", help="Device on which the networks run.")
    ] = "cpu",
    peer: Annotated[bool, typer.Option(help="Also time pycnophylactic interpolation.")] = True,
    peers: Annotated[
        str | None, typer.Option(metavar="tesla,tobler", help="Also time these published packages, if installed.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for plots.")] = None,
    json: Json = False,
) -> None:
    """Measure run time and peak memory against spots, genes and factor, compared with pycnophylactic interpolation."""
    from napari_srast.cli.parsing import parse_numbers
    from napari_srast.errors import SettingsError

    sizes, panels = parse_numbers(spots, "--spots"), parse_numbers(genes, "--genes")
    sides = parse_numbers(factors, "--factors")
    if min(sides) < 2:
        raise SettingsError(f"--factors is '{factors}', but must be whole numbers above 1, such as 2,4.")
    at_once = () if workers is None else parse_numbers(workers, "--workers")
    if plots is not None and plots.exists() and not plots.is_dir():
        raise SettingsError(f"--plots is '{plots}', which is a file; name a folder.")
    published = () if peers is None else tuple(name.strip() for name in peers.split(","))
    from napari_srast.cli.commands.bench import run

    run(
        sizes,
        panels,
        sides,
        at_once,
        devices.split(","),
        peer=peer,
        peers=published,
        plots=plots,
        as_json=json,
    )


@app.command(short_help="Describe a slide, a model or the cache.", epilog=example("napari-srast info breast.zarr"))
def info(
    target: Annotated[
        str | None, typer.Argument(metavar="[SLIDE.zarr|MODEL]", help="A store, or the name or file of a model.")
    ] = None,
    spots: Spots = None,
    table: Table = None,
    image: Image = "auto",
    library: Library = None,
    counts: Counts = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Describe the cache of slides that the window has prepared.")
    ] = False,
    clear_cache: Annotated[bool, typer.Option("--clear-cache", help="Remove all files of this cache.")] = False,
    json: Json = False,
) -> None:
    """Describe a slide or a model: its content, whether it can be used, and what is missing if not.

    With --cache: folder, size and number of slides of the cache of prepared slides.
    """
    from napari_srast.cli.commands.info import describe_cache, run

    if cache or clear_cache:
        describe_cache(target, clear=clear_cache, as_json=json)
        return
    if target is None:
        from napari_srast.errors import SettingsError

        raise SettingsError("Nothing to describe was named; name a store or a model, or give --cache.")
    run(target, as_json=json, spots=spots, table=table, image=image, library=library, counts=counts)


def _check_positive(option: str, value: float | None) -> None:
    from napari_srast.errors import SettingsError

    if value is not None and not 0 < value < float("inf"):
        raise SettingsError(f"{option} is {value:g}, but must be above 0.")
