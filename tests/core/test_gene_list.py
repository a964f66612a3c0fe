"""Tests of lists of genes."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_srast.core.gene_list import GeneIndex, match_gene_list, parse_gene_names, read_gene_names
from napari_srast.errors import InputError, SettingsError

PANEL = ["ERBB2", "KRT19", "Krt8", "CD74"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ERBB2", ["ERBB2"]),
        ("ERBB2, KRT19", ["ERBB2", "KRT19"]),
        ("ERBB2 KRT19  CD74", ["ERBB2", "KRT19", "CD74"]),
        ('"CD3 e"', ["CD3 e"]),
        ("CD3 e, CD4", ["CD3 e", "CD4"]),
        ("ERBB2\nKRT19\n", ["ERBB2", "KRT19"]),
    ],
)
def test_names_are_parsed_from_text(text: str, names: list[str]) -> None:
    assert parse_gene_names(text) == names


@pytest.mark.parametrize("text", ["", " ", "A,,B", "A,"])
def test_empty_names_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="empty name"):
        parse_gene_names(text)


@pytest.mark.parametrize(
    "text",
    [
        "# mine\nERBB2\n\nKRT19\n",
        '\ufeffgene,score\n"ERBB2",0.5\nKRT19,0.1\n',
        "Gene_Symbol\tscore\nERBB2\t1,5\nKRT19\t2\n",
        "ERBB2,KRT19\n",
        "ERBB2 KRT19",
        '"ERBB2\nKRT19"\n',
        "symbol;score\nERBB2;1,5\nKRT19;2\n",
    ],
)
def test_names_are_read_from_the_first_column(tmp_path: Path, text: str) -> None:
    path = tmp_path / "genes.csv"
    path.write_text(text, encoding="utf-8")
    assert [name.strip('"') for name in read_gene_names(path)] == ["ERBB2", "KRT19"]


@pytest.mark.contract(
    section="Requests",
    case="list of genes: UTF-16 of a spreadsheet, markers of Seurat, sets of a .gmt file",
    response="the column under 'gene', or the genes of all sets, are read",
)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("genes.txt", "ERBB2\r\nKRT19\r\n".encode("utf-16")),
        ("markers.csv", b'"","p_val","gene"\n"1",0.1,"ERBB2"\n"2",0.2,"KRT19"\n'),
        ("sets.gmt", b"ONE\thttp://one\tERBB2\tKRT19\nTWO\tna\tKRT19\n"),
    ],
)
def test_lists_of_other_programs_are_read(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert read_gene_names(path) == ["ERBB2", "KRT19"]
    assert match_gene_list(path, [*PANEL, "TWO"])[0] == ["ERBB2", "KRT19"]


def test_spreadsheets_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "genes.xlsx"
    path.write_bytes(b"PK\x03\x04\x00\x00")
    with pytest.raises(InputError, match="not a text file"):
        read_gene_names(path)


def test_names_may_contain_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "genes.csv"
    path.write_text("gene,score\nHLA-A;HLA-B,1\nCD3 e,2\n", encoding="utf-8")
    assert read_gene_names(path) == ["HLA-A;HLA-B", "CD3 e"]


@pytest.mark.parametrize(
    ("text", "matched", "missing"),
    [
        ("KRT19\nCD74\n", ["KRT19", "CD74"], []),
        ("gene,score\nERBB2,3\nkrt8,2\nNOPE,1\n", ["ERBB2", "Krt8"], ["NOPE"]),
        ("score;gene\n3;ERBB2\n1;CD74\n", ["ERBB2", "CD74"], []),
        ("\ufeffERBB2, CD74, XX", ["ERBB2", "CD74"], ["XX"]),
        ("cell\tmarker\nT\tCD74\nB\tCD74\n", ["CD74"], []),
        ("gene,ERBB2", ["ERBB2"], []),
    ],
)
def test_column_with_most_genes_is_matched(tmp_path: Path, text: str, matched: list[str], missing: list[str]) -> None:
    path = tmp_path / "markers.csv"
    path.write_text(text, encoding="utf-8")
    assert match_gene_list(path, PANEL) == (matched, missing)


@pytest.mark.parametrize("content", [b"nothing, here", b"\xff\xfe\x00\xd8", b""])
def test_file_without_genes_of_the_panel_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "markers.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"markers\.csv"):
        match_gene_list(path, PANEL)


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "genes.csv"
    with pytest.raises(InputError, match=r"genes\.csv' cannot be read \(No such file"):
        read_gene_names(path)
    path.write_text("gene,score\n")
    with pytest.raises(InputError, match="names no gene"):
        read_gene_names(path)
    path.write_text("ERBB2\n" + "A" * 200_000 + "\n")
    with pytest.raises(InputError, match=r"line 2: field larger than field limit"):
        read_gene_names(path)


def test_ids_in_a_list_select_the_genes(tmp_path: Path) -> None:
    path = tmp_path / "genes.txt"
    path.write_text("ENSG02\nA\nensg03\nENSG99\n")
    assert match_gene_list(path, ["A", "B", "C"], ["ENSG01", "ENSG02", "ENSG03"]) == (["B", "A", "C"], ["ENSG99"])


def test_ids_are_found_with_any_version_if_this_is_clear(tmp_path: Path) -> None:
    ids = ["ENSG00000141736.14", "ENSG00000171345", "ENSG00000170421.2", "ENSG00000170421.9"]
    index = GeneIndex(PANEL, ids)
    assert [index.find(name) for name in ("ENSG00000141736", "ENSG00000141736.3", "ENSG00000171345.1")] == [0, 0, 1]
    assert index.find("ENSG00000170421.2") == 2
    assert index.find("ENSG00000170421") is None  # of two genes
    assert index.find("ENSG00000000001.1") is None
    path = tmp_path / "genes.txt"
    path.write_text("ensg00000141736.1\nENSG00000171345.8\nENSG00000170421\n", encoding="utf-8")
    assert match_gene_list(path, PANEL, ids) == (["ERBB2", "KRT19"], ["ENSG00000170421"])
