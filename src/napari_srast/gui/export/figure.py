"""Save a figure of the canvas with a scale bar and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QImage, QLinearGradient, QPainter

from napari_srast.analysis.drawing import length_text, round_length
from napari_srast.errors import OutputError
from napari_srast.gui.layers.gene_colors import GeneStyle

__all__ = ["Caption", "save_figure"]

_MARGIN = 0.02  # in widths of the figure
_MAX_BAR = 0.25  # length of the scale bar, in widths of the figure


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Text and scale of a figure.

    Parameters
    ----------
    pixel_length
        Length of one pixel of the figure, in ``unit``.
    unit
        Unit of length; "unknown" if the slide has none.
    genes
        Styles of the shown genes.
    meaning
        Description of the displayed numbers.
    note
        Note at the top, such as "Synthetic slide"; empty for none.
    """

    pixel_length: float
    unit: str
    genes: Sequence[GeneStyle]
    meaning: str
    note: str = ""


def save_figure(picture: np.ndarray, caption: Caption, path: Path) -> None:
    """Write a screenshot with its caption as PNG.

    Parameters
    ----------
    picture
        RGBA image, uint8, shape (rows, columns, 4).
    caption
        Text and scale.
    path
        The file to write.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    rows, cols = picture.shape[:2]
    pixels = np.ascontiguousarray(picture[..., :4])
    image = QImage(pixels.tobytes(), cols, rows, 4 * cols, QImage.Format.Format_RGBA8888).copy()
    painter = QPainter(image)
    try:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = QFont("sans-serif")
        font.setPixelSize(max(11, round(cols / 60)))
        painter.setFont(font)
        if caption.unit == "um":
            _draw_scale_bar(painter, caption, cols, rows)
        _draw_legend(painter, caption, cols, rows)
        if caption.note:
            margin = _MARGIN * cols
            line = QFontMetricsF(font).height()
            _backdrop(painter, margin, margin, QFontMetricsF(font).horizontalAdvance(caption.note), line)
            painter.drawText(QRectF(margin, margin, cols, line), Qt.AlignmentFlag.AlignLeft, caption.note)
    finally:
        painter.end()
    if not image.save(str(path), "PNG"):
        raise OutputError(f"The figure cannot be written to '{path}'; choose another folder.")


def _backdrop(painter: QPainter, x: float, y: float, width: float, height: float) -> None:
    """Darken the background of a text and set the pen to white."""
    pad = height / 3 if height < 60 else 12
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(0, 0, 0, 165))
    painter.drawRoundedRect(QRectF(x - pad, y - pad, width + 2 * pad, height + 2 * pad), pad, pad)
    painter.setPen(QColor("white"))


def _draw_scale_bar(painter: QPainter, caption: Caption, cols: int, rows: int) -> None:
    length = round_length(_MAX_BAR * cols * caption.pixel_length)
    width = length / caption.pixel_length
    line = QFontMetricsF(painter.font()).height()
    margin = _MARGIN * cols
    text = length_text(length)
    text_width = max(width, QFontMetricsF(painter.font()).horizontalAdvance(text))
    top = rows - margin - 1.4 * line
    _backdrop(painter, cols - margin - text_width, top, text_width, 1.4 * line)
    painter.fillRect(QRectF(cols - margin - (text_width + width) / 2, top, width, 0.25 * line), QColor("white"))
    painter.drawText(
        QRectF(cols - margin - text_width, top + 0.3 * line, text_width, line), Qt.AlignmentFlag.AlignHCenter, text
    )


def _draw_legend(painter: QPainter, caption: Caption, cols: int, rows: int) -> None:
    if not caption.genes:
        return
    metrics = QFontMetricsF(painter.font())
    line, margin = metrics.height() * 1.15, _MARGIN * cols
    names = [style.gene for style in caption.genes]
    scales = [style.scale for style in caption.genes]
    name_width = max(map(metrics.horizontalAdvance, names))
    bar_width = 4 * line
    width = max(
        name_width + bar_width + max(map(metrics.horizontalAdvance, scales)) + 1.2 * line,
        metrics.horizontalAdvance(caption.meaning),
    )
    height = (len(names) + 1) * line
    x, y = margin, rows - margin - height
    _backdrop(painter, x, y, width, height)
    for style, name, scale in zip(caption.genes, names, scales, strict=True):
        painter.drawText(QRectF(x, y, name_width, line), Qt.AlignmentFlag.AlignVCenter, name)
        left = x + name_width + 0.6 * line
        ramp = QLinearGradient(left, 0, left + bar_width, 0)
        stops = style.colormap_stops
        for index, stop in enumerate(stops):
            ramp.setColorAt(index / (len(stops) - 1), QColor(f"#{stop[7:]}{stop[1:7]}"))
        painter.fillRect(QRectF(left, y + 0.25 * line, bar_width, 0.5 * line), ramp)
        painter.drawText(QRectF(left + bar_width + 0.6 * line, y, width, line), Qt.AlignmentFlag.AlignVCenter, scale)
        y += line
    painter.drawText(QRectF(x, y, width, line), Qt.AlignmentFlag.AlignVCenter, caption.meaning)
