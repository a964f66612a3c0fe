"""Compare the drawn regions of the current slide on its measured spots.

Every method runs in the GUI thread; regions are compared in a background thread.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from psygnal import Signal

from napari_srast._utils.text import count
from napari_srast.analysis.comparison import REST, compare_regions
from napari_srast.analysis.volcano import plot_changes
from napari_srast.core.region import Region
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.region_files import is_same, transformed
from napari_srast.gui.controllers.task_runner import TaskRunner
from napari_srast.gui.layers.drawn_regions import DrawnRegion
from napari_srast.gui.runtime import background
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.gui.state.workspace import Workspace
from napari_srast.io.atomic import write_table

__all__ = ["Comparison", "RegionChoice", "RegionComparison"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionChoice:
    """A drawn region, or all regions of a class, that can be compared.

    Parameters
    ----------
    key
        What stays the same while the region changes.
    name
        Name in the table.
    title
        Name in the list of choices.
    region
        The polygons.
    """

    key: Hashable
    name: str
    title: str
    region: Region


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Regions that were compared.

    Parameters
    ----------
    table
        Table of :func:`napari_srast.compare_regions`.
    choices
        One or two regions, as they were.
    """

    table: pd.DataFrame
    choices: tuple[RegionChoice, ...]

    @property
    def names(self) -> tuple[str, str]:
        """The names of both groups of spots."""
        first, second = self.table.attrs["spots"]
        return str(first), str(second)

    @property
    def titles(self) -> tuple[str, str]:
        """The names of both groups of spots in a sentence."""
        first, second = self.names
        return first, "all other spots" if len(self.choices) == 1 and second == REST else second

    @property
    def summary(self) -> str:
        """The spots of both groups, and what the intervals mean, as a text."""
        attrs = self.table.attrs
        sizes = (
            f"{title}: {count(n_spots, 'spot')} in {count(attrs['blocks'][name], 'block')}"
            for title, (name, n_spots) in zip(self.titles, attrs["spots"].items(), strict=True)
        )
        return f"{'; '.join(sizes)}. {attrs['note']}"


class RegionComparison:
    """Compare regions of the current slide, and write the table and its plot.

    Parameters
    ----------
    workspace
        The open slides.
    tasks
        Compares in a background thread.
    messages
        Receives status and error messages.

    Attributes
    ----------
    changed
        Signal, emitted after regions were compared.
    drawn
        Signal, emitted with a comparison and its plot as PNG.
    """

    changed = Signal()
    drawn = Signal(Comparison, bytes)

    def __init__(self, workspace: Workspace, tasks: TaskRunner, messages: Messages) -> None:
        self._workspace = workspace
        self._tasks = tasks
        self._messages = messages
        self._compared: WeakKeyDictionary[SlideSession, Comparison] = WeakKeyDictionary()

    @property
    def current(self) -> Comparison | None:
        """The last comparison of the current slide."""
        session = self._workspace.current
        return None if session is None else self._compared.get(session)

    def choices(self) -> list[RegionChoice]:
        """Return the regions of the current slide that enclose an area, then their classes."""
        slide = self._workspace.slide
        if slide is None:
            return []
        found, classes = [], dict[str, list[DrawnRegion]]()
        for drawn in self._workspace.region_layer.regions(slide.coordinate_system):
            if drawn.region is None:
                continue
            name = drawn.name.strip() or f"Region {drawn.key}"
            found.append(RegionChoice(key=drawn.key, name=name, title=name, region=drawn.region))
            if drawn.classification:
                classes.setdefault(drawn.classification, []).append(drawn)
        for name, members in classes.items():
            region = Region.from_geometries(
                [one.region.geometry for one in members if one.region is not None], slide.coordinate_system
            )
            assert region is not None
            title = f"class {name} ({count(len(members), 'region')})"
            found.append(RegionChoice(key=("class", name), name=name, title=title, region=region))
        return found

    def is_outdated(self, choices: list[RegionChoice]) -> bool:
        """Return whether a region of the current comparison has another outline than among the choices, or is gone."""
        compared = self.current
        now = {choice.key: choice.region for choice in choices}
        return compared is not None and any(
            choice.key not in now or not self._is_same(choice.region, now[choice.key]) for choice in compared.choices
        )

    def _is_same(self, before: Region, now: Region) -> bool:
        slide = self._workspace.slide
        assert slide is not None
        to_now = slide.transforms[now.coordinate_system] @ np.linalg.inv(slide.transforms[before.coordinate_system])
        return is_same(transformed(before, to_now, slide).geometry, now.geometry)

    def compare(self, first: RegionChoice, second: RegionChoice | None, block: float) -> None:
        """Compare two regions, or (None) a region and all other spots, in the background.

        Parameters
        ----------
        first, second
            The regions; their names differ.
        block
            Side of the blocks of spots in pitches.
        """
        session = self._workspace.current
        if session is None or not self._tasks.is_idle():
            return
        slide, choices = session.slide, (first,) if second is None else (first, second)
        regions = {choice.name: choice.region for choice in choices}
        assert len(regions) == len(choices)

        def work(stop: Callable[[], bool]) -> Comparison:
            return Comparison(table=compare_regions(slide, regions, block=block, should_stop=stop), choices=choices)

        def on_result(compared: Comparison) -> None:
            self._compared[session] = compared  # forgotten with its slide, which may have been closed meanwhile
            clear = int(((compared.table["low"] > 0) | (compared.table["high"] < 0)).sum())
            self._messages.status_message.emit(
                f"Compared {' with '.join(compared.titles)}: {clear:,} of {count(len(compared.table), 'gene')} have an "
                "interval without 0."
            )
            self.changed.emit()

        self._tasks.compute(background.call(work), on_result, "comparing the regions")

    def draw(self) -> None:
        """Draw the plot of the current comparison in the background, and emit it."""
        compared = self.current
        if compared is None or not self._tasks.is_idle():
            return

        def draw() -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                return plot_changes(compared.table, Path(folder) / "changes.png").read_bytes()

        def on_drawn(picture: bytes) -> str:
            self.drawn.emit(compared, picture)
            return "Drew the plot."

        self._tasks.write(draw, on_drawn, "drawing the plot")

    def plot(self, path: Path, compared: Comparison) -> None:
        """Write the plot of a comparison; see :func:`napari_srast.plot_changes`."""
        if self._tasks.is_idle():
            self._tasks.write(
                lambda: plot_changes(compared.table, path), lambda _: f"Saved to {path}", "writing the plot"
            )

    def save(self, path: Path) -> None:
        """Write the table of the current comparison as CSV."""
        compared = self.current
        if compared is not None and self._tasks.is_idle():
            self._tasks.write(
                lambda: write_table(compared.table, path),
                lambda _: f"Saved to {path}",
                "saving the table",
            )
