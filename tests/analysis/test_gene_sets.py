from __future__ import annotations

import pytest

from napari_srast.analysis.gene_sets import check_gene_sets, parse_gene_sets, read_gene_sets
from napari_srast.errors import InputError, SettingsError

EXPECTED = {"Podocyte": ("NPHS2", "PODXL"), "Loop": ("UMOD",)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.gmt", "Podocyte\thttp://x\tNPHS2\tPODXL\t\nLoop\t\tUMOD\n"),
        ("a.GMT", "# comment\nPodocyte\tnone\tNPHS2\tPODXL\tNPHS2\n\nLoop\tnone\tUMOD"),
        ("long.csv", "Set,Gene\nPodocyte,NPHS2\nLoop,UMOD\nPodocyte,PODXL\n"),
        ("long.tsv", "gene\tcell type\nNPHS2\tPodocyte\nPODXL\tPodocyte\nUMOD\tLoop\n"),
        ("wide.csv", "Podocyte,Loop\nNPHS2,UMOD\nPODXL,\n"),
        ("quote.csv", 'Set,Gene\nPodocyte,"NPHS2\nLoop,UMOD\nPodocyte,PODXL\n'),
        ("semicolons.csv", '"Podocyte";"Loop"\n"NPHS2";"UMOD"\n"PODXL"\n'),
        ("a.txt", "Podocyte: NPHS2, PODXL\nLoop: UMOD\n"),
    ],
)
def test_files_give_the_same_sets(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_gene_sets(tmp_path / name) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.gmt", "Podocyte\tNPHS2\n", "Line 1 .* has 2 fields"),
        ("a.gmt", "\tx\tNPHS2\n", "has no name"),
        ("a.gmt", "", "no gene set in"),
        ("a.gmt", "A\tx\tB\nA\tx\tC\n", "have the name 'A'"),
        ("a.gmt", "A\tx\t\n", "'A' of .* has no gene"),
        ("a.csv", "Podocyte\n", "no row below its header"),
        ("a.csv", "A,B\n1,2,3\n", "more fields than its header"),
        ("a.csv", "set,gene\nA\n", "without a set or a gene"),
        ("a.csv", f"A,B\nx,{'y' * 200_000}\n", "cannot be read as a table"),
        ("a.csv", "A,B\nx,\n", "'B' of .* has no gene"),
        ("a.txt", "NPHS2\n", "has no name or no gene"),
        ("a.xlsx", "", "no known ending"),
        ("missing.gmt", None, "cannot be read"),
    ],
)
def test_faulty_files_are_refused_in_one_sentence(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_gene_sets(tmp_path / name)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_typed_sets_are_parsed():
    assert parse_gene_sets("Podocyte: NPHS2, PODXL; Loop: UMOD") == EXPECTED


@pytest.mark.parametrize("text", ["", "NPHS2, PODXL", "Podocyte:", ": NPHS2", "A: X; A: Y", "A: X,,Y"])
def test_faulty_typed_sets_are_refused(text):
    with pytest.raises(SettingsError):
        parse_gene_sets(text)


@pytest.mark.parametrize("sets", [{}, {"A": []}, {"A": "NPHS2"}, {"": ["NPHS2"]}])
def test_faulty_sets_of_the_caller_are_refused(sets):
    with pytest.raises(SettingsError):
        check_gene_sets(sets)
