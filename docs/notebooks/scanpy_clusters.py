# %% [markdown]
# # Clusters with scanpy
#
# The table of a result is an AnnData with a row per pixel, so scanpy reads it as it is. Two things differ from single
# cells:
#
# - Cluster the **expression**, not the conserved counts. Counts carry the noise of their spot, so their clusters are
#   the spots.
# - A **pixel** is not a cell and not a replicate. Neighboring pixels are computed from the same spots. So describe
#   clusters and their genes, and take no p-value from them: `rank_genes_groups` would treat thousands of pixels as
#   thousands of samples. The **replicate** of a test is an animal or patient.
#
# Needs the extra `analysis`: `pip install "napari-srast[analysis]"`.

# %%
import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc

import napari_srast as srast

genes = "C1ql2 Prox1 Neurod6 Hpca Calb1 Mobp Cnp Mal Gfap Apod Prkcd Tcf7l2 Sst Gad1".split()
region = srast.Region.from_wkt("POLYGON ((250 800, 1550 800, 1550 1800, 250 1800, 250 800))")
slide = srast.mouse_dentate_gyrus()
result = srast.upsample(slide, region, genes, factor=4, seed=0, name="dentate")
table = result.to_anndata()

# %% [markdown]
# ## The usual steps, on the layer of the expression


# %%
def clusters(table, layer):
    """Return Leiden clusters of a layer."""
    copy = table.copy()
    copy.X = copy.layers[layer] if layer else copy.X
    sc.pp.normalize_total(copy, target_sum=1e4)
    sc.pp.log1p(copy)
    sc.pp.pca(copy, n_comps=10)
    sc.pp.neighbors(copy, n_neighbors=15)
    sc.tl.leiden(copy, resolution=0.3, flavor="igraph", n_iterations=2, random_state=0)
    return copy.obs["leiden"]


table.obs["of expression"] = clusters(table, "expression")
table.obs["of counts"] = clusters(table, None)

# %% [markdown]
# ## Do the clusters show tissue, or spots?
#
# If all pixels of a spot are in one cluster, the clusters have not become finer than the spots.


# %%
def undivided(column):
    """Return the fraction of spots whose pixels are all in one cluster."""
    return float((table.obs.groupby("spot", observed=True)[column].nunique() == 1).mean())


for column in ("of expression", "of counts"):
    print(f"clusters {column}: {table.obs[column].nunique()}, spots that are not divided: {undivided(column):.0%}")
assert undivided("of expression") < undivided("of counts")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for axis, column in zip(axes, ("of expression", "of counts"), strict=True):
    codes = table.obs[column].cat.codes.to_numpy()
    shuffled = np.random.default_rng(0).permutation(codes.max() + 1)  # neighboring clusters get different colors
    axis.imshow(result.raster.to_image(shuffled[codes]), cmap="nipy_spectral", interpolation="nearest")
    axis.set(title=f"clusters {column}", xticks=[], yticks=[])

# %% [markdown]
# ## Domains
#
# `srast.domains` does the same with a graph that also joins neighboring pixels that look alike, and finds markers by
# AUROC. It has no p-values: clusters and markers come from the same counts.

# %%
found = srast.domains(result, resolution=0.3)
print(found.sizes)
found.markers.groupby("domain").head(3)
