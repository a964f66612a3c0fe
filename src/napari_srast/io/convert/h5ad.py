"""Files of other programs -> SpatialData stores that :func:`napari_srast.read_slide` opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api import types

from napari_srast._utils.text import one_line
from napari_srast.errors import InputError, SettingsError, is_memory_error, translate_memory_errors
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.atomic import atomic_output
from napari_srast.io.convert.images import check_on_image, multiscale_image, read_picture
from napari_srast.io.convert.space_ranger import is_space_ranger, read_space_ranger
from napari_srast.io.counts import raw_counts, unique_names
from napari_srast.io.element_selection import SLIDE_KEY
from napari_srast.io.safety_limits import check_h5ad
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.spots import is_length
from napari_srast.io.store import element_name, write_store
from napari_srast.io.transforms import fit_affine, to_affine, to_affines

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = ["import_slide"]

SPOTS, TABLE, REGION_KEY, INSTANCE_KEY = "spots", "table", "region", "instance_id"
_DISC = 0.55  # a spot's diameter in pitches where nothing states it: that of Visium (55 um of 100 um)
_UNITS = {"um": "um", "µm": "um", "micron": "um", "microns": "um", "px": "px", "array units": "array units"}


@translate_memory_errors("while importing the slide", "import a smaller table or image")
def import_slide(
    src: str | Path,
    out: str | Path,
    *,
    image: str | Path | None = None,
    spot_diameter: float | None = None,
    pixel_size: float | None = None,
) -> Path:
    """Convert a slide to a SpatialData store.

    Parameters
    ----------
    src
        An ``.h5ad`` file with raw counts in X (or ``layers["counts"]``) and spot centers in ``obsm["spatial"]``, or a
        Space Ranger folder (Visium, Visium HD; needs the extra ``io``).
    out
        The store to make; must not exist.
    image
        Histology, ``.jpg``, ``.png`` or ``.tif``. For ``.h5ad`` it is placed by the affine that best takes
        ``obsm["spatial_px"]`` (the spots on the image as stored, (0, 0) being its upper left corner) to
        ``obsm["spatial"]``; for Space Ranger it is the full-resolution image that Space Ranger was given.
    spot_diameter
        Diameter of a spot in the unit of ``obsm["spatial"]``. None takes it from ``uns["meta"]``, else 0.55 pitches.
        Of Visium in micrometers; None takes 55. For Visium HD it chooses the bin size; None takes the bins of 8.
    pixel_size
        Side of an image pixel in the unit of ``obsm["spatial"]``; used where there is no ``obsm["spatial_px"]``, and
        the image's upper left corner then lies at (0, 0).

    Returns
    -------
    Path
        The store, with spots "spots", table "table" and coordinate system "global", in the unit of the spots.

    Raises
    ------
    InputError
        The source or the image cannot be used.
    OutputError
        The output exists or cannot be written; nothing is left behind.
    """
    src, out = Path(src), Path(out)
    for name, value in (("spot diameter", spot_diameter), ("pixel size", pixel_size)):
        if value is not None and not is_length(value):
            raise SettingsError(f"{name} is {value:g}, but must be a length above 0; leave it out if it is not known.")
    if not src.exists():
        raise InputError(f"There is nothing at '{src}'; check the path.")
    with atomic_output(out) as partial:
        if is_space_ranger(src):
            if pixel_size is not None:
                raise SettingsError("Space Ranger's folders tell the size of an image pixel; leave the pixel size out.")
            store = read_space_ranger(src, image=image, spot_diameter=spot_diameter)
        elif src.suffix == ".h5ad" and src.is_file():
            store = _read_h5ad(src, image=image, spot_diameter=spot_diameter, pixel_size=pixel_size)
        else:
            raise InputError(f"'{src}' is neither an .h5ad file nor a Space Ranger folder; give one of these.")
        slide = read_slide(store)  # a store that could not be opened must not be written
        detect_lattice(slide.centers, slide.spot_diameter)
        write_store(store, partial)
    return out


def _read_h5ad(
    src: Path, *, image: str | Path | None, spot_diameter: float | None, pixel_size: float | None
) -> spatialdata.SpatialData:
    import anndata
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    check_h5ad(src)
    try:
        source = anndata.read_h5ad(src)
    except Exception as error:
        if is_memory_error(error):
            raise
        raise InputError(f"'{src}' cannot be read as an .h5ad file ({one_line(error)}); write it again.") from error
    centers = _places(source, "spatial", src)
    counts, notices = raw_counts(source, src.name)
    genes, gene_notices = unique_names(source.var_names, "gene names")
    spot_ids, id_notices = unique_names(source.obs_names, "spot names")
    meta = source.uns.get("meta", {})
    meta = meta if isinstance(meta, Mapping) else {}
    unit = _UNITS.get(str(meta.get("coord_unit", "")).casefold(), "unknown")
    diameter, diameter_notices = _diameter(centers, meta, unit, spot_diameter)
    notices = (*notices, *gene_notices, *id_notices, *diameter_notices)

    systems = {"global": np.eye(3)}
    images = {}
    if image is not None:
        placed, image_notices = _place_image(source, centers, src, pixel_size)
        pixels = read_picture(image)
        check_on_image(
            apply_affine(np.linalg.inv(placed), centers),
            pixels.shape[1:],
            Path(image),
            "give the image that obsm['spatial_px'] was measured on, or another pixel size",
        )
        name = element_name(Path(image).stem)
        name = f"{name}_image" if name.casefold() in (SPOTS, TABLE) else name
        systems[f"{name}_px"] = np.linalg.inv(placed)
        images[name] = multiscale_image(pixels, {"global": to_affine(placed), f"{name}_px": to_affine(np.eye(3))})
        notices = (*notices, *image_notices)

    obs = _writable(source.obs, spot_ids)
    obs[REGION_KEY] = pd.Categorical([SPOTS] * len(obs))
    obs[INSTANCE_KEY] = np.arange(len(obs))
    table = anndata.AnnData(
        counts,
        obs=obs,
        var=_writable(source.var, genes),
        obsm={"spatial": centers},
        uns={SLIDE_KEY: {"unit": unit, "source": src.name, **({"notices": list(notices)} if notices else {})}},
    )
    plain = {str(k): v for k, v in meta.items() if isinstance(v, str | int | float | np.number) and "/" not in str(k)}
    if plain:
        table.uns["meta"] = plain
    return spatialdata.SpatialData(
        images=images,
        shapes={
            SPOTS: ShapesModel.parse(centers, geometry=0, radius=diameter / 2, transformations=to_affines(systems)),
        },
        tables={TABLE: TableModel.parse(table, region=SPOTS, region_key=REGION_KEY, instance_key=INSTANCE_KEY)},
    )


def _places(source: anndata.AnnData, key: str, src: Path) -> np.ndarray:
    if key not in source.obsm:
        raise InputError(f"'{src}' has no obsm['{key}']; put the spot centers there, one row (x, y) for each spot.")
    try:
        places = np.asarray(source.obsm[key])
        places = places.astype(float, casting="same_kind" if places.dtype.kind == "c" else "unsafe")
    except (TypeError, ValueError):  # text, complex numbers, a sparse matrix
        places = np.empty(0)
    if places.ndim != 2 or places.shape[1] < 2 or not np.isfinite(places[:, :2]).all():
        raise InputError(f"obsm['{key}'] of '{src}' must hold finite (x, y) places, one row for each spot.")
    return places[:, :2].copy()


def _diameter(
    centers: np.ndarray, meta: Mapping[str, Any], unit: str, stated: float | None
) -> tuple[float, tuple[str, ...]]:
    keys = ("spot_diameter", "spot_diameter_um") if unit == "um" else ("spot_diameter",)
    known = stated if stated is not None else next((meta[key] for key in keys if meta.get(key) is not None), None)
    if known is not None:
        try:
            diameter = float(known)
        except (TypeError, ValueError):
            diameter = float("nan")
        if not is_length(diameter):
            raise InputError(
                f"uns['meta'] states a spot diameter of {known!s}, which is no length; give it with --spot-diameter."
            )
        return diameter, ()
    pitch = detect_lattice(centers).pitch
    return _DISC * pitch, (
        f"The diameter of the spots is not stated; {_DISC} of their pitch, {_DISC * pitch:.4g}, was taken "
        "(give it with --spot-diameter when importing).",
    )


def _place_image(
    source: anndata.AnnData, centers: np.ndarray, src: Path, pixel_size: float | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the (3, 3) matrix from image pixels to the spots' frame."""
    if "spatial_px" not in source.obsm:
        if pixel_size is None:
            raise InputError(
                f"'{src}' does not say where its spots lie on the image; add obsm['spatial_px'] (the spots in image "
                "pixels), or give --pixel-size if both begin at the same corner."
            )
        return np.diag([pixel_size, pixel_size, 1.0]), ()
    matrix, misfit = fit_affine(_places(source, "spatial_px", src), centers)
    off = misfit / detect_lattice(centers).pitch
    if off > 1:
        raise InputError(
            f"obsm['spatial_px'] of '{src}' fits obsm['spatial'] only to {off:.2g} pitches; "
            "check that both list the same spots in the same order, as (x, y)."
        )
    if off > 0.25:
        return matrix, (
            f"The image lies {off:.2g} pitches beside the spots on average, which no turning or scaling mends.",
        )
    return matrix, ()


def _writable(frame: pd.DataFrame, index: np.ndarray) -> pd.DataFrame:
    """Keep the columns that a SpatialData table can hold, under names that it accepts."""
    kept: dict[str, Any] = {}
    for column, values in frame.items():
        name = element_name(str(column))
        if name.casefold() in {REGION_KEY, INSTANCE_KEY, "_index", *(k.casefold() for k in kept)}:
            continue
        if isinstance(values.dtype, pd.CategoricalDtype):
            kept[name] = pd.Categorical(values.astype(str).where(values.notna()))
        elif types.is_bool_dtype(values) or types.is_numeric_dtype(values):
            if isinstance(values.dtype, np.dtype):
                kept[name] = values.to_numpy()
        elif values.map(lambda value: isinstance(value, str)).all():
            kept[name] = values.astype(str).to_numpy()
    return pd.DataFrame(kept, index=pd.Index(index))
