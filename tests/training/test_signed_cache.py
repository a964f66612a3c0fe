"""Signed cache: items are created once, and files of other users are never unpickled."""

from __future__ import annotations

import pickle
import stat
from pathlib import Path
from typing import Any

import pytest

from napari_srast.training.signed_cache import load_or_create


class Bomb:
    """Create a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "settings"
    folder.mkdir()
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_args, **_kwargs: folder)
    return folder


def test_items_are_created_once(tmp_path: Path, settings: Path) -> None:
    assert load_or_create(tmp_path / "a", lambda: [1, {"x": (2.0,)}]) == [1, {"x": (2.0,)}]
    assert load_or_create(tmp_path / "a", lambda: pytest.fail("created again")) == [1, {"x": (2.0,)}]
    assert stat.S_IMODE((settings / "kept.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("begin", [b"", b"\0" * 32])
def test_unsigned_file_is_never_unpickled(begin: bytes, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "a").write_bytes(begin + pickle.dumps([Bomb(mark)]))
    assert load_or_create(tmp_path / "a", lambda: [3]) == [3]
    assert not mark.exists()
    assert load_or_create(tmp_path / "a", lambda: pytest.fail("created again")) == [3]


def test_damaged_or_foreign_file_is_replaced(tmp_path: Path, settings: Path) -> None:
    load_or_create(tmp_path / "a", lambda: [1])
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert load_or_create(tmp_path / "a", lambda: [2]) == [2]
    (settings / "kept.key").unlink()
    assert load_or_create(tmp_path / "a", lambda: [4]) == [4]
