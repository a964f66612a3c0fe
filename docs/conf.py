"""Sphinx configuration; the command line's pages are made from its own --help texts."""

from __future__ import annotations

from pathlib import Path

import typer

import napari_srast
from napari_srast.cli import app

project = "napari-srast"
author = "The napari-srast developers"
release = version = napari_srast.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # docs/make_notebooks.py executes them
exclude_patterns = ["_build", "performance"]  # tables that a page includes
html_theme = "furo"
html_title = f"napari-srast {release}"

autodoc_typehints = "none"  # numpydoc sections name the types where they help
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False

HERE = Path(__file__).parent


def _write_help() -> None:
    folder = HERE / "_build" / "help"
    folder.mkdir(parents=True, exist_ok=True)
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        context = group.make_context("napari-srast", [name, "--help"], resilient_parsing=True)
        inner = command.context_class(command, info_name=name, parent=context, max_content_width=100)
        (folder / f"{name}.txt").write_text(command.get_help(inner) + "\n", encoding="utf-8")


_write_help()
