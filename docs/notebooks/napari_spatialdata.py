# %% [markdown]
# # Next to napari-spatialdata
#
# napari-spatialdata opens any SpatialData store, and a result is one. This notebook shows a result in its viewer, and
# checks that both programs show the same values at the same places.
#
# - A **pixel** of a layer is an estimate for a place of 25 µm, also in the viewer of another program.
# - The viewer shows one slide, which is one **replicate**.
#
# napari needs a screen. On a server, start Jupyter with `xvfb-run -a`, which provides a virtual one; the pictures below
# were taken on it. Only clicks into the window are not part of this notebook.
#
# Needs `pip install "napari-srast[gui]" napari-spatialdata`.

# %%
import time

import matplotlib.pyplot as plt
import napari
import numpy as np
import spatialdata
from napari_spatialdata import Interactive
from qtpy.QtWidgets import QApplication

import napari_srast as srast

genes = "C1ql2 Prox1 Neurod6 Hpca Calb1 Mobp Cnp Mal Gfap Apod Prkcd Tcf7l2 Sst Gad1".split()
region = srast.Region.from_wkt("POLYGON ((250 800, 1550 800, 1550 1800, 250 1800, 250 800))")
slide = srast.mouse_dentate_gyrus()
result = srast.upsample(slide, region, genes, factor=4, seed=0, name="dentate")
srast.write_result(result, "dentate_viewer.zarr")
store = spatialdata.read_zarr("dentate_viewer.zarr")

# %% [markdown]
# ## Open the store
#
# `Interactive` opens napari with the panel of napari-spatialdata. In a script, it adds elements by name; in its panel,
# a double-click does the same. It loads them in a thread, so the script waits for the layers.

# %%
viewer = napari.Viewer()
viewer.window.resize(1500, 800)
window = Interactive(store, headless=True)
elements = ("srast_dentate", "srast_dentate_expression")
for number, element in enumerate(elements, start=1):
    window.add_element(element, element_coordinate_system="global")
    end = time.monotonic() + 60
    while len(viewer.layers) < number and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)
layers = {layer.metadata["name"]: layer for layer in viewer.layers}
assert set(layers) == set(elements)
print([layer.name for layer in viewer.layers])

# %% [markdown]
# ## One gene, counts and expression
#
# A layer has a channel per gene. The slider below the canvas chooses it, here `dims.set_point`. Each picture is that of
# the viewer with one of the layers.

# %%
channel = list(spatialdata.models.get_channel_names(store["srast_dentate"])).index("C1ql2")
viewer.dims.set_point(0, channel)
viewer.reset_view()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for axis, element, title in zip(axes, elements, ("counts", "expression"), strict=True):
    for name, layer in layers.items():
        layer.visible = name == element
    layers[element].colormap = "inferno"
    layers[element].contrast_limits = (0, float(np.nanpercentile(result.gene_image("C1ql2"), 99.5)))
    QApplication.processEvents()
    axis.imshow(viewer.screenshot(canvas_only=True, flash=False))
    axis.set_title(f"C1ql2, {title}, in napari")
    axis.set_axis_off()

# %% [markdown]
# ## The same values at the same places
#
# The value of a layer at the center of a pixel is that of the result. napari orders coordinates as (channel, y, x).

# %%
rng = np.random.default_rng(0)
for pixel in rng.choice(result.n_pixels, 20, replace=False):
    x, y = result.raster.centers[pixel]
    for element, values in zip(elements, (result.counts, result.expression), strict=True):
        layers[element].visible = True
        shown = layers[element].get_value((channel, y, x), world=True)
        np.testing.assert_allclose(shown, values[pixel, result.gene_column("C1ql2")], rtol=1e-6)
print("equal at 20 pixels")

# %%
viewer.close()
