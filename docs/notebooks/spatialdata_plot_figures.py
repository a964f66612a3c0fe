# %% [markdown]
# # Figures with spatialdata-plot
#
# A result is a SpatialData store with an image of every gene, labels, and circles. spatialdata-plot draws all of
# them.
#
# - A **pixel** of the figure is an estimate for a place of 25 µm. State in the legend whether it shows conserved
#   counts or expression, and the skill of the gene.
# - A figure shows one slide, which is one **replicate**.
#
# Needs `pip install "napari-srast[notebooks]"`.

# %%
import matplotlib.pyplot as plt
import spatialdata
import spatialdata_plot  # noqa: F401 (adds .pl to stores)

import napari_srast as srast

genes = "C1ql2 Prox1 Neurod6 Hpca Calb1 Mobp Cnp Mal Gfap Apod Prkcd Tcf7l2 Sst Gad1".split()
region = srast.Region.from_wkt("POLYGON ((250 800, 1550 800, 1550 1800, 250 1800, 250 800))")
slide = srast.mouse_dentate_gyrus()
result = srast.upsample(slide, region, genes, factor=4, seed=0, name="dentate")
srast.write_result(result, "dentate_figures.zarr")
store = spatialdata.read_zarr("dentate_figures.zarr")
for kind, name, _ in store.gen_elements():
    print(kind, name)

# %% [markdown]
# ## Counts and expression as images

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for axis, element, title in zip(
    axes, ("srast_dentate", "srast_dentate_expression"), ("counts", "expression"), strict=True
):
    store.pl.render_images(element, channel="C1ql2", cmap="inferno").pl.show(
        ax=axis, title=f"C1ql2, {title}", colorbar=False
    )

# %% [markdown]
# ## The table as labels
#
# Each row of the table annotates a circle. Two lines let it annotate the labels instead, which have no gaps. Then any
# column of the table can be drawn.

# %%
table = store.tables["srast_dentate_table"]
table.obs["region"] = "srast_dentate_labels"
table.obs["region"] = table.obs["region"].astype("category")
store.set_table_annotates_spatialelement("srast_dentate_table", region="srast_dentate_labels")
figure, axis = plt.subplots(figsize=(5, 3.4), layout="constrained")
store.pl.render_labels("srast_dentate_labels", color="Neurod6", table_name="srast_dentate_table").pl.show(
    ax=axis, title="Neurod6, counts"
)
