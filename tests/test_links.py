"""Every link of README and documentation has a target; nothing is downloaded."""

from __future__ import annotations

import itertools
import re
import tomllib
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / ".github").rglob("*.md"))
    if "_build" not in path.parts
)
ADDRESS = re.compile(r"https?://[\w.-]+\.[a-z]{2,}(:\d+)?(/[^\s<>]*)?|mailto:\S+@\S+")
FENCE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)
ROLE = re.compile(r"\{download\}`([^`<]+)`|^```\{include\} (\S+)", re.MULTILINE)


@cache
def tokens(path: Path) -> tuple[Token, ...]:
    """Return the tokens of a page, with those inside paragraphs."""
    found: list[Token] = []
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        found += [token, *(token.children or ())]
    return tuple(found)


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub and MyST name them."""
    found: list[str] = []
    listed = tokens(path)
    for opening, inline in itertools.pairwise(listed):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            same = sum(
                name == slug or (name.startswith(f"{slug}-") and name[len(slug) + 1 :].isdigit()) for name in found
            )
            found.append(f"{slug}-{same}" if same else slug)
    return frozenset(found)


def links(path: Path) -> list[str]:
    """Return the targets of a page's links and images."""
    targets = [token.attrGet("href") or token.attrGet("src") for token in tokens(path)]
    return [str(target) for target in targets if target]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_images_have_targets(path: Path) -> None:
    for target in links(path):
        if urlsplit(target).scheme:
            assert ADDRESS.fullmatch(target), f"{target} is no address"
            continue
        name, _, anchor = unquote(target).partition("#")
        page = path.parent / name if name else path
        assert page.exists(), f"{target} does not exist"
        assert ROOT in page.resolve().parents or page.resolve() == ROOT, f"{target} is outside of the repository"
        if anchor:
            assert anchor in anchors(page), f"{target}: the page has no such heading, but {sorted(anchors(page))}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_images_have_a_description(path: Path) -> None:
    for token in tokens(path):
        if token.type == "image":
            assert len(token.content) > 10, f"{token.attrGet('src')}: say what the picture shows"


def test_every_page_is_in_one_table_of_contents() -> None:
    listed: list[Path] = []
    for page in DOCS.rglob("*.md"):
        for block in FENCE.findall(page.read_text(encoding="utf-8")):
            for entry in (line.strip() for line in block.splitlines()):
                if entry and not entry.startswith(":"):
                    found = [path for ending in (".md", ".ipynb") for path in page.parent.glob(f"{entry}{ending}")]
                    assert len(found) == 1 or (found and "*" in entry), f"{page.name} lists {entry}"
                    listed += [path for path in found if path != page]
    assert len(listed) == len(set(listed))
    included = {DOCS / "performance" / "figures.md", DOCS / "index.md"}
    pages = {path for path in (*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")) if "_build" not in path.parts}
    assert pages - included == set(listed)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_downloads_and_included_pages_exist(path: Path) -> None:
    for names in ROLE.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / "".join(names)).is_file(), "".join(names)


def test_links_of_the_readme_are_those_of_the_repository_on_the_package_index() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    repository = project["project"]["urls"]["Repository"]
    files = f"{repository}/blob/main/", repository.replace("github.com", "raw.githubusercontent.com") + "/main/"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for change in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    published = [str(token.attrGet("href") or token.attrGet("src") or "") for token in _parse(text)]
    published = [target for target in published if target]
    assert len(published) >= len(links(ROOT / "README.md")) > 20
    for target in published:
        assert ADDRESS.fullmatch(target), target
        for start in files:
            if target.startswith(start):
                assert (ROOT / target.removeprefix(start).partition("#")[0]).exists(), target
        if target.endswith(".png"):
            assert target.startswith(files[1]), target


def _parse(text: str) -> list[Token]:
    return [child for token in MarkdownIt("commonmark").enable("table").parse(text) for child in token.children or ()]


def test_missing_anchor_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One heading\n\n# Two `code` words\n\n# One heading\n", encoding="utf-8")
    assert anchors(page) == {"one-heading", "two-code-words", "one-heading-1"}
