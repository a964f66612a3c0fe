"""Sample counts of the simulated cells, with markers of each type, gradients within types, and overdispersion.

The gene symbols are real, so that the maps look familiar; all values are simulated.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_srast.simulation.colon.layout import PIXEL_UM, SIZE_UM, CellType, Tissue, smooth_noise

__all__ = ["GENES", "MARKERS", "sample_cell_counts"]

MARKERS: dict[CellType, tuple[str, ...]] = {
    CellType.ENTEROCYTE: (
        *("KRT20", "SLC26A3", "CA1", "CA4", "AQP8", "GUCA2A", "GUCA2B", "CEACAM7", "MS4A12", "FABP1", "PHGR1", "CLCA4"),
        *("SLC51A", "TMIGD1"),
    ),
    CellType.CRYPT_CELL: (
        *("LGR5", "OLFM4", "MKI67", "TOP2A", "ASCL2", "EPHB2", "SMOC2", "AXIN2", "CCNB1", "UBE2C", "EPCAM", "KRT8"),
        *("KRT18", "KRT19", "CDH1", "CLDN7"),
    ),
    CellType.GOBLET: (
        *("MUC2", "TFF3", "CLCA1", "FCGBP", "ZG16", "SPINK4", "AGR2", "ITLN1", "REP15", "KLK1", "SPDEF", "RETNLB"),
    ),
    CellType.FIBROBLAST: (
        *("COL1A1", "COL1A2", "COL3A1", "COL6A3", "DCN", "LUM", "FBLN1", "PDGFRA", "CXCL14", "ADAMDEC1", "CCL8"),
        *("SFRP2", "GREM1", "BMP4", "WNT5A", "MFAP5"),
    ),
    CellType.SMOOTH_MUSCLE: (
        *("ACTA2", "MYH11", "DES", "TAGLN", "CNN1", "ACTG2", "MYL9", "TPM2", "LMOD1", "SYNPO2", "CALD1", "FLNA"),
    ),
    CellType.ENDOTHELIAL: (
        *("PECAM1", "VWF", "CDH5", "CLDN5", "PLVAP", "ENG", "KDR", "EMCN", "ACKR1", "RAMP2", "ESAM", "EGFL7"),
    ),
    CellType.T_CELL: (*("CD3D", "CD3E", "CD2", "TRAC", "IL7R", "CD8A", "CD4", "GZMA", "CCL5", "CD7", "CD52", "TRBC2"),),
    CellType.B_CELL: (
        *("MS4A1", "CD79A", "CD79B", "CD19", "BANK1", "CR2", "FCER2", "PAX5", "CD22", "VPREB3", "TCL1A", "BLK"),
    ),
    CellType.PLASMA: (
        *("IGHA1", "JCHAIN", "IGKC", "MZB1", "XBP1", "SDC1", "TNFRSF17", "DERL3", "IGLC2", "FKBP11", "PIM2", "CD38"),
    ),
    CellType.MACROPHAGE: (
        *("CD68", "CD163", "C1QA", "C1QB", "C1QC", "LYZ", "MRC1", "CD14", "MS4A7", "AIF1", "TYROBP", "FCER1G"),
    ),
}
_COMMON = (
    *("ACTB", "GAPDH", "B2M", "TMSB4X", "EEF1A1", "RPL13", "RPLP0", "RPS27", "RPS18", "MALAT1", "FTL", "FTH1", "UBB"),
    *("HSPA8", "CFL1", "PFN1", "TPT1", "NPM1", "ENO1", "LDHA", "PKM", "ALDOA", "PPIA", "YWHAZ", "HNRNPA1", "EIF1"),
    *("CD74", "HLA-DRA", "VIM", "S100A6", "S100A4", "LGALS1", "TIMP1", "SPARC", "IGFBP7", "CXCL12", "CCL19", "CCL21"),
)
_RARE = (
    *("CHGA", "POU2F3", "TRPM5", "BEST4", "OTOP2", "NOS2", "DUOX2", "LCN2", "REG1A", "PIGR", "IL1B", "CXCL8", "IFIT1"),
    *(
        "ISG15",
        "CXCL9",
        "CXCL10",
        "FOXP3",
        "CTLA4",
        "PDCD1",
        "TPSAB1",
        "CPA3",
        "KIT",
        "S100B",
        "PLP1",
        "SOX10",
        "PHOX2B",
    ),
    *("ELAVL4", "LYVE1", "PROX1", "RGS5", "NOTCH3", "MYC"),
)
GENES: tuple[str, ...] = (*(g for genes in MARKERS.values() for g in genes), *_COMMON, *_RARE)

# Mean total counts of a cell of each type: a few thousand counts in a disc of 55 um, as on Visium.
_MEAN_TOTAL = {
    CellType.ENTEROCYTE: 685.0,
    CellType.CRYPT_CELL: 610.0,
    CellType.GOBLET: 505.0,
    CellType.FIBROBLAST: 270.0,
    CellType.SMOOTH_MUSCLE: 290.0,
    CellType.ENDOTHELIAL: 235.0,
    CellType.T_CELL: 160.0,
    CellType.B_CELL: 180.0,
    CellType.PLASMA: 395.0,
    CellType.MACROPHAGE: 305.0,
}
_DISPERSION = 2.5  # size parameter of the negative binomial, for each cell and gene
_EPITHELIUM = (CellType.ENTEROCYTE, CellType.CRYPT_CELL, CellType.GOBLET)
_MUCOSA_UM = 840.0


def sample_cell_counts(tissue: Tissue, rng: np.random.Generator) -> sparse.csr_matrix:
    """Sample negative-binomial counts of the cells: float32 CSR, shape (C, len(GENES)).

    Parameters
    ----------
    tissue
        Zones and cells.
    rng
        Random generator.
    """
    mean = _profiles(rng)[tissue.types]
    column = {gene: i for i, gene in enumerate(GENES)}
    for genes, factor in _gradients(tissue, rng):
        mean[:, [column[gene] for gene in genes]] *= factor[:, None]
    size = np.array([_MEAN_TOTAL[t] for t in CellType])[tissue.types] * rng.lognormal(0, 0.35, len(mean))
    mean *= (size / mean.sum(axis=1))[:, None]
    return sparse.csr_matrix(rng.poisson(mean * rng.gamma(_DISPERSION, 1 / _DISPERSION, mean.shape)), dtype=np.float32)


def _profiles(rng: np.random.Generator) -> np.ndarray:
    """Return the expression of each gene in each type, shape (types, genes): markers, shared genes, background."""
    column = {gene: i for i, gene in enumerate(GENES)}
    strength = rng.lognormal(0, 0.9, len(GENES))
    profile = np.full((len(CellType), len(GENES)), 0.012) * strength
    for cell_type, genes in MARKERS.items():
        markers = [column[gene] for gene in genes]
        profile[cell_type, markers] = 1.6 * strength[markers]
    for genes, level in ((_COMMON, 0.75), (_RARE, 0.02)):
        columns = [column[gene] for gene in genes]
        profile[:, columns] = level * strength[columns] * rng.lognormal(0, 0.45, (len(CellType), len(columns)))
    epithelial = [column[gene] for gene in ("EPCAM", "KRT8", "KRT18", "KRT19", "CDH1", "CLDN7", "PIGR", "AGR2")]
    for cell_type in _EPITHELIUM:
        profile[cell_type, epithelial] = 1.3 * strength[epithelial]
    presenting = [column[gene] for gene in ("CD74", "HLA-DRA")]
    for cell_type in (CellType.B_CELL, CellType.MACROPHAGE):
        profile[cell_type, presenting] *= 6
    return profile


def _gradients(tissue: Tissue, rng: np.random.Generator) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """Return groups of genes, and the factor of their expression in each cell, shape (C,)."""
    x, y = tissue.cells.T
    pixel = (tissue.cells / PIXEL_UM).astype(int).clip(0, np.array(tissue.zones.shape)[::-1] - 1)
    depth = tissue.depth[pixel[:, 1], pixel[:, 0]]
    epithelial = np.isin(tissue.types, _EPITHELIUM)
    height = np.where(epithelial, tissue.heights, 0.0)
    stromal_height = np.clip(1 - depth / _MUCOSA_UM, 0, 1)

    def field(scale_um: float, strength: float) -> np.ndarray:
        return np.exp(strength * smooth_noise(rng, tissue.zones.shape, scale_um)[pixel[:, 1], pixel[:, 0]])

    stem = np.where(epithelial, np.exp(-6.0 * height), 1.0)
    mature = np.where(tissue.types == CellType.CRYPT_CELL, 0.02 + 0.9 * height**2, 0.0)
    mature = np.where(mature > 0, 40 * mature, 1.0)
    return [
        (("LGR5", "OLFM4", "ASCL2", "SMOC2", "EPHB2", "AXIN2"), stem),
        (("MKI67", "TOP2A", "CCNB1", "UBE2C"), np.where(epithelial, np.exp(-((height - 0.25) ** 2) / 0.03), 1.0)),
        (("KRT20", "SLC26A3", "CA1", "CA4", "AQP8", "GUCA2A", "FABP1", "PHGR1", "CEACAM7"), mature),
        (("BMP4", "WNT5A", "CXCL14"), np.exp(2.5 * (stromal_height - 0.5))),
        (("GREM1", "SFRP2", "MFAP5"), np.exp(-3.0 * (stromal_height - 0.3))),
        (("DES", "SYNPO2", "ACTG2"), np.exp(1.2 * (x / SIZE_UM[0] - 0.5))),
        (("CNN1", "LMOD1"), np.exp(-1.4 * (y - 1700) / 700)),
        (("CXCL9", "CXCL10", "ISG15", "IFIT1", "NOS2"), 1 + 25 * np.exp(-((x - 620) ** 2 + (y - 620) ** 2) / 170**2)),
        (("CCL19", "CCL21", "CR2", "FCER2"), field(90, 0.7)),
        (("IGHA1", "JCHAIN", "IGKC", "IGLC2"), field(150, 0.5)),
        (("CD8A", "GZMA", "CCL5"), field(140, 0.7)),
        (("COL1A1", "COL1A2", "COL3A1", "SPARC"), field(120, 0.45)),
        (("LYZ", "C1QA", "C1QB", "C1QC"), field(160, 0.5)),
        (("LDHA", "PKM", "ENO1", "ALDOA"), field(200, 0.35)),
    ]
