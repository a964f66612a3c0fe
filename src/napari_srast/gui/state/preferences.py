"""What the window remembers from one day to the next: recent slides and favorite genes."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["UserPreferences"]

_MOST_SLIDES = 10


@dataclass
class UserPreferences:
    """Recent slides, newest first, and favorite genes, in a small file.

    Parameters
    ----------
    file
        Where they are kept; None keeps them in memory only.
    slides
        Paths.
    genes
        Names.
    """

    file: Path | None = None
    slides: list[str] = field(default_factory=list)
    genes: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, file: Path | None = None) -> UserPreferences:
        """Read the user's file (or another one); one that is missing or damaged is as good as empty."""
        if file is None:
            import platformdirs

            file = platformdirs.user_state_path("napari-srast") / "window.json"
        remembered = cls(file=file)
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            stored = json.loads(file.read_text(encoding="utf-8"))
            remembered.slides = [str(s) for s in stored.get("slides", [])][:_MOST_SLIDES]
            remembered.genes = [str(g) for g in stored.get("genes", [])]
        return remembered

    def add_slide(self, path: str) -> None:
        """Put a slide at the top of the list."""
        self.slides = [path, *(s for s in self.slides if s != path)][:_MOST_SLIDES]
        self._save()

    def forget_slides(self) -> None:
        """Empty the list of recent slides."""
        self.slides = []
        self._save()

    def set_favorite(self, gene: str, on: bool) -> None:
        """Make a gene a favorite, or no longer."""
        self.genes = [g for g in self.genes if g != gene] + ([gene] if on else [])
        self._save()

    def _save(self) -> None:
        if self.file is None:
            return
        with contextlib.suppress(OSError):  # a full or read-only disk must not disturb the work
            self.file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"slides": self.slides, "genes": self.genes}, indent=1)
            unfinished = self.file.with_suffix(".part")
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(self.file)
