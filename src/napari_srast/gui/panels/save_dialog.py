"""Ask where a file is saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.export.save_paths import complete_suffix, suggested_path

__all__ = ["ask_save_path"]


def ask_save_path(
    parent: QWidget, controller: Controller, title: str, suffixes: Sequence[str], *words: str
) -> Path | None:
    """Ask for the path of a file about the current slide; None if the user cancels.

    Parameters
    ----------
    parent
        Widget in front of which the dialog opens.
    controller
        Controller of the window.
    title
        Title of the dialog.
    suffixes
        Endings of the formats with their dots; the first one is suggested.
    *words
        What the file has, for the suggested name.
    """
    session = controller.slides.current
    if session is None:
        return None
    chosen, kind = QFileDialog.getSaveFileName(
        parent,
        title,
        suggested_path(session.slide, session.title, *words, suffix=suffixes[0]),
        ";;".join(f"{suffix[1:].upper()} (*{suffix})" for suffix in suffixes),
    )
    if not chosen:
        return None
    path = complete_suffix(chosen, kind, suffixes)
    if path != Path(chosen) and path.exists():  # the dialog has not asked about this name
        controller.messages.error_message.emit(f"'{path}' exists already; choose another name or remove it first.")
        return None
    return path
