from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely
from napari.utils.colormaps import ensure_colormap
from PIL import Image as PillowImage

from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled, OutputError
from napari_srast.gui.export.panel_figure import FigureOptions, draw_figure, write_figure
from napari_srast.gui.layers.gene_colors import PALETTE, GeneStyle, colormap_stops, map_colormap
from napari_srast.gui.state.displayed_result import DisplayedResult, prepare_for_display

pytestmark = pytest.mark.gui
MAP = colormap_stops(map_colormap())


@pytest.fixture
def displayed(skewed_slide: Slide, make_result: Callable[..., UpsampleResult]) -> DisplayedResult:
    slide = dataclasses.replace(skewed_slide, unit="um")
    return prepare_for_display(make_result(slide, Region(shapely.box(-50, -50, 250, 250))))


def _styles(stops: tuple[str, ...] = MAP) -> list[GeneStyle]:
    return [GeneStyle("Gene0", "#ff8a00", (0.0, 1.0), stops=stops)]


def test_figure_has_panels_scale_bars_color_bars_title_and_overview(displayed: DisplayedResult) -> None:
    styles = [GeneStyle(f"Gene{i}", PALETTE[i], (0.0, 2.0)) for i in range(3)]
    figure = draw_figure(displayed, displayed.result.slide, styles, FigureOptions(title="HER2, $5 and $x_{"))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Measured, per spot", "Upsampled counts", "Expression", "Gene0", "Gene1", "Gene2"]
    assert figure.get_suptitle() == "HER2, $5 and $x_{"
    figure.canvas.draw()  # a title is no formula
    measured, counts = figure.axes[:2]
    assert measured.get_xlim() == counts.get_xlim()
    assert measured.get_ylim() == counts.get_ylim()
    for axes in (measured, counts):
        (bar,) = (artist for artist in axes.artists if hasattr(artist, "size_bar"))
        assert bar.txt_label.get_text() == "50 µm"
        assert bar.size_bar.get_children()[0].get_width() == 50
    assert [len(axes.child_axes) for axes in (measured, counts)] == [1, 0]
    assert len(measured.collections[0].get_paths()) == len(displayed.result.raster.spots)
    assert [axes.get_xlim() for axes in figure.axes[3:]] == [(0.0, 2.0)] * 3
    (only,) = draw_figure(
        displayed, displayed.result.slide, styles, FigureOptions(views=("counts",), overview=False)
    ).axes[:1]
    assert (only.get_title(), len(only.child_axes)) == ("Upsampled counts", 0)


@pytest.mark.parametrize("system", ["global", "turned"])
def test_measured_and_upsampled_counts_have_the_same_colors_at_the_same_place(
    system: str, displayed: DisplayedResult
) -> None:
    """A colormap that the user has chosen is in both panels and in the color bar, in every coordinate system."""
    slide = dataclasses.replace(displayed.result.slide, coordinate_system=system, image=None)
    viridis = ensure_colormap("viridis")
    per_spot = displayed.result.slide.counts[:, 0].toarray()[:, 0] / np.maximum(
        displayed.result.raster.n_pixels_per_spot, 1
    )
    spot = displayed.result.raster.spots[int(np.argmax(per_spot[displayed.result.raster.spots]))]
    style = GeneStyle("Gene0", "#fde725", (0.0, float(per_spot[spot])), stops=colormap_stops(viridis))
    # Every pixel of a spot has the same count, so that both panels have the same color at its center.
    uniform = displayed.result.counts.tolil()
    uniform[:, 0] = per_spot[displayed.result.raster.parent][:, None]
    values = dataclasses.replace(displayed.values, columns=uniform.tocsc(), expression=None)
    even = dataclasses.replace(displayed, values=values)
    figure = draw_figure(even, slide, [style], FigureOptions())
    figure.set_dpi(100)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    center = (slide.to_cs @ [*slide.centers[spot], 1.0])[:2]
    for axes in figure.axes[:2]:
        x, y = axes.transData.transform(center)
        np.testing.assert_allclose(pixels[len(pixels) - 1 - round(y), round(x)], [253, 231, 37], atol=12)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_figure_is_written_in_the_format_of_its_suffix(suffix: str, displayed: DisplayedResult, tmp_path: Path) -> None:
    path = tmp_path / f"figure.{suffix}"
    write_figure(displayed, displayed.result.slide, _styles(), FigureOptions(title="A title", dpi=100), path)
    content = path.read_bytes()
    if suffix == "png":
        with PillowImage.open(path) as picture:
            assert picture.info["dpi"] == pytest.approx((100, 100), abs=0.1)
            assert picture.width > 600
    elif suffix == "pdf":
        assert content.startswith(b"%PDF")
    else:
        assert b"<text" in content  # text can be edited
        assert b"A title" in content
    write_figure(displayed, displayed.result.slide, _styles(), FigureOptions(title="A title", dpi=100), path)
    assert path.read_bytes() == content


def test_figures_that_cannot_be_written_say_why(displayed: DisplayedResult, tmp_path: Path) -> None:
    slide = displayed.result.slide
    with pytest.raises(OutputError, match=r"choose \.png, \.pdf or \.svg"):
        write_figure(displayed, slide, _styles(), FigureOptions(), tmp_path / "figure.bmp")
    with pytest.raises(OutputError, match="tick a gene"):
        write_figure(displayed, slide, [], FigureOptions(), tmp_path / "figure.png")
    with pytest.raises(OutputError, match="choose another one"):
        write_figure(displayed, slide, _styles(), FigureOptions(), tmp_path / "missing" / "figure.png")


def test_canceled_figure_leaves_no_file_and_an_earlier_one_as_it_was(
    displayed: DisplayedResult, tmp_path: Path
) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"earlier")
    with pytest.raises(Cancelled):
        write_figure(
            displayed, displayed.result.slide, _styles(), FigureOptions(dpi=72), path, should_stop=lambda: True
        )
    assert path.read_bytes() == b"earlier"
    assert [one.name for one in tmp_path.iterdir() if one.suffix == ".png"] == ["figure.png"]


def test_figure_of_a_slide_without_histology_and_of_stains(displayed: DisplayedResult) -> None:
    slide = displayed.result.slide
    stains = dataclasses.replace(slide.image, channels=("DAPI", "CD3", "CK"))
    for image in (None, stains):
        figure = draw_figure(displayed, dataclasses.replace(slide, image=image), _styles(), FigureOptions())
        expected = 0 if image is None else 1
        assert [len(axes.images) for axes in figure.axes[:2]] == [expected, expected + 1]
