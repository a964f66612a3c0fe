"""Draw measured spots, conserved counts and expression of real slides: ``python docs/make_gallery.py DATA [NAME ...]``.

DATA is a folder with ``slides/``, ``fine/`` and ``highres/``; the built-in measured slide needs no file. Pictures of
data whose license allows publication are written to docs/images/gallery_NAME.png, others to docs/_build/gallery, which
is not published. High-resolution slides are measured as Visium would have measured them, from one half of their counts;
the other half is shown as the truth.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D
from PIL import Image
from scipy import sparse

import napari_srast as srast
from napari_srast.core.slide import Slide
from napari_srast.evaluation.fine_slide import FineSlide, abundant_genes, read_fine_slide
from napari_srast.evaluation.simulated_array import SimulatedArray, spot_membership, thin, truth_weights
from napari_srast.io.convert.importer import import_slide

DOCS = Path(__file__).resolve().parent
N_GENES = 120  # of a run, so that genes can support each other


@dataclass(frozen=True)
class Exhibit:
    """A slide of the gallery."""

    name: str
    title: str
    path: str  # in DATA; empty: the built-in slide
    genes: tuple[str, ...]
    factor: int
    license: str  # of the data, empty: not stated
    array: SimulatedArray | None = None  # measures a high-resolution slide


EXHIBITS = (
    Exhibit(
        "kidney",
        "Human kidney, Visium HD seen as Visium, with H&E; pixels of 16 µm",
        "fine/visiumhd_human_kidney_a",
        ("UMOD", "SLC12A3", "LRP2"),
        6,
        "public data set of 10x Genomics",
        SimulatedArray(pitch=96.0, lattice="hex", spot_diameter=55.0),
    ),
    Exhibit(
        "merscope",
        "Mouse brain, MERSCOPE seen through discs of 22 µm, no image; pixels of 10 µm",
        "highres/merscope_mouse_brain_mini",
        ("Slc17a7", "Gfap"),
        4,
        "MIT",
        SimulatedArray(pitch=40.0, lattice="hex", spot_diameter=22.0, min_counts=10),
    ),
    Exhibit(
        "olfactory_bulb",
        "Mouse olfactory bulb, legacy Spatial Transcriptomics, with H&E; four pixels per pitch",
        "slides/st_mouse_olfactorybulb_mob1",
        ("Fabp7", "Meis2", "Doc2g"),
        4,
        "MIT",
    ),
    Exhibit(
        "dentate_gyrus",
        "Mouse dentate gyrus, Visium, no image; pixels of 25 µm",
        "",
        ("C1ql2", "Neurod6", "Mobp"),
        4,
        "MIT",
    ),
)


def open_fine(exhibit: Exhibit, data: Path) -> tuple[Slide, FineSlide, sparse.csr_matrix]:
    """Return the slide that the array measures, the high-resolution slide, and the held-out half of its counts."""
    path = data / f"{exhibit.path}.h5ad"
    images = sorted(path.parent.glob(f"{path.stem}_*.jpg"))
    fine = read_fine_slide(path, image=images[0] if images else None, genes=N_GENES)
    half, held_out = thin(fine.counts, 0)
    centers = exhibit.array.centers(fine.points.max(axis=0))
    counts = sparse.csr_matrix(spot_membership(exhibit.array, centers, fine.points) @ half)
    kept = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() >= exhibit.array.min_counts)
    slide = Slide(
        counts=sparse.csr_matrix(counts[kept], dtype=np.float32),
        genes=fine.genes,
        spot_ids=np.array([f"s{i}" for i in range(len(kept))]),
        centers=centers[kept],
        spot_diameter=exhibit.array.spot_diameter,
        unit=fine.unit,
        image=fine.image,
    )
    return slide, fine, held_out


def open_slide(exhibit: Exhibit, data: Path) -> Slide:
    """Return a slide of spots, imported as a user would."""
    if not exhibit.path:
        return srast.mouse_dentate_gyrus()
    table = data / f"{exhibit.path}.h5ad"
    store = DOCS / "_build" / "gallery" / f"{exhibit.name}.zarr"
    if not store.exists():
        store.parent.mkdir(parents=True, exist_ok=True)
        import_slide(table, store, image=table.with_name(f"{table.stem}_he.jpg"))
    return srast.read_slide(store)


def draw(exhibit: Exhibit, data: Path) -> None:
    """Run the slide and write its picture."""
    truth = None
    if exhibit.array is not None:
        slide, fine, held_out = open_fine(exhibit, data)
        genes = list(slide.genes)
    else:
        slide = open_slide(exhibit, data)
        columns = abundant_genes(slide.counts, np.asarray(slide.genes, dtype=str), N_GENES)
        genes = list(dict.fromkeys([*exhibit.genes, *np.asarray(slide.genes)[columns]]))
    result = srast.upsample(slide, genes=genes, factor=exhibit.factor, seed=0)
    raster = result.raster
    if exhibit.array is not None:
        truth = truth_weights(raster, fine.points, fine.bin_side) @ held_out
    titles = [
        "measured spots",
        "counts (conserved)",
        "expression",
        *(["truth: the other half"] if truth is not None else []),
    ]
    low, high = raster.centers.min(axis=0), raster.centers.max(axis=0)
    height = 3.0 * float((high - low)[1] / (high - low)[0]) + 0.1
    figure = Figure(figsize=(3.1 * len(titles), height * len(exhibit.genes) + 0.6), layout="constrained")
    grid = figure.subplots(len(exhibit.genes), len(titles), squeeze=False)
    figure.suptitle(exhibit.title, fontsize=11)
    rows, columns = raster.shape
    extent = (0, columns, rows, 0)
    placed = Affine2D(raster.affine)
    n_pixels = np.bincount(raster.parent, minlength=slide.n_spots)
    for row, gene in zip(grid, exhibit.genes, strict=True):
        column = list(result.genes).index(gene)
        expression = result.gene_image(gene, layer="expression")
        limit = float(np.nanquantile(expression, 0.995))
        measured = slide.counts[:, list(slide.genes).index(gene)].toarray().ravel() / np.median(n_pixels[n_pixels > 0])
        spots = EllipseCollection(
            *(np.full(slide.n_spots, value) for value in (slide.spot_diameter, slide.spot_diameter, 0.0)),
            units="xy",
            offsets=slide.centers,
            transOffset=row[0].transData,
            cmap="inferno",
            linewidths=0,
        )
        spots.set_array(measured)
        spots.set_clim(0, limit)
        row[0].add_collection(spots)
        row[0].set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal")
        images = [result.gene_image(gene), expression]
        if truth is not None:  # of all the tissue, so its total is larger than that of the discs
            values = truth[:, [list(fine.genes).index(gene)]].toarray()[:, 0]
            images.append(raster.to_image(values * (np.nansum(expression) / max(values.sum(), 1.0))))
        for axes, image in zip(row[1:], images, strict=True):
            shown = axes.imshow(image, vmin=0, vmax=limit, cmap="inferno", interpolation="nearest", extent=extent)
            shown.set_transform(placed + axes.transData)
            axes.set(xlim=row[0].get_xlim(), ylim=row[0].get_ylim(), aspect="equal")
        row[0].set_ylabel(f"{gene}\nstated skill {result.skill[column]:.3f}", fontsize=9)
        for axes, title in zip(row, titles, strict=True):
            axes.set(xticks=[], yticks=[], facecolor="black")
            if gene == exhibit.genes[0]:
                axes.set_title(title, fontsize=10)
    folder = DOCS / "images" if exhibit.license else DOCS / "_build" / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=80)
    Image.open(drawn).convert("RGB").quantize(128).save(folder / f"gallery_{exhibit.name}.png", optimize=True)
    print(f"{folder / f'gallery_{exhibit.name}.png'}: {slide.n_spots} spots, {result.n_pixels} pixels")


def main() -> None:
    """Draw the named slides, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*", help=", ".join(exhibit.name for exhibit in EXHIBITS))
    options = parser.parse_args()
    for exhibit in EXHIBITS:
        if not options.names or exhibit.name in options.names:
            draw(exhibit, options.data)


if __name__ == "__main__":
    main()
