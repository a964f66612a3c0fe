"""Connect the state of the window with the viewer; no widgets.

Every method runs in the GUI thread.
"""

from __future__ import annotations

from napari.components import ViewerModel

from napari_srast.gui.controllers.all_slides import AllSlides
from napari_srast.gui.controllers.cells import CellMaps
from napari_srast.gui.controllers.domains import DomainMaps
from napari_srast.gui.controllers.image_shift import ImageShift
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.preparation import Preparation
from napari_srast.gui.controllers.preview import Preview
from napari_srast.gui.controllers.region_comparison import RegionComparison
from napari_srast.gui.controllers.regions import Regions
from napari_srast.gui.controllers.reports import Reports
from napari_srast.gui.controllers.results import Results
from napari_srast.gui.controllers.runs import RunQueue
from napari_srast.gui.controllers.signatures import SignatureMaps
from napari_srast.gui.controllers.slides import SlideManager
from napari_srast.gui.controllers.structure import SpatialStructure
from napari_srast.gui.controllers.task_runner import TaskRunner
from napari_srast.gui.state.preferences import UserPreferences
from napari_srast.gui.state.slide_session import Schedule
from napari_srast.gui.state.workspace import Workspace

__all__ = ["Controller"]


class Controller:
    """Everything that the panels of one window call.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    schedule
        Runs a function after the window has been drawn; None runs it at once.

    Attributes
    ----------
    messages
        Status line, error messages and error report.
    preferences
        Recent slides and favorite genes of the user.
    tasks
        The background task and the state of the window.
    regions
        Drawing, saving and loading of regions.
    results
        Display, comparison and export of results.
    domains
        Domains of the displayed result.
    cells
        Counts of segmented cells of the displayed result.
    signatures
        Scores of gene sets in the displayed result.
    structure
        Spatial structure of genes of the current slide.
    region_comparison
        Comparison of drawn regions on the measured spots.
    reports
        Writing of reports.
    image_shift
        Moving the histology to where it fits better.
    slides
        Opening, switching and closing of slides.
    preview
        Measured counts on the spots.
    all_slides
        The other open slides next to the current one.
    preparation
        Preparation of the current slide in the background, and its disk cache.
    runs
        The queue of runs.
    """

    def __init__(self, viewer: ViewerModel, *, schedule: Schedule | None = None) -> None:
        self.viewer = viewer
        self.messages = Messages()
        self.preferences = UserPreferences.load()
        self._workspace = workspace = Workspace(viewer, schedule)
        self.tasks = TaskRunner(self.messages, has_slide=lambda: workspace.current is not None)
        self.regions = Regions(workspace, self.messages)
        self.results = Results(workspace, self.tasks, self.regions, self.messages)
        self.domains = DomainMaps(workspace, self.tasks, self.messages)
        self.cells = CellMaps(workspace, self.tasks, self.messages)
        self.signatures = SignatureMaps(workspace, self.tasks, self.cells, self.messages)
        self.structure = SpatialStructure(workspace, self.tasks, self.messages)
        self.region_comparison = RegionComparison(workspace, self.tasks, self.messages)
        self.reports = Reports(workspace, self.tasks, self.domains, self.messages)
        self.slides = SlideManager(workspace, self.tasks, self.results, self.messages, self.preferences)
        self.image_shift = ImageShift(workspace, self.messages)
        self.preview = Preview(workspace)
        self.all_slides = AllSlides(workspace, self.preview, self.messages)
        self.preparation = Preparation(workspace, self.tasks, self.preferences)
        self.runs = RunQueue(workspace, self.tasks, self.regions, self.results, self.messages, self.preparation.cache)
        self.preparation.running = lambda: self.runs.running

    def shutdown(self) -> None:
        """Stop the running task and disconnect from the viewer because the window or the dock widget closes."""
        self.runs.clear()
        self.preparation.stop()
        self.preview.stop()
        self.all_slides.disconnect()
        self.results.disconnect()
        self.domains.disconnect()
        self.cells.disconnect()
        self.signatures.disconnect()
        self.regions.disconnect()
        self.tasks.shutdown()
        self.slides.disconnect()
        self._workspace.disconnect()
