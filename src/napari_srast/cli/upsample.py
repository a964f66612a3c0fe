"""``napari-srast upsample``: read, check everything that can be checked, compute, write, sum up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_srast.cli.console import note, print_figures, print_json, progress_bar
from napari_srast.cli.inputs import RESULT_SUFFIXES, check_exists, check_output, parse_genes, parse_region

_SHOWN_GENES = 10


def run(
    slide_path: Path,
    output: Path,
    options: Mapping[str, Any],
    *,
    elements: Mapping[str, str | None],
    region: str | None,
    genes: str,
    as_json: bool,
) -> None:
    """Upsample a slide into a file; nothing is computed unless it can be written."""
    check_exists(slide_path, "slide")
    check_output(output, RESULT_SUFFIXES, inputs=(slide_path,))
    names = parse_genes(genes)

    from napari_srast import pipeline
    from napari_srast.io.results import write_result
    from napari_srast.io.slides import read_slide
    from napari_srast.slide import UpsampleSettings
    from napari_srast.summary import summarise

    settings = UpsampleSettings(**options)
    slide = read_slide(slide_path, **elements)
    for notice in slide.notices:
        note(f"Note: {notice}")
    if settings.method != "srast" and settings.device not in ("auto", "cpu"):
        note(f"Note: method '{settings.method}' runs on the CPU; device '{settings.device}' is not used.")
    area = None if region is None else parse_region(region, slide.coordinate_system)
    expected = pipeline.estimate(slide, area, names, settings)
    note(
        f"{expected.n_spots} spots, {expected.n_pixels} pixels, {expected.n_genes} genes: "
        f"about {expected.seconds:.0f} s and {expected.memory_bytes / 1e9:.1f} GB."
    )
    with progress_bar() as report:
        result = pipeline.upsample(slide, area, names, settings=settings, progress=report)
    written = write_result(result, output)
    figures = {**summarise(result), "output": str(written)}
    if as_json:
        print_json(figures)
        return
    skill = figures.pop("skill")
    shown = dict(list(skill.items())[:_SHOWN_GENES])
    if len(skill) > _SHOWN_GENES:
        shown["..."] = f"{len(skill) - _SHOWN_GENES} more, see --json"
    figures["skill, nats per count over an even split"] = shown
    print_figures(figures)
