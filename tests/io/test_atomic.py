from __future__ import annotations

import os

import filelock
import pandas as pd
import pytest

from napari_srast.errors import OutputError
from napari_srast.io.atomic import WriteRefused, atomic_output, replace_file, write_lock, write_table


def test_output_appears_only_after_success(tmp_path):
    out = tmp_path / "out.txt"
    with atomic_output(out) as partial:
        partial.write_text("x")
        assert not out.exists()
        assert partial.name.startswith(".")
    assert out.read_text() == "x"
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_failed_write_leaves_nothing(tmp_path, error):
    expected = OutputError if isinstance(error, OSError) else type(error)

    def write():
        with atomic_output(tmp_path / "out.zarr") as partial:
            partial.mkdir()
            (partial / "a").write_text("x")
            raise error

    with pytest.raises(expected):
        write()
    assert os.listdir(tmp_path) == []


def test_errors_other_than_refused_writes_pass_unchanged(tmp_path):
    def write(error):
        with atomic_output(tmp_path / "out.zarr", refusal=WriteRefused) as partial:
            partial.mkdir()
            raise error

    with pytest.raises(ConnectionResetError):
        write(ConnectionResetError(104, "Connection reset by peer"))
    with pytest.raises(OutputError, match="No space left on device"):
        write(WriteRefused(28, "No space left on device"))
    assert os.listdir(tmp_path) == []


def test_output_created_in_the_meantime_is_kept(tmp_path):
    out = tmp_path / "out.txt"

    def write():
        with atomic_output(out) as partial:
            partial.write_text("ours")
            out.write_text("theirs")

    with pytest.raises(OutputError, match="in the meantime"):
        write()
    assert out.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_broken_link_counts_as_existing(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"), atomic_output(tmp_path / "out"):
        pass


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_read_only_folder_is_an_output_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"), atomic_output(tmp_path / "out.zarr") as partial:
        partial.mkdir()


def test_output_of_another_process_is_refused_and_kept(tmp_path):
    out = tmp_path / "out.zarr"
    theirs = tmp_path / ".out.zarr.00112233.partial.zarr"
    theirs.mkdir()
    with filelock.FileLock(tmp_path / ".out.zarr.lock"):
        with pytest.raises(OutputError, match="being written by another process"), atomic_output(out):
            pass
        with atomic_output(tmp_path / "other.txt") as partial:
            partial.write_text("x")
        assert theirs.is_dir()


def test_stale_partials_are_removed(tmp_path):
    (tmp_path / ".out.zarr.00112233.partial.zarr" / "deep").mkdir(parents=True)
    (tmp_path / ".old.csv.44556677.partial.csv").write_text("x")
    (tmp_path / ".old.csv.lock").write_text("")
    (tmp_path / ".mine.partial").write_text("x")  # not a name that this package creates
    with atomic_output(tmp_path / "out.zarr") as partial:
        partial.mkdir()
    assert sorted(os.listdir(tmp_path)) == [".mine.partial", "out.zarr"]


def test_lock_admits_one_writer_per_path(tmp_path):
    with write_lock(tmp_path / "a"):
        with pytest.raises(OutputError, match="another process"), write_lock(tmp_path / "a"):
            pass
        with write_lock(tmp_path / "b"):
            pass
    with write_lock(tmp_path / "a"):
        pass
    assert os.listdir(tmp_path) == []


def test_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "zarr.json"
    path.write_bytes(b"old")
    path.chmod(0o640)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["zarr.json"]


def test_table_is_written_once_and_without_its_index(tmp_path):
    table, path = pd.DataFrame({"gene": ["A", "B"], "p": [0.1, 0.2]}, index=[7, 9]), tmp_path / "genes.csv.gz"
    write_table(table, path)
    pd.testing.assert_frame_equal(pd.read_csv(path), table.reset_index(drop=True))
    with pytest.raises(OutputError, match="exists already"):
        write_table(table, path)
