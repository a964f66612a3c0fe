# %% [markdown]
# # What pixels add to spots, and what they do not
#
# A map is computed from spots, so it contains no measurement that the spots do not contain. It is useful to *look*
# at, because it puts the counts of neighboring spots together. It must not be used to *count* evidence.
#
# - A **spot** is a measurement. A **pixel** is an estimate, and the pixels of a spot are not independent.
# - A **replicate** is an animal or patient. One slide has one.

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

import napari_srast as srast

genes = "C1ql2 Prox1 Neurod6 Hpca Calb1 Mobp Cnp Mal Gfap Apod Prkcd Tcf7l2 Sst Gad1".split()
region = srast.Region.from_wkt("POLYGON ((250 800, 1550 800, 1550 1800, 250 1800, 250 800))")
slide = srast.mouse_dentate_gyrus()
result = srast.upsample(slide, region, genes, factor=4, seed=0, name="dentate")

# %% [markdown]
# ## The same statement from spots and from pixels
#
# Is a gene different in two halves of the region? Here the answer is known: the halves are cut at random places of
# *shuffled* spots, so that nothing differs. A t test over spots is right as often as it should be. The same test over
# pixels, which repeat each spot, finds differences everywhere.

# %%
rng = np.random.default_rng(0)
spots = result.raster.spots
log = np.log1p(slide.counts[spots][:, slide.gene_indices(genes)].toarray())
pixels_per_spot = result.raster.n_pixels_per_spot[spots]
left = slide.centers[spots, 0] < np.median(slide.centers[spots, 0])
called = {"spots": [], "pixels": []}
for _ in range(40):
    shuffled = log[rng.permutation(len(spots))]
    called["spots"].append(stats.ttest_ind(shuffled[left], shuffled[~left]).pvalue < 0.05)
    repeated, side = np.repeat(shuffled, pixels_per_spot, axis=0), np.repeat(left, pixels_per_spot)
    called["pixels"].append(stats.ttest_ind(repeated[side], repeated[~side]).pvalue < 0.05)
rates = {name: float(np.mean(values)) for name, values in called.items()}
for name, rate in rates.items():
    print(f"{name:7} called different although nothing differs: {rate:.0%} (5 % is right)")
assert rates["spots"] < 0.1 < rates["pixels"]

# %% [markdown]
# ## The comparison to use
#
# `srast.compare_regions` works on spots and draws blocks of neighboring spots, because neighbors resemble each other.
# It has intervals and no p-values. A test between conditions needs several animals: `srast.pseudobulk` sums the spots
# of each.

# %%
dentate = srast.Region.from_wkt("POLYGON ((300 1000, 1300 1000, 1300 1500, 300 1500, 300 1000))")
table = srast.compare_regions(slide, {"dentate gyrus": dentate}, genes=genes, block=3)
print(table.head(6).round(2).to_string(index=False))

# %% [markdown]
# ## What the map is for
#
# It shows *where* in and between spots the counts of a gene probably are. The profile across the region is finer than
# the pitch of the spots, and its sums over spots are unchanged.

# %%
gene = "C1ql2"
image = result.gene_image(gene, layer="expression")
row = int(np.nanargmax(np.nansum(image, axis=1)))
figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.plot(np.arange(image.shape[1]) * result.raster.pixel_size, image[row], label="expression of pixels")
spot_means = (result.raster.membership @ result.counts)[spots][:, genes.index(gene)].toarray()[:, 0] / pixels_per_spot
painted = np.full(slide.n_spots, np.nan)
painted[spots] = spot_means
on_row = result.raster.to_image(painted[result.raster.parent])[row]
axis.plot(
    np.arange(image.shape[1]) * result.raster.pixel_size, on_row, drawstyle="steps-mid", label="measured, per pixel"
)
axis.set(xlabel="distance along a row of pixels (µm)", ylabel=f"{gene}, counts per pixel")
_ = axis.legend()
