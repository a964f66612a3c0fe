"""Score the gain from histology on real slides, each coarsened so that its own spots are the truth.

``python docs/make_histology.py SLIDES [--genes 600] [--folds FOLDER] [--only NAME] [--json FILE] [--figures]``, where
SLIDES is a folder of ``NAME.h5ad`` with ``obsm["spatial_px"]`` and ``NAME_he.jpg``. Writes results/histology.json,
which results/histology.md quotes. ``--figures`` draws its figures instead. ``--folds`` also runs the whole method on
each slide with a square lattice, with and without the image, with the network of the fold that holds the slide out:
FOLDER is the work folder of a training.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import anndata
import make_quotes
import numpy as np
from make_high_resolution import unseen_model
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.api import upsample
from napari_srast.core.slide import Slide, SlideImage
from napari_srast.evaluation.metrics import score_ratios
from napari_srast.evaluation.protocol import BASELINES, DENOISED
from napari_srast.geometry.coarsening import coarsen_slide
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology import ImageExpert, fit_image_expert, fit_image_predictor
from napari_srast.histology.offset import OffsetEstimate, estimate_offset
from napari_srast.interpolation import Denoiser, Interpolator
from napari_srast.io.convert.images import read_image_file
from napari_srast.io.transforms import fit_affine

HERE = Path(__file__).resolve().parent
IMAGES, OUTPUT = HERE / "images", HERE / "results" / "histology.json"
HALF_SHIFTS = ((0.5, 0.0), (0.0, -0.5), (-0.35, 0.35))


class CoarsenedSlide:
    """A coarsened slide, or its ``n_spots`` central spots: counts, truth of some genes, image, baselines."""

    def __init__(self, path: Path, n_genes: int, n_spots: int | None = None) -> None:
        table = anndata.read_h5ad(path)
        if n_spots is not None:
            points = np.asarray(table.obsm["spatial"], dtype=float)[:, :2]
            table = table[np.argsort(np.hypot(*(points - np.median(points, axis=0)).T))[:n_spots]].copy()
        self.name = path.stem
        self.spots = np.asarray(table.obsm["spatial"], dtype=float)[:, :2]
        lattice = make_raster(self.spots, factor=2).lattice
        self.native_pitch, self.is_square = lattice.pitch, lattice.kind == "square"
        self.all_counts = sparse.csr_matrix(table.X, dtype=np.float32)
        to_spots, _ = fit_affine(np.asarray(table.obsm["spatial_px"], dtype=float)[:, :2], self.spots)
        pixels = read_image_file(path.with_name(f"{path.stem}_he.jpg"))
        self.image = pyramid(pixels, to_spots)
        coarse = coarsen_slide(self.spots, self.all_counts)
        assert coarse is not None, f"{path.stem} is too small to be coarsened"
        self.coarse, self.layout, self.counts = coarse, coarse.layout, coarse.counts.tocsr()
        self.centers = self.layout.spots + (self.spots[coarse.used[0]] - self.layout.pixels[0])
        totals = np.asarray(coarse.truth.sum(axis=0)).ravel()
        self.genes = np.sort(np.argsort(-totals, kind="stable")[:n_genes])
        self.low = self.counts[:, self.genes].toarray().astype(float)
        self.truth = sparse.csr_matrix(coarse.truth[:, self.genes])

    def score(self, ratios: np.ndarray) -> tuple[float, float, float]:
        """Return nats per count, and its parts totals and composition."""
        scores = score_ratios(self.truth, ratios, self.layout)
        return scores.nats_per_count, scores.totals, scores.composition

    def baselines(self) -> dict[str, np.ndarray]:
        """Return the ratios of all baselines."""
        interpolator = Interpolator(self.layout)
        smooth = Denoiser(self.counts, self.layout.spots, self.layout.pitch).fields(self.genes)
        return {
            name: interpolator.ratios(name.removesuffix(DENOISED), smooth if name.endswith(DENOISED) else self.low)
            for name in BASELINES
        }

    def expert(self, image: SlideImage) -> ImageExpert:
        """Fit the image expert to the coarse counts."""
        return fit_image_expert(self.counts, self.centers, self.layout.pitch, image)

    def with_image(self, ratios: np.ndarray, image: SlideImage) -> tuple[np.ndarray, bool, str | None]:
        """Return ratios with the image as the method uses it, whether it is used, and the warning."""
        expert = self.expert(image)
        offset = estimate_offset(expert)
        warning = offset.warning(image.name)
        if not offset.usable:
            return ratios, False, warning
        return self.pool_image(ratios, expert, offset), True, warning

    def pool_image(self, ratios: np.ndarray, expert: ImageExpert, offset: OffsetEstimate) -> np.ndarray:
        """Return ratios with the image, from a model that is fitted to the coarse spots."""
        predictor = fit_image_predictor(expert, self.counts, np.array(offset.correction), self.layout.pitch**2)
        loadings = predictor.field_loadings(self.low)
        log_ratios = np.log(np.maximum(ratios, 1e-9))
        return np.exp(predictor.predict(self.layout).pool_with(log_ratios, loadings, self.layout))

    def image_features(self, expert: ImageExpert, area: float, n_points: int) -> tuple[np.ndarray, np.ndarray]:
        """Return features of spots and of pixels, standardized by those of the training spots."""
        of_spots = expert.features.disk_mean(expert.centers, expert.spot_area)
        pixels = self.layout.pixels + self.centers[0] - self.layout.spots[0]
        of_pixels = expert.features.disk_mean(pixels, area, n_points)
        mean, scale = of_spots[expert.training_spots].mean(axis=0), of_spots[expert.training_spots].std(axis=0)
        scale = np.where(scale > 1e-6 * np.maximum(np.abs(mean), 1e-3), scale, np.inf)  # constant features become 0
        return (of_spots - mean) / scale, (of_pixels - mean) / scale

    def transformed(self, matrix: np.ndarray) -> SlideImage:
        """Return the image transformed by a (3, 3) matrix about the middle of the spots."""
        middle = np.eye(3)
        middle[:2, 2] = self.centers.mean(axis=0)
        return transform_image(self.image, middle @ matrix @ np.linalg.inv(middle))

    def shifted(self, pitches: tuple[float, float]) -> SlideImage:
        """Return the image shifted by a vector in pitches."""
        matrix = np.eye(3)
        matrix[:2, 2] = np.array(pitches) * self.layout.pitch
        return self.transformed(matrix)

    def regression_alone(self) -> tuple[np.ndarray, float]:
        """Predict every gene from the image alone, the core idea of iStar.

        Returns the ratios, and the mass error before they are scaled to conserve counts.
        """
        expert, log_low = self.expert(self.image), np.log1p(self.low)
        spot_features, features = self.image_features(expert, expert.spot_area / 4, 16)
        left, size, right = np.linalg.svd(spot_features, full_matrices=False)
        rotated, best = left.T @ (log_low - log_low.mean(axis=0)), (np.inf, np.zeros(0))
        for strength in np.geomspace(1, 1e4, 13):
            shrunk = size**2 / (size**2 + strength)
            leverage = (left**2) @ shrunk + 1 / len(left)
            rest = (log_low - log_low.mean(axis=0) - left @ (shrunk[:, None] * rotated)) / (1 - leverage)[:, None]
            if (rest**2).sum() < best[0]:
                best = (float((rest**2).sum()), size / (size**2 + strength))
        prediction = features @ (right.T @ (best[1][:, None] * rotated)) + log_low.mean(axis=0)
        intensity = np.expm1(np.maximum(prediction, 0.0)) / self.layout.n_pixels_per_spot[self.layout.parent][:, None]
        nonempty = self.layout.n_pixels_per_spot > 0
        predicted, measured = (self.layout.membership @ intensity)[nonempty].sum(axis=1), self.low[nonempty].sum(axis=1)
        return self.layout.normalize(intensity), float(np.median(np.abs(predicted / measured - 1)))

    def gray_distance(self) -> np.ndarray:
        """Average the ten spots nearest in space and gray level, the core idea of TESLA."""
        expert = self.expert(self.image)
        gray = [i for i, name in enumerate(expert.features.names) if name in ("mean_red_0.1", "mean_blue_0.1")]
        of_spots, of_pixels = (f[:, gray].mean(axis=1) for f in self.image_features(expert, 1e-9, 1))
        spots = np.column_stack([self.layout.spots / self.layout.pitch, of_spots])
        pixels = np.column_stack([self.layout.pixels / self.layout.pitch, of_pixels])
        distance, index = cKDTree(spots).query(pixels, k=min(10, len(spots)))
        weight = 1 / np.maximum(distance, 1e-6)
        return self.layout.normalize(np.einsum("qk,qkf->qf", weight, self.low[index]))

    def whole_method(self, image: SlideImage | None, model: str) -> float:
        """Run the whole method on the coarse slide; return nats per count of the slide's own spots."""
        names = np.array([f"g{i}" for i in range(self.counts.shape[1])])
        slide = Slide(
            counts=self.counts,
            genes=names,
            spot_ids=np.arange(len(self.centers)).astype(str),
            centers=self.centers,
            spot_diameter=self.layout.pitch,
            spot_shape="square",
            image=image,
        )
        result = upsample(slide, genes=list(names[self.genes]), factor=2, model=model)
        split = sparse.csc_matrix(result.counts)
        _, pixel = cKDTree(result.raster.centers).query(self.spots[self.coarse.used])
        return self.score(self.layout.normalize(split[pixel].toarray()))[0]


