"""The report of a run: complete, self-contained, escaped, and without paths."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.planted import planted_slide
from helpers.results import make_result, with_expression
from helpers.slides import make_slide
from PIL import Image

from napari_srast.analysis.domains import Domains
from napari_srast.analysis.markers import find_markers
from napari_srast.analysis.report.content import without_paths
from napari_srast.analysis.report.writer import write_report
from napari_srast.core.progress import Progress
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import SlideImage, SlideSource
from napari_srast.errors import Cancelled, InputError, OutputError

HOSTILE = "<script>alert(1)</script>"
BREAKING = "\"><img src=x onerror='alert(1)'>"


class Page(HTMLParser):
    """The tags, attributes and text of a report."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def domains_of(result: UpsampleResult, names: list[str]) -> Domains:
    codes = np.arange(result.n_pixels) % len(names)
    labels = pd.Categorical.from_codes(codes, pd.Index(names))
    values = np.log1p(result.counts.toarray())
    markers = find_markers(values, result.genes, labels)
    return Domains(result=result, labels=labels, markers=markers, genes=("G0",), resolution=1.0, seed=0)


def hostile_result() -> UpsampleResult:
    slide = planted_slide(n=4, n_genes=5)
    slide = dataclasses.replace(
        slide,
        genes=np.array([HOSTILE, BREAKING, "A&B", "$\\frac{", "{{ 7 * 7 }}\u202e\x00x"], dtype=object),
        notices=(f"A notice about '/home/patient 7/{HOSTILE}.zarr' and {HOSTILE}.",),
        source=SlideSource(path=f"/home/patient 7/{BREAKING}.zarr", table="patient_7_table"),
        coordinate_system="patient 7",
        transforms={"patient 7": np.eye(3)},
        spot_ids=np.array([f"patient_7_{i}" for i in range(16)], dtype=object),
    )
    return with_expression(make_result(slide), [0, 1])


def test_every_name_is_escaped_and_nothing_is_loaded(tmp_path: Path) -> None:
    result = hostile_result()
    found = domains_of(result, [HOSTILE, BREAKING])
    path = write_report(result, tmp_path / "a.html", domains={"one & <b>two</b>": found}, title=None)
    page = Page(path)
    tags = [tag for tag, _ in page.tags]
    assert "script" not in tags
    assert HOSTILE in page.text
    assert BREAKING in page.text
    assert "one & <b>two</b>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert not any(letter in page.source for letter in "\x00\u202e")
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        assert not attributes.keys() & {"href", "srcset", "action", "background"}
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
    assert not re.search(r"url\(|@import|https?://", page.source)
    assert "default-src 'none'" in page.source


def test_report_names_the_slide_but_no_path_element_or_spot(tmp_path: Path) -> None:
    page = Page(write_report(hostile_result(), tmp_path / "a.html", title="My slide"))
    assert "My slide" in page.text
    assert "patient" not in page.source
    assert str(tmp_path) not in page.source


def test_report_has_pictures_counts_skill_settings_and_notices(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 40), dtype=np.uint8)
    image = SlideImage(name="he", levels=(pixels,), to_intrinsic=(np.diag([20.0, 20.0, 1.0]),))
    slide = make_slide(8, 8, lattice="hex", image=image, notices=("Left out 2 spots.",))
    region = Region.from_wkt("POLYGON ((-50 -50, 550 -50, 550 400, -50 400, -50 -50))")
    result = with_expression(make_result(slide, region, method="gp"), [0])
    result = dataclasses.replace(result, skill=np.array([0.5, 0.25, np.nan, 0.0, -0.125]))
    page = Page(write_report(result, tmp_path / "a.html", genes=["Gene0", "Gene3"]))
    spots = result.raster.spots
    assert f"a region with {len(spots)} of its spots" in page.text
    assert f"have {int(slide.counts[spots].sum()):,} counts" in page.text
    assert "+0.500" in page.text
    assert "-0.125" in page.text
    assert "unknown" in page.text
    assert "Left out 2 spots." in page.text
    assert "factor 2" in page.text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [str(one["alt"]).split(":")[0] for one in images][1:] == ["Gene0", "Gene3"]
    assert "expression" in str(images[1]["alt"])
    assert "expression" not in str(images[2]["alt"])
    sizes = []
    for one in images:
        with Image.open(io.BytesIO(base64.b64decode(str(one["src"]).partition(",")[2]))) as picture:
            sizes.append(picture.size)
            assert len({*np.asarray(picture.convert("L")).ravel().tolist()}) > 20  # something is drawn
    assert sizes[1][0] > sizes[2][0]  # three panels and two


