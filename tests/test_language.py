"""Everything that a person reads is plain, modern English; docs/style.md explains the list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORDS = (
    r"mend(?:s|ed|ing)?|told|foretell\w*|foretold|whoever|beside|betray\w*|tells? of|of itself|at hand|aught|anew|"
    r"whence|wherein|thereof|forthwith|lies?|bears?|endures?|endured|befall\w*|hence|henceforth|thus|thereby|therein|"
    r"whereas|whereby|whilst|upon|lest|shall|ought|nought|albeit|hitherto|surest|owed|for want of|made-up|in a circle|"
    r"tells? (?:little|much|nothing)|(?:has|have|had) no place for"
)
BRITISH = (
    r"\w*neighbour\w*|\w*colour\w*|cent(?:re|res|red)|grey\w*|licen[c]e\w*|\w*metres?|favour\w*|behaviour\w*|"
    r"\w*labelled|"
    r"(?:normal|summar|optim|standard|factor|initial|minim|maxim|regular|visual|recogn|organ|util|parallel|penal|symmetr)"
    r"is(?:e|es|ed|er|ing|ation)|haematoxylin|tumour\w*|catalogue|analys(?:e|ed)"
)
FORBIDDEN = re.compile(rf"\b(?:{WORDS}|{BRITISH})\b", re.IGNORECASE)
ALLOWED = re.compile(
    r'"licence"|^licence = |`licence`|\\nlicence|"(?:micro|nano|milli|centi)metres?"'
    r"|\.cancelled\(|Cancelled|specialise",
    re.MULTILINE,
)
SKIPPED = {"docs/style.md", "tests/test_language.py"}


def readable_files() -> list[Path]:
    paths = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "bootstrap.py")]
    paths += [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.py")]
    paths += [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.yaml"), *(ROOT / "tests").rglob("*.py")]
    names = {path: path.relative_to(ROOT).as_posix() for path in paths}
    return sorted(path for path, name in names.items() if name not in SKIPPED and "_build" not in name)


@pytest.mark.parametrize("path", readable_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words_of_the_style_guide(path: Path) -> None:
    found = [
        f"{path.name}:{number}: {match.group()}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for match in FORBIDDEN.finditer(ALLOWED.sub("", line.replace("_", " ")))
    ]
    assert not found, f"see docs/style.md: {found}"


def test_word_list_finds_what_the_guide_names() -> None:
    for word in ("mended", "told", "beside", "neighbours", "normalised", "centre", "lies", "thus", "for want of"):
        assert FORBIDDEN.search(f"a {word} b"), word
    for word in ("besides", "neighbors", "relied", "center", "amendment", "precise", "exercise"):
        assert not FORBIDDEN.search(f"a {word} b"), word
