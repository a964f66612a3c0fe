"""Texts: numbers with nouns, messages of errors, and files that people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_srast._utils import text
from napari_srast._utils.text import count, first_line, read_text, reading_failure


def test_nouns_follow_their_number() -> None:
    assert [count(number, "spot") for number in (0, 1, 2500)] == ["0 spots", "1 spot", "2,500 spots"]


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("no header.\nmore"), "no header"), (KeyError(), "KeyError"), (OSError(""), "OSError")],
)
def test_first_line_of_an_error_is_never_empty(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "genes.txt"
    file.write_bytes("\ufeffERBB2\n".encode())
    assert read_text(file) == "ERBB2\n"


def test_unicode_text_of_spreadsheets_is_read(tmp_path: Path) -> None:
    file = tmp_path / "genes.txt"
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        mark = "" if encoding == "utf-16" else "\ufeff"
        file.write_bytes(f"{mark}ERBB2\nKRT19".encode(encoding))
        assert read_text(file) == "ERBB2\nKRT19"


def test_unreadable_files_are_explained_in_a_few_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_MAX_BYTES", 10)
    (tmp_path / "long").write_text("ERBB2,KRT19")
    (tmp_path / "latin").write_bytes(b"\xe9\xe8")
    (tmp_path / "binary").write_bytes(b"PK\0\0")
    reasons = []
    for name in ("long", "latin", "binary", "missing"):
        with pytest.raises((OSError, ValueError)) as caught:
            read_text(tmp_path / name)
        reasons.append(reading_failure(caught.value))
    assert reasons == ["too long, above 0 MB", "not UTF-8 text", "not a text file", "No such file or directory"]
