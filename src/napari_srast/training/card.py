"""The model card beside a checkpoint: data with licences, recipe, scores on unseen studies, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.models.calibration import Calibration

if TYPE_CHECKING:
    from napari_srast.training.recipe import Recipe

__all__ = ["score_table", "write_card"]

_COLUMNS = ("pcfm", "pooled", "gp_denoised", "gp", "pycnophylactic", "bilinear")


def score_table(scores: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table: per study the mean nats per count and within-spot PCC of every method."""
    lines = ["| study | cases | " + " | ".join(_COLUMNS) + " |", "|---" * (len(_COLUMNS) + 2) + "|"]
    studies = sorted({s["study"] for s in scores})
    means = []
    for study in studies:
        rows = [s for s in scores if s["study"] == study]
        means.append(
            [[np.mean([r.get(f"{kind}_{m}", np.nan) for r in rows]) for m in _COLUMNS] for kind in ("nats", "pcc")]
        )
        cells = [f"{n:.4f} / {p:.3f}" for n, p in zip(*means[-1], strict=True)]
        lines.append(f"| {study} | {len(rows)} | " + " | ".join(cells) + " |")
    nats, pcc = np.mean(means, axis=0)
    cells = [f"**{n:.4f} / {p:.3f}**" for n, p in zip(nats, pcc, strict=True)]
    lines.append(f"| **mean of studies** | {len(scores)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_card(
    path: Path, recipe: Recipe, scores: Sequence[Mapping[str, Any]], fleet: Calibration, sha256: str
) -> None:
    """Write the model card of a checkpoint."""
    data = "\n".join(f"| {s.name} | {s.study} | {recipe.licences[s.name]} |" for s in recipe.sources)
    table = score_table(scores) if scores else "None: the recipe has no folds."
    weights = ", ".join(
        f"{e} {a:.2f} {b:+.2f}" for e, a, b in zip(fleet.experts, fleet.weights[0], fleet.weights[1], strict=True)
    )
    path.write_text(
        f"""# Model card: {recipe.name}

An endpoint-flow network (PCFM) on features of a graph VAE that is fitted to each slide (SASA); see the method page of
the documentation. An independent implementation of the published description of SRast (arXiv 2602.10644): not the
paper's weights, and the paper's figures are not claimed for it.

- File: `{recipe.output.name}`, sha256 `{sha256}`
- Made by: `napari-srast train {recipe.name}.toml` (the recipe is in `training/recipes` and in the file's header)
- Intended use: splitting the counts of spots of a spatial transcriptomics slide over finer pixels, for any species,
  tissue, platform and gene panel, after calibration on the slide itself.
- Not for: diagnosis; single-cell calls; places between spots that were never measured.

## Trained on

| slide | study | licence (of its repository) |
|---|---|---|
{data}

Licences are those of the repositories that the files came from; mostly none was stated for the data themselves.

## Scores on studies never trained on

{recipe.folds} folds of studies; each network is scored on the studies left out. Nats per count over the even split /
within-spot PCC, mean over fields, then cases. `pcfm` is the network alone; `pooled` is the expert pool with the average
weights of the other folds (on a user's slide the weights are fitted to it as well); the other columns are the
interpolations that the network is told.

{table}

The checkpoint that is shipped is trained on all studies, so no score of it on them is given. Fleet weights (at no
counts, and the change up to 100 counts): {weights}.

## Where it fails

Spots in which neighbouring cells are of unlike types without any pattern between spots (mosaics) hold little that any
method can recover: expect gains near zero there. Deep detail below about half a pitch is guessed from the statistics of
other tissues. The uncertainty (mode `sample`) is that of the flow alone.
""",
        encoding="utf-8",
    )
