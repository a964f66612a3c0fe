"""The dock widget: lay out the panels and connect them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

from napari.components import LayerList, ViewerModel
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QResizeEvent, QShowEvent
from qtpy.QtWidgets import QMainWindow, QMessageBox, QTabWidget, QVBoxLayout, QWidget

from napari_srast.errors import SrastError
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.panels.genes import GenePanel
from napari_srast.gui.panels.region import RegionPanel
from napari_srast.gui.panels.result import ResultPanel
from napari_srast.gui.panels.run import RunBar
from napari_srast.gui.panels.run_estimate import RunEstimate, ask_about_long_run
from napari_srast.gui.panels.settings import SettingsPanel
from napari_srast.gui.panels.slide import SlidePanel
from napari_srast.gui.runtime.layer_batches import call_before_batch_end
from napari_srast.gui.runtime.layer_list_rows import LayerListRows
from napari_srast.gui.runtime.processes import start_process_pool
from napari_srast.gui.state.run_estimate import Alternative
from napari_srast.gui.state.run_request import RunInput
from napari_srast.gui.widgets.common import VerticalScrollArea
from napari_srast.gui.widgets.help_pages import page_links
from napari_srast.gui.widgets.option_names import name_controls
from napari_srast.gui.widgets.section import Section, fold_to_fit, give_room
from napari_srast.gui.widgets.shortcuts import bind_shortcuts, shortcut_table
from napari_srast.gui.widgets.tooltips import describe
from napari_srast.gui.widgets.tour import Tour, TourStep
from napari_srast.io.file_kinds import has_suffix

__all__ = ["SRastWidget"]

_MIN_WIDTH = 350  # with napari's layer list, it leaves half of a screen of 1280 pixels to the canvas
_FIRST_DRAW_MS = 500  # by then the canvas was drawn
_GAPS = 40  # pixels, between and around the sections of a page
_MORE_GENES = 100  # pixels: room for more rows of genes than the few that are needed


class SRastWidget(QWidget):
    """Dock widget to open slides, draw regions, upsample them, explore results and export them.

    Parameters
    ----------
    napari_viewer
        The viewer in which the widget is docked.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.controller = Controller(napari_viewer, schedule=_later_while_open(self))
        self.slide_panel = SlidePanel(self.controller)
        self.region_panel = RegionPanel(self.controller)
        self.gene_panel = GenePanel(self.controller)
        self.settings_panel = SettingsPanel(self.controller)
        self.result_panel = ResultPanel(self.controller)
        self.run_bar = RunBar(self.controller)
        self.run_estimate = RunEstimate(self.controller, self.run_bar, self._run_input)
        self._window: QWidget | None = None
        self._closing = False
        self._lay_out()
        self.tour = Tour(self, self._tour_steps(), self._end_tour)
        self._connect()
        self.setAcceptDrops(True)
        self.controller.slides.adopt_existing_layers()
        self.run_estimate.refresh()

    def _lay_out(self) -> None:
        prepare = QWidget()
        column = QVBoxLayout(prepare)
        column.setContentsMargins(6, 6, 6, 6)
        column.addWidget(self.slide_panel)
        column.addWidget(self.region_panel)
        column.addWidget(self.gene_panel)
        column.addWidget(self.settings_panel)
        give_room(column, self.gene_panel, self.gene_panel.section)
        self._prepare = VerticalScrollArea(prepare)
        self.tabs = QTabWidget()
        self.tabs.addTab(self._prepare, "Prepare")
        self.tabs.addTab(self.result_panel, "Explore")
        describe(self.tabs, "tabs")
        self.tabs.setCornerWidget(self.slide_panel.all_slides)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(6, 6, 6, 6)
        outer.addWidget(self.tabs, 1)
        outer.addWidget(self.run_bar)
        self.setMinimumWidth(_MIN_WIDTH)

    def _tour_steps(self) -> list[TourStep]:
        def prepare(section: Section) -> Callable[[], None]:
            def act() -> None:
                self.tabs.setCurrentWidget(self._prepare)
                self._prepare.ensureWidgetVisible(section.header)

            return act

        texts = {
            self.slide_panel.section: "Open a slide: drop it onto this panel, browse for it, or try the sample.",
            self.region_panel.section: "Draw one or several regions, and tick those that you want to upsample.",
            self.gene_panel.section: "Click a gene to see its measured counts. Tick the genes to upsample.",
        }
        return [
            *(TourStep(section, text, prepare(section)) for section, text in texts.items()),
            TourStep(self.run_bar, "The estimate says what a run takes. Run starts it; you can cancel it at any time."),
            TourStep(
                self.tabs.tabBar() or self.tabs,
                "Explore the result here: compare before and after, read how good each gene is, and export.",
                lambda: self.tabs.setCurrentWidget(self.result_panel),
            ),
        ]

    def _connect(self) -> None:
        self.run_estimate.changed.connect(self.settings_panel.show_resolution)
        for signal in (
            self.controller.slides.slide_changed,
            self.controller.results.result_changed,
            self.controller.regions.region_changed,
            self.controller.slides.coordinate_system_changed,
        ):
            signal.connect(self.run_estimate.refresh_later)
        self.gene_panel.model.checked_changed.connect(self.run_estimate.refresh_later)
        self.settings_panel.changed.connect(self.run_estimate.refresh_later)
        self.controller.tasks.state_changed.connect(self.run_estimate.refresh)
        for signal in (self.controller.slides.slide_changed, self.controller.regions.region_changed):
            signal.connect(self._fold_sections)
        self.run_bar.run.clicked.connect(self._run)
        self.run_bar.queue.clicked.connect(self._queue)
        self.run_bar.help.clicked.connect(self.show_help)
        bind_shortcuts(self, self._actions())
        self._rows = LayerListRows(self, self.controller.viewer, self.controller.slides.is_listed)
        for signal in (
            self.controller.slides.slide_changed,
            self.controller.results.display_changed,
            self.controller.all_slides.changed,
        ):
            signal.connect(self._rows.refresh_later)
        self.controller.messages.error_message.connect(lambda text: show_error(name_controls(text)))
        self.controller.results.result_changed.connect(self._on_result)
        self.controller.results.result_added.connect(self._explore)
        self.result_panel.brightness.valueChanged.connect(self.controller.all_slides.refresh_later)
        self.tabs.currentChanged.connect(lambda index: self.controller.preview.leave() if index == 1 else None)
        self.destroyed.connect(self.controller.shutdown)
        self.controller.viewer.layers.events.removing.connect(self._make_canvas_current)
        call_before_batch_end(self._on_batch_end)
        start_process_pool()

    def _end_tour(self) -> None:
        """Return to where a user begins; the last step of the tour has shown the page of results."""
        self.controller.preferences.end_tour()
        if self.controller.results.current is None:
            self.tabs.setCurrentIndex(0)

    def _explore(self) -> None:
        """Turn to the result, and the tour with it."""
        self.tabs.setCurrentWidget(self.result_panel)
        self.tour.show_last()

    def _on_batch_end(self, layers: LayerList) -> None:
        if layers == self.controller.viewer.layers:  # another window may be open
            self._make_canvas_current()

    def _make_canvas_current(self) -> None:
        """Make the OpenGL context of the canvas current before napari deletes objects of a removed layer.

        napari 0.9 deletes OpenGL objects immediately, in the current context. If that is the context of another canvas,
        it deletes objects of the same number there, and the process crashes at the next drawing.
        """
        if self.controller.tasks.is_shut_down:  # the panel may already be deleted
            return
        window = self.window()
        while window is not None and not isinstance(window, QMainWindow):  # the panel is undocked
            parent = window.parentWidget()
            window = None if parent is None else parent.window()
        center = window.centralWidget() if isinstance(window, QMainWindow) else None
        for canvas in center.findChildren(QWidget) if center is not None else ():
            if hasattr(canvas, "makeCurrent"):  # a QOpenGLWidget; its module depends on the Qt version
                canvas.makeCurrent()

    def open_path(self, path: str | Path) -> None:
        """Open a slide, as if the user had typed its path."""
        self.slide_panel.open_path(str(path))

    def open_unless_busy(self, path: str | Path) -> None:
        """Open a slide that was dropped; show why not during a run."""
        if self.controller.tasks.is_idle():
            self.open_path(path)

    def confirm_whole_slide(self, text: str) -> bool:
        """Ask the user whether to upsample the whole slide."""
        answer = QMessageBox.question(self, "Upsample the whole slide?", text)
        return answer == QMessageBox.StandardButton.Yes

    def show_help(self) -> None:
        """Show links to the documentation and the keyboard shortcuts."""
        QMessageBox.information(self, "SRast help", f"{page_links()}{shortcut_table()}")

    def _actions(self) -> dict[str, Callable[[], object]]:
        """Return the function of each shortcut; most click their button."""
        prepare, explore = self.tabs.widget(0), self.result_panel
        assert prepare is not None

        def go(page: QWidget, control: QWidget | None = None) -> Callable[[], None]:
            def act() -> None:
                self.tabs.setCurrentWidget(page)
                if control is not None:
                    control.setFocus(Qt.FocusReason.ShortcutFocusReason)

            return act

        def filter_genes() -> None:
            is_preparing = self.tabs.currentWidget() is prepare
            (self.gene_panel.filter if is_preparing else explore.filter).setFocus(Qt.FocusReason.ShortcutFocusReason)

        region, export_panel = self.region_panel, explore.export_panel
        buttons = (
            *region.tools,
            region.undo,
            region.redo,
            self.run_bar.run,
            self.run_bar.queue,
            self.run_bar.cancel,
            *explore.views.values(),
            export_panel.copy,
        )
        return {
            **{button.objectName(): button.click for button in buttons},
            "slide_path": go(prepare, self.slide_panel.path),
            "prepare": go(prepare),
            "explore": go(explore, explore.view),
            "filter_genes": filter_genes,
            "blink": explore.toggle_before_after,
            "export": lambda: export_panel.export.showMenu() if export_panel.export.isEnabled() else None,
        }

    def _queue(self) -> None:
        """Queue a run of the ticked regions, and untick them for the next one."""
        before = len(self.controller.runs.waiting)
        self._run()
        if len(self.controller.runs.waiting) > before:
            self.controller.regions.use(())

    def _run(self) -> None:
        try:
            given = self._run_input()
            region = self.controller.regions.region()
            long = self.run_estimate.long_run(given)
        except SrastError as error:
            self.controller.messages.error_message.emit(str(error))
            return
        if long is not None:
            answer = ask_about_long_run(self, *long, has_region=region is not None)
            if answer == "region":
                self.tabs.setCurrentIndex(0)
                self.region_panel.tools[0].click()
            if isinstance(answer, Alternative):
                given = RunInput(genes=answer.genes, settings=answer.settings)
                self.settings_panel.apply(answer.settings)
                self.gene_panel.model.check(answer.genes or [], only=True)
            elif answer != "run":
                return
        elif region is None and not self.confirm_whole_slide(
            f"No region is {'ticked' if self.controller.regions.all() else 'drawn'}. Upsample the whole slide?\n\n"
            f"{self.run_bar.estimate.text()}"
        ):
            return
        self.controller.runs.submit(given.genes, given.settings)

    def _run_input(self) -> RunInput:
        return RunInput(genes=self.gene_panel.genes, settings=self.settings_panel.settings())

    def _on_result(self) -> None:
        """Leave the Explore tab when there is no result."""
        if self.controller.results.current is None:
            self.tabs.setCurrentIndex(0)

    def _fold_sections(self) -> None:
        """Fold the sections of the slide and of the settings where the page is too short for all and some genes."""
        slide = self.slide_panel.section
        sections = (slide, self.region_panel.section, self.gene_panel.section, self.settings_panel.section)
        foldable = (slide, self.settings_panel.section) if self.controller.slides.slide is not None else ()
        fold_to_fit(sections, foldable, self._prepare.height() - _GAPS, spare=_MORE_GENES)

    # ------------------------------------------------------------ Qt events

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: D102
        super().resizeEvent(event)
        self._fold_sections()

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: D102
        if event is not None and _dropped_path(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: D102
        path = None if event is None else _dropped_path(event)
        if event is None or path is None:
            return
        event.acceptProposedAction()
        self.open_unless_busy(path)

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: D102
        super().showEvent(event)
        if not self.controller.preferences.has_toured:
            self.tour.offer()
        window = self.window()
        if window is not None and window is not self._window and window is not self:
            self._window = window
            window.installEventFilter(self)
            self.controller.slides.scale_bar.begin_drawing()
            QTimer.singleShot(_FIRST_DRAW_MS, self._end_first_drawing)

    def _end_first_drawing(self) -> None:
        if not self.controller.tasks.is_shut_down:
            self.controller.slides.scale_bar.end_drawing()
            self.controller.slides.view.fit_again()  # a slide that was open before the panel narrowed the canvas

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Cancel the run after the window has closed; no event is filtered out."""
        if event is not None and event.type() == QEvent.Type.Close:
            self._closing = True  # unless the user cancels the closing
        elif event is not None and event.type() == QEvent.Type.Hide and self._closing and not event.spontaneous():
            self.controller.runs.cancel()
        return False

    @property
    def is_closed(self) -> bool:
        """Whether the window has closed, so that no layer may be added."""
        if self.controller.tasks.is_shut_down:
            return True
        return self._closing and self._window is not None and not self._window.isVisible()


def _dropped_path(event: QDropEvent) -> Path | None:
    data = event.mimeData()
    if data is None or not data.hasUrls():
        return None
    paths = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
    return next((path for path in paths if path.is_dir() or has_suffix(path, ".h5ad", ".h5")), None)


def _later_while_open(widget: SRastWidget) -> Callable[[Callable[[], None]], None]:
    """Return a scheduler that runs a function after the window was drawn, unless the window closes before."""
    reference = weakref.ref(widget)

    def act(function: Callable[[], None]) -> None:
        widget = reference()
        if widget is not None and not widget.is_closed:
            function()

    return lambda function: QTimer.singleShot(10, partial(act, function))
