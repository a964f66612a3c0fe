"""Select the genes of a table among its features, and read their names and ids."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from napari_srast.io.counts import unique_names

__all__ = ["Genes", "read_genes"]

_SYMBOLS = ("feature_name", "gene_symbols", "gene_symbol", "gene_name", "gene_names", "symbol", "symbols", "name")
_IDS = ("gene_ids", "gene_id", "ensembl_id", "ensembl_ids", "ensembl", "feature_id", "id")
_TYPES = ("feature_types", "feature_type")
_GENES = ("gene expression", "gene", "genes", "gex", "rna", "mrna")  # types that mean genes
_ID = re.compile(  # Ensembl, FlyBase, WormBase, Arabidopsis, Mouse Genome Informatics, Entrez
    r"ENS[A-Z]{0,6}G\d{5,}(\.\d+)?|FBgn\d{5,}|WBGene\d{5,}|AT[\dCM]G\d{5}|MGI:\d+|\d+"
)
_N_NAMES = 200  # names that are looked at
_MIN_IDS = 0.8  # of these


@dataclass(frozen=True, kw_only=True, eq=False)
class Genes:
    """Genes of a table.

    Parameters
    ----------
    columns
        Column of each gene in the table, shape (G,).
    names
        Unique names: symbols if the table has them, shape (G,).
    ids
        Second name of each gene, such as its Ensembl id, shape (G,); None if the table has none.
    notices
        What was left out or renamed, one sentence each.
    """

    columns: np.ndarray
    names: np.ndarray
    ids: np.ndarray | None
    notices: tuple[str, ...]


def read_genes(var: pd.DataFrame, table: str) -> Genes:
    """Read the genes of a table.

    Features that are not genes, such as antibodies, are left out. If the table names its genes by ids, such as those of
    Ensembl, and has their symbols in a column, genes are named by their symbols.

    Parameters
    ----------
    var
        Columns of the features, indexed by their names.
    table
        Name of the table, for messages.

    Raises
    ------
    InputError
        Several names are empty.
    """
    columns, notices = _genes_only(var, table)
    kept = var.iloc[columns]
    names, ids = kept.index.astype(str).to_numpy(dtype=object), None
    by_folded = {str(column).casefold(): column for column in kept.columns}
    if _are_ids(names):
        symbol = next((by_folded[name] for name in _SYMBOLS if name in by_folded), None)
        if symbol is not None:
            ids, names = names, _text(kept[symbol], names)
            notices.append(f"Genes are named by var['{symbol}']; lists of genes may contain their ids, too.")
    else:
        column = next((by_folded[name] for name in _IDS if name in by_folded), None)
        if column is not None:
            ids = _text(kept[column], names)
            ids = None if np.array_equal(ids, names) else ids
    names, repeated = unique_names(names, "gene names")
    return Genes(columns=columns, names=names, ids=ids, notices=(*notices, *repeated))


def _genes_only(var: pd.DataFrame, table: str) -> tuple[np.ndarray, list[str]]:
    """Return the columns of features that are genes; all if the table does not say so."""
    everything = np.arange(len(var))
    by_folded = {str(column).casefold(): column for column in var.columns}
    column = next((by_folded[name] for name in _TYPES if name in by_folded), None)
    if column is None:
        return everything, []
    types = var[column].astype(str)
    is_gene = types.str.strip().str.casefold().isin(_GENES).to_numpy()
    if is_gene.all() or not is_gene.any():
        return everything, []
    others = types[~is_gene].value_counts()
    listed = ", ".join(f"{number} of '{kind}'" for kind, number in others.items())
    return everything[is_gene], [
        f"{(~is_gene).sum()} features of table '{table}' are not genes ({listed}) and were left out."
    ]


def _are_ids(names: np.ndarray) -> bool:
    sample = names[:: max(1, len(names) // _N_NAMES)]
    return bool(np.mean([_ID.fullmatch(name) is not None for name in sample]) >= _MIN_IDS) if len(sample) else False


def _text(values: pd.Series, default: np.ndarray) -> np.ndarray:
    """Return a column as text, with a default where a value is missing or empty."""
    text = values.astype(object).where(values.notna(), "").astype(str).str.strip().to_numpy(dtype=object)
    return np.where(text == "", default, text)
