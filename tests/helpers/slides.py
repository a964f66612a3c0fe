"""Small synthetic slides: in memory, as SpatialData objects, and as stores on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import sparse

from napari_srast.core.slide import Slide

__all__ = ["image_element", "import_slide_with_image", "make_slide", "make_store"]


def make_slide(
    rows: int = 8,
    cols: int = 8,
    n_genes: int = 5,
    *,
    lattice: Literal["square", "hex"] = "square",
    pitch: float = 100.0,
    depth: float = 20.0,
    seed: int = 0,
    counts: Any = None,
    **fields: Any,
) -> Slide:
    """Build a slide of ``rows`` x ``cols`` spots.

    The first gene grows from left to right, the second peaks in the middle, the third is zero everywhere, the others
    are smooth waves; all are Poisson around ``depth`` counts.

    Parameters
    ----------
    rows, cols
        Number of spots along y and x.
    n_genes
        Number of genes.
    lattice
        Arrangement of the spots.
    pitch
        Distance between neighboring spots in micrometers.
    depth
        Mean counts of a gene in a spot, up to its pattern.
    seed
        Seed of the Poisson counts.
    counts
        Counts that replace the generated ones, shape (N, G).
    fields
        Fields of :class:`Slide` that replace the defaults.
    """
    row, col = (a.ravel() for a in np.mgrid[:rows, :cols])
    if lattice == "hex":
        centers = np.column_stack([(col + 0.5 * (row % 2)) * pitch, row * pitch * np.sqrt(3) / 2])
    else:
        centers = np.column_stack([col, row]) * float(pitch)
    if counts is None:
        rng = np.random.default_rng(seed)
        unit = (centers - centers.min(axis=0)) / max(float(np.ptp(centers)), 1.0)
        x, y = unit.T
        patterns = [0.2 + x, np.exp(-8 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)), np.zeros_like(x)]
        patterns += [1 + np.sin(2 * np.pi * ((k - 2) * x + y)) for k in range(3, n_genes)]
        counts = rng.poisson(depth * np.column_stack(patterns[:n_genes]))
    matrix = sparse.csr_matrix(counts, dtype=np.float32)
    fields.setdefault("spot_diameter", 0.55 * pitch if lattice == "hex" else pitch)
    fields.setdefault("spot_shape", "circle" if lattice == "hex" else "square")
    fields.setdefault("unit", "um")
    return Slide(
        counts=matrix,
        genes=np.array([f"Gene{i}" for i in range(matrix.shape[1])], dtype=object),
        spot_ids=np.array([f"spot{i}" for i in range(len(centers))], dtype=object),
        centers=centers,
        **fields,
    )


def make_store(slide: Slide, kind: str = "circles", *, x: Any = None, table: str = "table", **parts: Any) -> Any:
    """Convert a slide to a SpatialData object, with the slide's own transformations.

    Parameters
    ----------
    slide
        The slide to convert.
    kind
        How the spots are stored: "circles", "squares" or "labels".
    x
        Matrix that replaces the slide's counts in the table, shape (N, G).
    table
        Name of the table.
    parts
        ``genes`` and ``layers`` of the table; all others go to ``SpatialData``.
    """
    import anndata
    import geopandas
    import pandas as pd
    import shapely
    import spatialdata
    from spatialdata.models import Labels2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Affine

    systems = {
        name: Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y")) for name, matrix in slide.transforms.items()
    }
    ids = np.arange(slide.n_spots) + 10
    diameter = slide.spot_diameter or 1.0
    shapes, labels = {}, {}
    if kind == "circles":
        shapes["spots"] = ShapesModel.parse(
            slide.centers, geometry=0, radius=diameter / 2, index=pd.Index(ids), transformations=systems
        )
    elif kind == "squares":
        boxes = shapely.box(*(slide.centers - diameter / 2).T, *(slide.centers + diameter / 2).T)
        shapes["spots"] = ShapesModel.parse(
            geopandas.GeoDataFrame(geometry=boxes, index=pd.Index(ids)), transformations=systems
        )
    else:
        rows, cols = (int(m) for m in np.ptp(slide.centers, axis=0)[::-1] + diameter)
        image = np.zeros((rows, cols), dtype=np.int32)
        for spot, (cx, cy) in zip(ids, slide.centers, strict=True):
            half = diameter / 2
            image[round(cy - half) : round(cy + half), round(cx - half) : round(cx + half)] = spot
        labels["spots"] = Labels2DModel.parse(image, dims=("y", "x"), transformations=systems, chunks=(32, 32))
    obs = pd.DataFrame({"region": pd.Categorical(["spots"] * len(ids)), "instance_id": ids}, index=slide.spot_ids)
    var = pd.DataFrame(index=parts.pop("genes", slide.genes))
    data = anndata.AnnData(slide.counts if x is None else x, obs=obs, var=var, layers=parts.pop("layers", None))
    parsed = TableModel.parse(data, region="spots", region_key="region", instance_key="instance_id")
    return spatialdata.SpatialData(
        images=parts.pop("images", {}), shapes=shapes, labels=labels, tables={table: parsed}, **parts
    )


def image_element(
    shape: tuple[int, int, int] = (3, 40, 60),
    dtype: type = np.uint8,
    systems: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Return a random image element.

    Parameters
    ----------
    shape
        Number of channels, rows and columns.
    dtype
        Type of the pixels.
    systems
        Transformations by coordinate system; None for the identity to "global".
    options
        Options of ``Image2DModel.parse``.
    """
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Identity

    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    return Image2DModel.parse(
        pixels, dims=("c", "y", "x"), transformations=systems or {"global": Identity()}, **options
    )


def import_slide_with_image(folder: Path, name: str = "breast", n_genes: int = 12, seed: int = 0) -> Path:
    """Write a table and a histology image into a folder, import them, and return the store.

    Parameters
    ----------
    folder
        Where the source files and the store ``{name}.zarr`` are written.
    name
        Name of the slide.
    n_genes
        Number of genes; the slide has 6 x 6 spots.
    seed
        Seed of the counts and the image.
    """
    import anndata
    from PIL import Image

    from napari_srast.io.convert.importer import import_slide

    rng = np.random.default_rng(seed)
    row, col = (a.ravel() for a in np.mgrid[:6, :6])
    table = anndata.AnnData(sparse.csr_matrix(rng.poisson(8, (36, n_genes)).astype(np.float32)))
    table.var_names = [f"Gene{i}" for i in range(n_genes)]
    table.obs_names = [f"spot{i}" for i in range(36)]
    table.obsm["spatial"] = np.column_stack([col, row]) * 100.0
    table.obsm["spatial_px"] = table.obsm["spatial"] / 5 + 20
    table.write_h5ad(folder / f"{name}.h5ad")
    Image.fromarray(rng.integers(80, 240, (140, 140, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return import_slide(folder / f"{name}.h5ad", folder / f"{name}.zarr", image=folder / f"{name}.png")
