"""Opening what is no store yet: the window asks what it cannot know, converts, and shows the slide."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import pytest
from helpers.window import PATIENCE, click, drop, wait_ready
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_srast.gui.widget import SRastWidget
from napari_srast.gui.widgets.import_dialog import ImportDialog

pytestmark = pytest.mark.gui


@pytest.fixture
def table(store: Path) -> Path:
    """A table that states where its image is, next to the image; the store of the same name exists."""
    return store.with_suffix(".h5ad")


def _dialog(qtbot: Any) -> ImportDialog:
    qtbot.waitUntil(lambda: isinstance(QApplication.activeModalWidget(), ImportDialog), timeout=PATIENCE)
    dialog = QApplication.activeModalWidget()
    assert isinstance(dialog, ImportDialog)
    return dialog


def _answering(qtbot: Any, answer: Callable[[ImportDialog], None]) -> Callable[[], None]:
    """Return a function that answers the dialog once it is open."""
    from qtpy.QtCore import QTimer

    return lambda: QTimer.singleShot(300, lambda: answer(_dialog(qtbot)))


def test_dropped_table_is_converted_with_its_image(widget: SRastWidget, qtbot: Any, table: Path) -> None:
    seen: list[ImportDialog] = []

    def answer(dialog: ImportDialog) -> None:
        seen.append(dialog)
        assert not dialog.pixel_size.isVisible()
        click(qtbot, dialog.accept_button)

    _answering(qtbot, answer)()
    drop(widget, table)
    qtbot.waitUntil(lambda: bool(seen), timeout=PATIENCE)
    wait_ready(qtbot, widget)
    slide = widget.controller.slides.slide
    assert slide is not None, widget.run_bar.status.text()
    assert slide.image is not None
    assert slide.source.path == str(table.with_name("breast_2.zarr"))  # the store that exists is not touched
    assert str(table.with_name("breast_2.zarr")) in widget.controller.preferences.slides


def test_store_of_an_earlier_import_is_offered_while_the_table_has_not_changed(
    widget: SRastWidget, qtbot: Any, table: Path, store: Path
) -> None:
    offered: list[bool] = []

    def answer(dialog: ImportDialog) -> None:
        offered.append(dialog.open_button.isVisible())
        if offered == [True]:
            assert "'breast.zarr'" in dialog.text.text()
            qtbot.keyClick(dialog, Qt.Key.Key_Return)  # the default
        else:
            dialog.reject()

    _answering(qtbot, answer)()
    drop(widget, table)
    qtbot.waitUntil(lambda: len(offered) == 1, timeout=PATIENCE)
    wait_ready(qtbot, widget, timeout=60_000)
    assert widget.controller.slides.slide is not None, widget.run_bar.status.text()
    assert widget.controller.slides.slide.source.path == str(store)
    assert not table.with_name("breast_2.zarr").exists()
    os.utime(table, (time.time() + 60, time.time() + 60))
    _answering(qtbot, answer)()
    drop(widget, table)
    qtbot.waitUntil(lambda: offered == [True, False], timeout=PATIENCE)


def test_pixel_size_is_asked_if_the_table_does_not_align_the_image(
    widget: SRastWidget, qtbot: Any, table: Path
) -> None:
    content = anndata.read_h5ad(table)
    del content.obsm["spatial_px"]
    other = table.with_name("plain.h5ad")
    content.write_h5ad(other)
    sizes: list[float] = []

    def answer(dialog: ImportDialog) -> None:
        assert dialog.image.text() == ""
        dialog.image.setText(str(table.with_suffix(".png")))
        assert dialog.pixel_size.isVisible()
        assert not dialog.accept_button.isEnabled()
        dialog.pixel_size.setValue(5.0)
        sizes.append(dialog.pixel_size.value())
        click(qtbot, dialog.accept_button)

    _answering(qtbot, answer)()
    widget.slide_panel.path.setText(str(other))
    qtbot.keyClick(widget.slide_panel.path, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: bool(sizes), timeout=PATIENCE)
    wait_ready(qtbot, widget)
    assert widget.controller.slides.slide is not None, widget.run_bar.status.text()
    assert widget.controller.slides.slide.image is not None


def test_import_shows_its_progress_and_can_be_canceled(
    widget: SRastWidget, qtbot: Any, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_srast.io.convert import importer

    before, tasks, stages, ended = sorted(table.parent.iterdir()), widget.controller.tasks, [], []
    write = importer.write_store

    def wait_and_write(*args: Any, monitor: Any, **kwargs: Any) -> None:
        while not monitor.is_canceled():
            time.sleep(0.01)
        try:
            write(*args, monitor=monitor, **kwargs)
        finally:
            ended.append(True)

    monkeypatch.setattr(importer, "write_store", wait_and_write)
    tasks.progress_changed.connect(lambda step: stages.append(step.stage))
    _answering(qtbot, lambda dialog: click(qtbot, dialog.accept_button))()
    drop(widget, table)
    qtbot.waitUntil(lambda: "writing" in stages, timeout=PATIENCE)
    assert "writing" in widget.run_bar.progress.format()
    click(qtbot, widget.run_bar.cancel)
    qtbot.waitUntil(lambda: bool(ended) and sorted(table.parent.iterdir()) == before, timeout=PATIENCE)
    assert stages[0] == "reading"
    assert widget.controller.slides.slide is None
    assert tasks.busy_reason() is None


def test_canceled_import_leaves_nothing(widget: SRastWidget, qtbot: Any, table: Path) -> None:
    before = sorted(table.parent.iterdir())
    done: list[int] = []

    def answer(dialog: ImportDialog) -> None:
        dialog.reject()
        done.append(1)

    _answering(qtbot, answer)()
    drop(widget, table)
    qtbot.waitUntil(lambda: bool(done), timeout=PATIENCE)
    assert widget.controller.slides.slide is None
    assert sorted(table.parent.iterdir()) == before


def test_paths_below_the_home_of_an_unknown_user_are_reported(widget: SRastWidget, qtbot: Any) -> None:
    widget.open_path("~nobody-of-this-name/slide.zarr")
    qtbot.waitUntil(lambda: "~nobody" in widget.run_bar.status.text(), timeout=PATIENCE)
