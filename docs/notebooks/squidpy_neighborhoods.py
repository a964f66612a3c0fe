# %% [markdown]
# # Neighborhoods and co-occurrence with squidpy
#
# squidpy describes which clusters are next to each other. On the pixels of a result it describes the *map*:
#
# - A **pixel** is an estimate, and neighboring pixels share spots. Every cluster is therefore enriched next to
#   itself, and z-scores grow with the number of pixels. Read signs and ratios; do not read z-scores as tests.
# - Distances below the pitch of the spots (100 µm here) were not measured. They come from the model.
# - The **replicate** is an animal or patient. To test a neighborhood, compute it in each of them, and compare these
#   numbers.
#
# Needs `pip install "napari-srast[analysis,notebooks]"`.

# %%
import matplotlib.pyplot as plt
import numpy as np
import squidpy as sq

import napari_srast as srast

genes = "C1ql2 Prox1 Neurod6 Hpca Calb1 Mobp Cnp Mal Gfap Apod Prkcd Tcf7l2 Sst Gad1".split()
region = srast.Region.from_wkt("POLYGON ((250 800, 1550 800, 1550 1800, 250 1800, 250 800))")
slide = srast.mouse_dentate_gyrus()
result = srast.upsample(slide, region, genes, factor=4, seed=0, name="dentate")
found = srast.domains(result, n_domains=4)
table = result.to_anndata()
table.obs["domain"] = found.labels

# %% [markdown]
# ## Neighborhoods
#
# The pixels are a square grid, so each has four neighbors.

# %%
sq.gr.spatial_neighbors(table, coord_type="grid", n_neighs=4)
sq.gr.interaction_matrix(table, cluster_key="domain", normalized=True)
shares = table.uns["domain_interactions"]
names = list(table.obs["domain"].cat.categories)
for name, row in zip(names, shares, strict=True):
    print(f"domain {name}: " + ", ".join(f"{other} {share:.2f}" for other, share in zip(names, row, strict=True)))
assert np.allclose(shares.sum(axis=1), 1)

# %% [markdown]
# ## Co-occurrence
#
# The ratio says how much more often a domain is found at a distance of another than anywhere. Distances are in
# micrometers. The gray area is below the pitch of the spots.

# %%
sq.gr.co_occurrence(table, cluster_key="domain", interval=np.arange(25.0, 500.0, 50.0), show_progress_bar=False)
ratio, interval = (table.uns["domain_co_occurrence"][key] for key in ("occ", "interval"))
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
for i, name in enumerate(names):
    axis.plot(interval[1:], ratio[i, 0], label=f"domain {name}")
axis.axvspan(0, 100, color="0.9")
axis.axhline(1, color="0.5", linewidth=0.8)
axis.set(xlabel="distance (µm)", ylabel=f"ratio, next to domain {names[0]}", xlim=(25, None))
_ = axis.legend()
