"""The cache of built-in slides."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_srast.datasets.cache import cached_folder


def test_folder_is_written_once_per_version_and_again_if_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_args, **_kwargs: tmp_path)
    written: list[Path] = []

    def write(folder: Path) -> None:
        written.append(folder)
        (folder / "slide").touch()

    def get(version: int) -> Path:
        return cached_folder("colon", version, write, lambda folder: (folder / "slide").exists())

    first = get(1)
    assert get(1) == first
    assert len(written) == 1
    (first / "slide").unlink()
    assert get(1) == first
    assert get(2) != first
    assert len(written) == 3
    assert {path.parent for path in written} == {tmp_path}
    assert not any(path.exists() for path in written)  # hidden siblings, which were renamed