def score_slide(case: CoarsenedSlide, others: list[CoarsenedSlide], model: str | None) -> dict[str, object]:
    """Score one slide: baselines, the image, and wrong images, which must gain nothing."""
    baselines = case.baselines()
    nats = {name: case.score(ratios)[0] for name, ratios in baselines.items()}
    best = max(nats, key=lambda name: nats[name])
    without = baselines["gp+denoised"]
    pooled, used, warning = case.with_image(without, case.image)
    alone, mass_error = case.regression_alone()
    noise = np.random.default_rng(0).integers(0, 256, case.image.levels[0].shape, dtype=np.uint8)
    to_spots = case.image.to_intrinsic[0]
    wrong = {
        "turned": case.transformed(np.diag([-1.0, -1.0, 1.0])),
        "mirrored": case.transformed(np.diag([-1.0, 1.0, 1.0])),
        "other": place_under(others[0], case),
        "noise": pyramid(noise, to_spots),
    }
    controls = {}
    for name, image in wrong.items():
        ratios, _, wrong_warning = case.with_image(without, image)
        controls[name] = {"nats": case.score(ratios)[0], "notice": wrong_warning is not None}
    aligned = estimate_offset(case.expert(case.image)).offset_pitches
    errors = []
    for shift in HALF_SHIFTS:
        offset = estimate_offset(case.expert(case.shifted(shift)))
        errors.append(
            float(np.hypot(*(np.array(offset.offset) / case.layout.pitch - shift))) if offset.misaligned else np.nan
        )
    scores: dict[str, object] = {
        "name": case.name,
        "spots": case.layout.n_spots,
        "best_baseline": best,
        "best": nats[best],
        "gp+denoised": nats["gp+denoised"],
        "with_image": dict(zip(("nats", "totals", "composition"), case.score(pooled), strict=True)),
        "without_image": dict(zip(("nats", "totals", "composition"), case.score(without), strict=True)),
        "used": used,
        "notice": warning,
        "regression_alone": case.score(alone)[0],
        "regression_mass_error": mass_error,
        "gray_distance": case.score(case.gray_distance())[0],
        "controls": controls,
        "offset": aligned,
        "offset_errors": errors,
    }
    if model is not None and case.is_square:
        scores["method"] = {
            name: case.whole_method(image, model) for name, image in (("without", None), ("with", case.image))
        }
    return scores


