# %% [markdown]
# # Cells, annotated with your own model
#
# `srast.cells` shares the counts of pixels among segmented cells. Any classifier of single cells can then be applied
# to the table, such as a CellTypist model of your tissue. Here it is a logistic regression, which is what CellTypist
# uses.
#
# The slide of this notebook is **synthetic**: only there is the type of every cell known, so that the annotation can
# be scored. The numbers say how the recipe works, not how well it works on your tissue.
#
# - A **pixel** is an estimate from spots; a **cell** gets the pixels that it covers. A spot of Visium covers several
#   cells, so cells of one spot have similar profiles, whatever they are.
# - A cell of one slide is not a **replicate**. Compare fractions of cell types between animals or patients.

# %%
import matplotlib.pyplot as plt
import numpy as np
import shapely
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import napari_srast as srast
from napari_srast.core.cells import CellPolygons
from napari_srast.datasets.synthetic_colon import synthetic_colon_truth

slide = srast.synthetic_colon()
truth = synthetic_colon_truth()
print(truth.n_obs, "cells of", truth.obs["cell_type"].nunique(), "types")

# %% [markdown]
# ## Your model
#
# The model is trained on a reference of single cells: here half of the cells of the slide, in practice your own
# single-cell data. It learns from the composition (counts per 10,000, log), because the depth of a cell on a slide is
# another one. A gene set that slide and reference have in common is enough.


# %%
def composition(counts):
    """Return log(1 + counts per 10,000)."""
    counts = np.asarray(counts, dtype=float)
    return np.log1p(1e4 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9))


reference = np.random.default_rng(0).random(truth.n_obs) < 0.5
genes = list(truth.var_names[np.argsort(-np.asarray(truth.X.sum(axis=0)).ravel())[:60]])
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, class_weight="balanced"))
_ = model.fit(composition(truth[reference, genes].X.toarray()), truth.obs["cell_type"][reference])

# %% [markdown]
# ## Cells of the slide
#
# Names of labels or shapes of the slide, GeoJSON of QuPath and label images are read by name. Here the nuclei are
# circles of 8 µm around the known centers of the cells that are not in the reference, in a region of the slide.

# %%
region = srast.Region.from_wkt("POLYGON ((500 300, 1300 300, 1300 1100, 500 1100, 500 300))")
result = srast.upsample(slide, region, genes, factor=4, seed=0)
centers = truth.obsm["spatial"]
used = np.flatnonzero(~reference & region.contains(centers))
nuclei = CellPolygons(name="nuclei", ids=used, polygons=shapely.buffer(shapely.points(centers[used]), 4.0))
found = srast.cells(result, nuclei)
table = found.to_anndata()
cells = table[table.obs["kind"] == "cell"].copy()
total = float(table.X.sum())
assert np.isclose(total, float(result.counts.sum()), rtol=1e-4)  # cells and outside sum to the spots
print(f"{cells.n_obs} cells; {found.fraction_outside:.0%} of the counts are outside the nuclei")

# %% [markdown]
# ## Annotate, and compare with the truth and with the spots
#
# The fair comparison is the spot: every cell gets the type that the same model finds for the measured counts of its
# nearest spot. The conserved counts of a cell (`X`) have the noise of its spot, and its *expression* averages it; try
# both. Balanced accuracy is the mean over the types of the fraction of their cells that is found.

# %%
names = truth.obs["cell_type"].to_numpy()[cells.obs["id"].astype(int)]
nearest = np.argmin(((cells.obsm["spatial"][:, None] - slide.centers[None]) ** 2).sum(axis=2), axis=1)
spots = slide.counts[:, slide.gene_indices(genes)].toarray()
inputs = {
    "measured counts of the nearest spot": spots[nearest],
    "counts of the cell": cells[:, genes].X.toarray(),
    "expression of the cell": cells[:, genes].layers["expression"].toarray(),
}
types = np.unique(names)
predicted = {label: model.predict(composition(counts)) for label, counts in inputs.items()}
for label, found_types in predicted.items():
    accuracy = np.mean([np.mean(found_types[names == name] == name) for name in types])
    print(f"{label:38} balanced accuracy {accuracy:.2f}")
print(f"{'chance':38} balanced accuracy {1 / len(types):.2f}")

# %%
x, y = cells.obsm["spatial"].T
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
for axis, (label, shown) in zip(axes, [("truth", names), *list(predicted.items())[:2]], strict=True):
    axis.scatter(x, y, c=np.searchsorted(types, shown), s=4, cmap="tab10", vmin=0, vmax=9)
    axis.set(title=label, xticks=[], yticks=[], aspect="equal")
    axis.invert_yaxis()

# %% [markdown]
# With a CellTypist model of your tissue, the last step is:
#
# ```python
# import celltypist
#
# cells.X = cells.layers["expression"]
# sc.pp.normalize_total(cells, target_sum=1e4)
# sc.pp.log1p(cells)
# predictions = celltypist.annotate(cells, model="my_model.pkl")
# ```
#
# Look at the fraction of cells that change their type if you take the counts of the spot instead. Where nothing
# changes, the map has added nothing to the annotation.
