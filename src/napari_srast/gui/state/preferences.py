"""Recent slides and favorite genes of the user, stored between sessions."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from psygnal import Signal

__all__ = ["UserPreferences"]

_MAX_SLIDES = 10


@dataclass
class UserPreferences:
    """Recent slides and favorite genes, stored in a small JSON file.

    Parameters
    ----------
    file
        The file; None stores nothing on the disk.
    slides
        Paths of recent slides, newest first.
    genes
        Names of favorite genes.
    has_toured
        Whether the user has seen or skipped the tour of the panel.
    prepares_slides
        Whether slides are prepared in the background.
    """

    favorites_changed = Signal()

    file: Path | None = None
    slides: list[str] = field(default_factory=list)
    genes: list[str] = field(default_factory=list)
    has_toured: bool = False
    prepares_slides: bool = True

    @classmethod
    def load(cls, file: Path | None = None) -> UserPreferences:
        """Read the user's file, or another one; a missing or damaged file gives empty preferences."""
        if file is None:
            import platformdirs

            file = platformdirs.user_state_path("napari-srast") / "window.json"
        preferences = cls(file=file)
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            stored = json.loads(file.read_text(encoding="utf-8"))
            preferences.slides = [str(s) for s in stored.get("slides", [])][:_MAX_SLIDES]
            preferences.genes = [str(g) for g in stored.get("genes", [])]
            preferences.has_toured = bool(stored.get("has_toured", False))
            preferences.prepares_slides = bool(stored.get("prepares_slides", True))
        return preferences

    def add_slide(self, path: str) -> None:
        """Move a slide to the top of the recent slides."""
        self.slides = [path, *(s for s in self.slides if s != path)][:_MAX_SLIDES]
        self._save()

    def forget_slides(self) -> None:
        """Clear the list of recent slides."""
        self.slides = []
        self._save()

    def toggle_favorite(self, gene: str) -> None:
        """Add a gene to the favorites, or remove it."""
        is_favorite = gene in self.genes
        self.genes = [g for g in self.genes if g != gene] + ([] if is_favorite else [gene])
        self._save()
        self.favorites_changed.emit()

    def end_tour(self) -> None:
        """Record that the user has seen or skipped the tour."""
        self.has_toured = True
        self._save()

    def set_prepares_slides(self, prepares_slides: bool) -> None:
        """Record whether slides are prepared in the background."""
        self.prepares_slides = prepares_slides
        self._save()

    def _save(self) -> None:
        if self.file is None:
            return
        with contextlib.suppress(OSError):  # a full or read-only disk must not interrupt the user
            self.file.parent.mkdir(parents=True, exist_ok=True)
            content = {
                "slides": self.slides,
                "genes": self.genes,
                "has_toured": self.has_toured,
                "prepares_slides": self.prepares_slides,
            }
            text = json.dumps(content, indent=1)
            unfinished = self.file.with_suffix(".part")
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(self.file)
