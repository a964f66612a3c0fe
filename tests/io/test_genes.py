from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from napari_srast.errors import InputError
from napari_srast.io.genes import read_genes
from napari_srast.io.slide_reader import read_slide

IDS = [f"ENSG0000000000{i}" for i in range(4)]


def frame(index, **columns):
    return pd.DataFrame(columns, index=index)


@pytest.mark.contract(
    section="Tables and counts",
    case="Ensembl ids as names, with symbols in a column",
    response="named by symbols; lists of genes may contain either",
)
@pytest.mark.parametrize("column", ["feature_name", "gene_symbols", "gene_name"])
def test_symbols_name_genes_and_ids_are_kept(column):
    genes = read_genes(frame(IDS, **{column: pd.Categorical(["TP53", "ERBB2", None, "TP53"])}), "table")
    assert list(genes.names) == ["TP53", "ERBB2", IDS[2], "TP53-1"]
    assert list(genes.ids) == IDS
    assert any("(TP53)" in notice for notice in genes.notices)
    assert any(f"var['{column}']" in notice for notice in genes.notices)


@pytest.mark.parametrize(
    "name", ["FBgn000000{}", "WBGene0000000{}", "AT1G0101{}", "MGI:9876{}", "ENSDARG0000000000{}", "71{}"]
)
def test_ids_of_other_databases_are_replaced_by_symbols(name):
    ids = [name.format(i) for i in range(3)]
    genes = read_genes(frame(ids, Symbol=["a", "b", "c"]), "table")
    assert (list(genes.names), list(genes.ids)) == (["a", "b", "c"], ids)


def test_ids_next_to_symbols_are_kept_silently():
    genes = read_genes(frame(["A", "B"], gene_ids=IDS[:2]), "table")
    assert (list(genes.names), list(genes.ids), genes.notices) == (["A", "B"], IDS[:2], ())
    assert read_genes(frame(["A", "B"]), "table").ids is None


@pytest.mark.contract(
    section="Tables and counts",
    case="antibodies among the genes",
    response="*notice:* how many features of which type were left out",
)
def test_antibodies_are_left_out():
    types = ["Gene Expression", "Antibody Capture", "Gene Expression", "Antibody Capture"]
    genes = read_genes(frame(list("abcd"), feature_types=types), "table")
    assert genes.columns.tolist() == [0, 2]
    assert genes.notices == ("2 features of table 'table' are not genes (2 of 'Antibody Capture') and were left out.",)
    assert read_genes(frame(list("ab"), feature_types=["GEX", "ADT"]), "table").columns.tolist() == [0]
    assert read_genes(frame(list("ab"), feature_types=["x", "y"]), "table").columns.tolist() == [0, 1]


def test_slide_accepts_symbols_and_ids(make_slide, make_store):
    made = make_slide(4, 4, n_genes=4)
    store = make_store(made, genes=IDS)
    store.tables["table"].var["feature_name"] = ["A", "B", "C", "D"]
    store.tables["table"].var["feature_types"] = ["Gene Expression", "Antibody Capture", *["Gene Expression"] * 2]
    slide = read_slide(store)
    assert list(slide.genes) == ["A", "C", "D"]
    assert slide.gene_indices(["D", IDS[2]]).tolist() == [2, 1]
    np.testing.assert_array_equal(slide.counts.toarray(), made.counts.toarray()[:, [0, 2, 3]])


@pytest.mark.contract(
    section="Spots and transformations",
    case="spots outside the tissue (in_tissue 0)",
    response="*notice:* how many were left out",
)
@pytest.mark.parametrize(
    "marks",
    [
        [0] * 3 + [1] * 13,
        [False] * 3 + [True] * 13,
        ["0"] * 3 + ["1"] * 13,
        ["FALSE"] * 3 + ["TRUE"] * 13,
        ["no"] * 3 + ["yes"] * 13,
    ],
)
def test_spots_outside_the_tissue_are_left_out(make_slide, make_store, marks):
    made = make_slide(4, 4)
    store = make_store(made)
    store.tables["table"].obs["in_tissue"] = marks
    slide = read_slide(store)
    np.testing.assert_array_equal(slide.centers, made.centers[3:])
    assert "3 spots of table 'table' are outside the tissue (in_tissue is 0) and were left out." in slide.notices
    store.tables["table"].obs["in_tissue"] = 0
    assert read_slide(store).n_spots == 16


def test_counts_of_raw_bring_their_genes(make_slide, make_store):
    made = make_slide(4, 4, n_genes=4)
    store = make_store(made)
    table = store.tables["table"]
    smaller = table[:, :2].copy()
    smaller.raw = anndata.AnnData(made.counts, obs=table.obs, var=table.var)
    smaller.X = smaller.X.log1p()
    del store.tables["table"]
    store.tables["table"] = smaller
    slide = read_slide(store)
    assert slide.n_genes == 4
    np.testing.assert_array_equal(slide.counts.toarray(), made.counts.toarray())


@pytest.mark.contract(
    section="Tables and counts",
    case="names with zero characters",
    response="*notice:* the characters were removed; repeated names get a number",
)
def test_zero_characters_are_removed_from_names(make_slide, make_store, tmp_path):
    store = make_store(make_slide(3, 3, n_genes=3))
    store.tables["table"].var_names = ["A", "A\0", "B\0C"]
    store.tables["table"].obs_names = [f"s{i}\0" for i in range(9)]
    slide = read_slide(store)
    assert list(slide.genes) == ["A", "A-1", "BC"]
    assert slide.spot_ids[0] == "s0"
    assert any("2 gene names had zero characters" in notice for notice in slide.notices)
    assert any("9 spot names had zero characters" in notice for notice in slide.notices)


def test_whole_numbers_with_rounding_errors_are_named_as_such(make_slide, make_store):
    store = make_store(make_slide(3, 3))
    store.tables["table"].X = np.expm1(np.log1p(store.tables["table"].X.toarray().astype(np.float32))) + 1e-6
    with pytest.raises(
        InputError, match=r"whole numbers only up to rounding errors \(such as \d+\.\d{4,}\); round them"
    ):
        read_slide(store)
