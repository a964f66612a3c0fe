"""How experts fare on studies that no network had seen: the prior of the calibration.

Shape legend: Q pixels, F fields, N spots, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_srast.models.calibration import POOL, Check, Fleet, KnownSlide, fit_fleet
from napari_srast.models.pcfm.condition import EXPERTS
from napari_srast.models.pcfm.network import DiT
from napari_srast.models.pcfm.sampler import Sampler
from napari_srast.training.data import Case

__all__ = ["Fold", "check_of", "fit_fold_fleets"]

_PAIRS = 4000  # of a case; more say the same again


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """A network and the cases of studies that it has not seen."""

    network: DiT
    unseen: Sequence[Case]


def check_of(network: DiT, case: Case) -> Check:
    """Return what all experts say of a case's fields, (E, Q, F), beside their truth."""
    flow = Sampler().mean(network, case.condition)
    log_k = np.log(case.layout.n_pixels_of_spot[case.layout.parent])[:, None]
    told = {name: case.condition.experts[i].numpy() - log_k for i, name in enumerate(EXPERTS)}
    return Check(
        log_experts=np.stack([flow if name == "pcfm" else told[name] for name in POOL]).astype(np.float64),
        counts=case.condition.counts.numpy().astype(np.float64),
        truth=case.truth.numpy().astype(np.float64),
        layout=case.layout,
    )


def fit_fold_fleets(folds: Sequence[Fold]) -> tuple[list[Fleet], Fleet]:
    """Fit the prior for each fold from the studies of the others, and one from all.

    Returns
    -------
    of_folds, everyone
        A single fold has nobody else's: it gets everyone's, too. Without folds the prior is untried.
    """
    known: list[dict[str, list[KnownSlide]]] = []
    for fold in folds:
        studies: dict[str, list[KnownSlide]] = {}
        for case in fold.unseen:
            above = [check_of(fold.network, check).likelihood(_PAIRS) for check in case.checks]
            slide = KnownSlide(own=check_of(fold.network, case).likelihood(_PAIRS), above=above)
            studies.setdefault(case.study, []).append(slide)
        known.append(studies)
    start = Fleet.untried()
    if not known:
        return [], start
    everyone = fit_fleet({name: slides for studies in known for name, slides in studies.items()}, start)
    of_folds = []
    for i in range(len(known)):
        others = {name: slides for j, studies in enumerate(known) if j != i for name, slides in studies.items()}
        of_folds.append(fit_fleet(others, start) if others else everyone)
    return of_folds, everyone