def test_equal_results_give_equal_reports_and_domains_have_their_sizes_and_markers(tmp_path: Path) -> None:
    result = make_result(planted_slide(n=4))
    found = domains_of(result, ["tumor", "stroma"])
    first = write_report(result, tmp_path / "a.html", domains={"mine": found})
    second = write_report(result, tmp_path / "b.html", domains={"mine": found})
    assert first.read_bytes() == second.read_bytes()
    text = Page(first).text
    assert f"stroma {found.sizes['stroma']} 50.0%" in text
    assert found.markers.attrs["note"] in text


def test_lost_counts_are_stated(tmp_path: Path) -> None:
    result = make_result(planted_slide(n=4))
    counts = result.counts.copy()
    counts.data *= 0.5
    text = Page(write_report(dataclasses.replace(result, counts=counts), tmp_path / "a.html")).text
    assert "is 5.0e-01 of the count" in text


def test_many_genes_are_folded_and_large_maps_averaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_srast.analysis.report.writer._SHOWN_GENES", 10)
    monkeypatch.setattr("napari_srast.analysis.report.writer._MAX_GENES", 30)
    monkeypatch.setattr("napari_srast.analysis.report.pictures._MAX_SIDE", 3)
    monkeypatch.setattr("napari_srast.analysis.report.pictures._MAX_SPOTS", 3)
    page = Page(write_report(make_result(planted_slide(n=4)), tmp_path / "a.html", genes=["G1"]))
    assert "20 more" in page.text
    assert "10 more genes are in the table of the result." in page.text


def test_block_means_ignore_places_without_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_srast.analysis.report import pictures

    result = make_result(planted_slide(n=3))
    drawn: list[np.ndarray] = []
    monkeypatch.setattr(pictures, "draw_image", lambda axes, image, *_, **__: drawn.append(image))
    monkeypatch.setattr(pictures, "_MAX_SIDE", 2)
    pictures._draw_map(None, result, np.arange(36.0), 1.0)  # type: ignore[arg-type]
    grid = np.arange(36.0).reshape(6, 6)
    np.testing.assert_allclose(drawn[0], grid.reshape(2, 3, 2, 3).mean(axis=(1, 3)))


def test_each_picture_is_reported(tmp_path: Path) -> None:
    steps: list[Progress] = []
    result = make_result(planted_slide(n=4))
    found = {"A": domains_of(result, ["a", "b"])}
    write_report(result, tmp_path / "a.html", genes=["G0", "G1"], domains=found, progress=steps.append)
    assert [(step.stage, step.done, step.total) for step in steps] == [("report", i, 3) for i in range(3)]


def test_unusable_requests_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    result = make_result(planted_slide(n=4))
    with pytest.raises(OutputError, match=r"end in \.html"):
        write_report(result, tmp_path / "a.pdf")
    with pytest.raises(InputError, match="no gene 'X'"):
        write_report(result, tmp_path / "a.html", genes=["X"])
    with pytest.raises(OutputError, match="at most 30"):
        write_report(result, tmp_path / "a.html", genes=[f"G{i}" for i in range(31)])
    with pytest.raises(Cancelled):
        write_report(result, tmp_path / "a.html", should_stop=lambda: True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.html").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_report(result, tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Read '/data/my patients/slide.zarr' twice.", "Read 'slide.zarr' twice."),
        ("Read /data/x/slide.zarr, then C:\\Users\\me\\b.h5ad.", "Read slide.zarr, then b.h5ad."),
        ("Nats/count and 10 / 3 and https://a.b/c/d stay.", "Nats/count and 10 / 3 and https://a.b/c/d stay."),
        ("Known: /a b/c d/e f.zarr here.", "Known: e f.zarr here."),
    ],
)
def test_paths_are_reduced_to_names(text: str, expected: str) -> None:
    assert without_paths(text, ["/a b/c d/e f.zarr"]) == expected