def pyramid(pixels: np.ndarray, to_spots: np.ndarray) -> SlideImage:
    """Return an image (3, y, x) with levels of half and a quarter of its resolution, as in imported slides."""
    levels, affines = [pixels], [to_spots]
    for size in (2, 4):
        rows, columns = (n // size for n in pixels.shape[1:])
        blocks = pixels[:, : rows * size, : columns * size].reshape(3, rows, size, columns, size)
        levels.append(blocks.mean(axis=(2, 4), dtype=np.float32).astype(pixels.dtype))
        affines.append(to_spots @ np.diag([size, size, 1.0]))
    return SlideImage(name="he", levels=tuple(levels), to_intrinsic=tuple(affines))


def transform_image(image: SlideImage, matrix: np.ndarray) -> SlideImage:
    """Transform an image by a (3, 3) matrix in the spots' coordinate system."""
    return replace(image, to_intrinsic=tuple(matrix @ affine for affine in image.to_intrinsic))


def place_under(other: CoarsenedSlide, case: CoarsenedSlide) -> SlideImage:
    """Place another slide's image under a slide, with equal centers and pitches."""
    scale = case.layout.pitch / other.layout.pitch
    to_middle, back = np.diag([scale, scale, 1.0]), np.eye(3)
    to_middle[:2, 2] = -scale * other.centers.mean(axis=0)
    back[:2, 2] = case.centers.mean(axis=0)
    return transform_image(other.image, back @ to_middle)


def draw(case: CoarsenedSlide, column: int, gene: str, factor: int = 8) -> None:
    """Draw histology, spots, and one gene on a fine raster without and with the image."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    pitch = case.native_pitch
    raster = make_raster(case.spots, factor=factor)
    layout = SpotPixelMap.of_raster(case.spots, raster)
    field = case.all_counts[:, [column]].toarray().astype(float)
    smooth = Denoiser(case.all_counts, layout.spots, pitch).fields(np.array([column]))
    without = Interpolator(layout).ratios("gp", smooth)
    expert = fit_image_expert(case.all_counts, case.spots, pitch, case.image)
    area = np.pi / 4 * (0.55 * pitch) ** 2 if raster.lattice.kind == "hex" else pitch**2
    predictor = fit_image_predictor(expert, case.all_counts, np.array(estimate_offset(expert).correction), area)
    log_ratios = np.log(np.maximum(without, 1e-9))
    both = np.exp(predictor.predict(layout).pool_with(log_ratios, predictor.field_loadings(field), layout))
    low, high = case.spots.min(axis=0) - pitch, case.spots.max(axis=0) + pitch
    figure, axes = plt.subplots(1, 4, figsize=(16, 4.4), constrained_layout=True)
    corner = np.linalg.inv(case.image.to_intrinsic[0])
    pixels = np.moveaxis(case.image.levels[0], 0, -1)
    grid = np.stack(np.meshgrid(np.linspace(low[0], high[0], 700), np.linspace(low[1], high[1], 700)), axis=-1)
    pixel = np.rint(grid @ corner[:2, :2].T + corner[:2, 2] - 0.5).astype(int)
    pixel = np.clip(pixel, 0, [pixels.shape[1] - 1, pixels.shape[0] - 1])
    extent = (low[0], high[0], high[1], low[1])
    axes[0].imshow(pixels[pixel[..., 1], pixel[..., 0]], extent=extent)
    top = np.quantile(field, 0.99)
    axes[1].scatter(*case.spots.T, c=field[:, 0], s=14, cmap="magma", vmax=top)
    for axis, ratios in ((axes[2], without), (axes[3], both)):
        share = (ratios * layout.n_pixels_per_spot[layout.parent][:, None] * field[layout.parent])[:, 0]
        axis.scatter(
            *raster.centers.T, c=share, s=(2.2 if len(case.spots) < 300 else 1.2), marker="s", cmap="magma", vmax=top
        )
    for axis, title in zip(axes, ("histology", f"{gene}, measured", "interpolated", "with histology"), strict=True):
        axis.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xticks=[], yticks=[], title=title)
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / f"histology_{case.name}.png", dpi=70)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path)
    parser.add_argument("--genes", type=int, default=600)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path, default=OUTPUT)
    parser.add_argument("--folds", type=Path, help="work folder of a training")
    parser.add_argument("--figures", action="store_true")
    chosen = parser.parse_args()
    paths = [p for p in sorted(chosen.slides.glob("*.h5ad")) if p.with_name(f"{p.stem}_he.jpg").exists()]
    if chosen.figures:
        for name, gene in (("visium_mouse_embryo_cytassist", "Col2a1"), ("st_mouse_olfactorybulb_mob1", "Penk")):
            table = anndata.read_h5ad(chosen.slides / f"{name}.h5ad", backed="r")
            draw(CoarsenedSlide(chosen.slides / f"{name}.h5ad", 10), int(table.var_names.get_loc(gene)), gene)
        return
    rows = []
    for i, path in enumerate(paths):
        if chosen.only not in path.stem:
            continue
        other = CoarsenedSlide(paths[(i + 3) % len(paths)], 10)
        model = None if chosen.folds is None else unseen_model(chosen.folds, path.stem)
        row = score_slide(CoarsenedSlide(path, chosen.genes), [other], model)
        rows.append(row)
        print(json.dumps(row), flush=True)
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if chosen.json == OUTPUT:
        make_quotes.update()


if __name__ == "__main__":
    main()
