"""Learn rates in pixels from image features, by the likelihood of what whole spots count.

A spot counts the sum over the area that it measures, so the rate is averaged over that area before it is compared with
the counts: unlike a regression on feature means, the model is fitted at the scale at which it predicts. Two log-linear
models are fitted one after the other. With standardized features x of a point,

    totals       log t(x) = w x + v b + constant,          T_i ~ mean of t over the area of spot i
    composition  c_g(x) = sum_p softmax_p(U x + u) W_pg,   N_ig given T_i ~ mean of t c_g over the area of spot i

where b are smooth functions of the position, which take up what the position alone explains and are left out of the
prediction. The totals have a log-normal error, which takes up the capture efficiency of single spots; the composition
is scored given the total of the spot, so that efficiencies do not enter it.

Shape legend: n training spots, m sample points per spot, D features, B position functions, P programs, G genes,
F fields, Q pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from napari_srast.core.progress import NO_MONITOR, RunMonitor

__all__ = ["CompositionLoss", "DisaggregationModel", "SpotSamples", "TotalsLoss", "fit_disaggregation"]

_N_PROGRAMS = 12
_MAX_GENES = 500  # most abundant genes that the composition is learned from
_SPOTS_PER_PROGRAM = 12
_TOTALS_RIDGE = 25.0  # precision of the Gaussian prior of standardized coefficients, over two
_POSITION_RIDGE = 8.0
_POSITION_SPACING = 4.0  # pitches
_PROGRAM_RIDGE = 28.0
_OVERDISPERSION = 300.0  # counts of a spot beyond which its composition is hardly known better
_ITERATIONS = 120
_CLIP = 4.0  # standard deviations up to which a feature is used
_EM_ITERATIONS = 40
_PRIOR_COUNTS = 20.0  # weight of the prior that a field has the same loading in every program
_FIELDS_PER_BLOCK = 1024
_TINY = 1e-12
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class SpotSamples:
    """What the model is fitted to.

    Parameters
    ----------
    features
        Raw features at sample points of the measured area of each spot, shape (n, m, D).
    centers
        Spot centers, shape (n, 2).
    pitch
        Distance between neighboring spots.
    counts
        Raw counts, shape (n, G).
    """

    features: np.ndarray
    centers: np.ndarray
    pitch: float
    counts: sparse.csr_matrix


@dataclass(frozen=True, kw_only=True, eq=False)
class DisaggregationModel:
    """Predict log totals and program fractions from image features.

    Parameters
    ----------
    feature_mean, feature_scale
        Standardization of the features, shape (D,).
    totals_coefficients
        Coefficients w of the log totals, shape (D,).
    program_coefficients, program_bias
        Coefficients U and u of the program fractions, shapes (D, P) and (P,).
    spot_programs
        Predicted program fractions of the training spots, shape (n, P).
    spot_totals
        Total counts of the training spots, shape (n,).
    """

    feature_mean: np.ndarray
    feature_scale: np.ndarray
    totals_coefficients: np.ndarray
    program_coefficients: np.ndarray
    program_bias: np.ndarray
    spot_programs: np.ndarray
    spot_totals: np.ndarray

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict log totals, up to a constant, shape (Q,), and program fractions, shape (Q, P), at points.

        Parameters
        ----------
        features
            Raw features, shape (Q, D).
        """
        standardized = _standardize(features, self.feature_mean, self.feature_scale)
        log_totals = standardized @ self.totals_coefficients
        fractions = _softmax(standardized @ self.program_coefficients + self.program_bias)
        return log_totals.astype(np.float64), fractions.astype(np.float64)

    def field_loadings(self, fields: sparse.csr_matrix | np.ndarray) -> np.ndarray:
        """Fit non-negative loadings of fields on the programs, by expectation maximization.

        Parameters
        ----------
        fields
            Counts or intensities of the training spots, shape (n, F).

        Returns
        -------
        np.ndarray
            Rate of each field in each program relative to its mean rate, shape (P, F).
        """
        exposure = self.spot_programs * self.spot_totals[:, None]
        exposure_of_program = exposure.sum(axis=0)[:, None]
        loadings = np.ones((exposure.shape[1], fields.shape[1]))
        for start in range(0, fields.shape[1], _FIELDS_PER_BLOCK):
            block = slice(start, start + _FIELDS_PER_BLOCK)
            some = fields[:, block]
            counts = some.toarray() if isinstance(some, sparse.csr_matrix) else np.asarray(some)
            counts = counts.astype(np.float64)
            rate = np.maximum(counts.sum(axis=0) / max(float(exposure.sum()), _TINY), _TINY)
            relative = np.ones((exposure.shape[1], counts.shape[1]))
            for _ in range(_EM_ITERATIONS):
                quotient = counts / np.maximum((exposure @ relative) * rate, _TINY)
                counts_of_program = relative * rate * (exposure.T @ quotient)
                # A gamma prior with mean 1 adds _PRIOR_COUNTS to the observed and to the expected counts.
                relative = (counts_of_program + _PRIOR_COUNTS) / (exposure_of_program * rate + _PRIOR_COUNTS)
            loadings[:, block] = relative
        return loadings


def fit_disaggregation(samples: SpotSamples, monitor: RunMonitor = NO_MONITOR) -> DisaggregationModel:
    """Fit totals and composition to the counts of the training spots.

    Parameters
    ----------
    samples
        Features and counts.
    monitor
        Asked for cancellation in every iteration.
    """
    n_spots, n_points, n_features = samples.features.shape
    flat = samples.features.reshape(-1, n_features)
    mean, scale = flat.mean(axis=0), flat.std(axis=0)
    scale = np.where(scale > 1e-6 * np.maximum(np.abs(mean), 1e-3), scale, np.inf)  # constant features become 0
    standardized = _standardize(flat, mean, scale)
    totals = np.asarray(samples.counts.sum(axis=1), dtype=np.float64).ravel()
    position = _position_functions(samples.centers, samples.pitch)
    totals_loss = TotalsLoss(features=standardized, position=position, totals=totals, n_points=n_points)
    parameters = _minimize(totals_loss, totals_loss.start(), monitor)
    weights = np.exp(totals_loss.log_rate(parameters))
    weights /= weights.sum(axis=1, keepdims=True)
    program_coefficients, bias = _fit_programs(standardized, weights, samples.counts, monitor)
    fractions = _softmax(standardized @ program_coefficients + bias).reshape(n_spots, n_points, -1)
    return DisaggregationModel(
        feature_mean=mean,
        feature_scale=scale,
        totals_coefficients=parameters[:n_features].astype(np.float32),
        program_coefficients=program_coefficients,
        program_bias=bias,
        spot_programs=np.einsum("nm,nmp->np", weights, fractions),
        spot_totals=totals,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class TotalsLoss:
    """Negative log likelihood of the log totals of spots, with ridge penalties, per spot.

    Its parameters are the D coefficients of the features, the B coefficients of the position functions, a constant, and
    the logarithm of the standard deviation of the spots' efficiencies.

    Parameters
    ----------
    features
        Standardized features of the points, shape (n m, D).
    position
        Position functions at the spots, shape (n, B).
    totals
        Total counts of the spots, shape (n,).
    n_points
        Number m of sample points per spot.
    """

    features: np.ndarray
    position: np.ndarray
    totals: np.ndarray
    n_points: int

    def start(self) -> np.ndarray:
        """Return the parameters of constant rates, shape (D + B + 2,)."""
        start = np.zeros(self.features.shape[1] + self.position.shape[1] + 2)
        start[-2], start[-1] = np.log(self.totals + 0.5).mean(), -1.0
        return start

    def log_rate(self, parameters: np.ndarray) -> np.ndarray:
        """Return the log totals of the points, shape (n, m)."""
        n_features = self.features.shape[1]
        of_features = self.features @ parameters[:n_features].astype(self.features.dtype)
        of_spot = self.position @ parameters[n_features:-2] + parameters[-2]
        return np.asarray(of_features.reshape(-1, self.n_points) + of_spot[:, None], dtype=np.float64)

    def __call__(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient, shape (D + B + 2,)."""
        n_spots, n_features = len(self.totals), self.features.shape[1]
        ridge, position_ridge = _TOTALS_RIDGE / n_spots, _POSITION_RIDGE / n_spots
        log_observed, count_variance = np.log(self.totals + 0.5), 1 / (self.totals + 1)
        points = self.log_rate(parameters)
        highest = points.max(axis=1, keepdims=True)
        rates = np.exp(points - highest)
        sums = rates.sum(axis=1)
        error = log_observed - (np.log(sums / self.n_points) + highest[:, 0])
        scatter = np.exp(2 * parameters[-1])
        variance = scatter + count_variance
        coefficients, of_position = parameters[:n_features], parameters[n_features:-2]
        value = np.mean(0.5 * error**2 / variance + 0.5 * np.log(variance))
        value += ridge * coefficients @ coefficients + position_ridge * of_position @ of_position
        of_spot = -error / variance / n_spots
        of_points = ((of_spot / sums)[:, None] * rates).ravel().astype(self.features.dtype)
        gradient = np.empty_like(parameters)
        gradient[:n_features] = self.features.T @ of_points + 2 * ridge * coefficients
        gradient[n_features:-2] = self.position.T @ of_spot + 2 * position_ridge * of_position
        gradient[-2] = of_spot.sum()
        gradient[-1] = np.mean((0.5 / variance - 0.5 * error**2 / variance**2) * 2 * scatter)
        return float(value), gradient


@dataclass(frozen=True, kw_only=True, eq=False)
class CompositionLoss:
    """Negative log likelihood of the composition of spots, given their totals, with a ridge penalty, per count.

    Its parameters are U, u and the logarithms of the signatures W, flattened one after the other.

    Parameters
    ----------
    features
        Standardized features of the points, shape (n m, D).
    weights
        Share of each point in the totals of its spot, shape (n, m).
    observed
        Counts of the genes that the composition is learned from, shape (n, G).
    """

    features: np.ndarray
    weights: np.ndarray
    observed: np.ndarray

    def start(self, signatures: np.ndarray) -> np.ndarray:
        """Return the parameters of constant fractions of signatures (P, G)."""
        n_constant = (self.features.shape[1] + 1) * len(signatures)
        return np.concatenate([np.zeros(n_constant), np.log(signatures + 1e-5).ravel()])

    def split(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return U (D, P), u (P,) and the logarithms of the signatures (P, G)."""
        n_features, n_genes = self.features.shape[1], self.observed.shape[1]
        n_programs = len(parameters) // (n_features + 1 + n_genes)
        coefficients, bias, log_signatures = np.split(
            parameters, [n_features * n_programs, (n_features + 1) * n_programs]
        )
        return coefficients.reshape(n_features, -1), bias, log_signatures.reshape(-1, n_genes)

    @cached_property
    def _spot_weight(self) -> np.ndarray:
        return np.asarray(1 / (1 + self.observed.sum(axis=1) / _OVERDISPERSION))

    def __call__(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient, in the shape of the parameters."""
        dtype, (n_spots, n_points) = self.features.dtype, self.weights.shape
        coefficients, bias, log_signatures = self.split(parameters)
        n_programs = len(bias)
        scale = max(float(self._spot_weight @ self.observed.sum(axis=1)), _TINY)
        ridge = _PROGRAM_RIDGE / scale
        signatures = _softmax(log_signatures)
        fractions = _softmax(self.features @ coefficients.astype(dtype) + bias.astype(dtype))
        by_spot = fractions.reshape(n_spots, n_points, n_programs)
        mixture = np.einsum("nm,nmp->np", self.weights, by_spot)
        share = np.maximum(mixture @ signatures, _TINY)
        value = -(self._spot_weight @ (self.observed * np.log(share)).sum(axis=1)) / scale
        value += ridge * float((coefficients**2).sum())
        of_share = -self._spot_weight[:, None] * self.observed / share / scale
        of_mixture = of_share @ signatures.T
        of_fractions = self.weights[:, :, None] * of_mixture[:, None, :]
        of_logits = by_spot * (of_fractions - (by_spot * of_fractions).sum(axis=2, keepdims=True))
        of_logits = of_logits.reshape(-1, n_programs).astype(dtype)
        of_signatures = mixture.T @ of_share
        of_log_signatures = signatures * (of_signatures - (signatures * of_signatures).sum(axis=1, keepdims=True))
        of_coefficients = self.features.T @ of_logits + 2 * ridge * coefficients
        return float(value), np.concatenate(
            [of_coefficients.ravel(), of_logits.sum(axis=0), of_log_signatures.ravel()], dtype=np.float64
        )


def _fit_programs(
    features: np.ndarray, weights: np.ndarray, counts: sparse.csr_matrix, monitor: RunMonitor
) -> tuple[np.ndarray, np.ndarray]:
    """Fit program fractions and signatures to the composition of the spots; return U (D, P) and u (P,).

    Parameters
    ----------
    features
        Standardized features of the points, shape (n m, D).
    weights
        Share of each point in the totals of its spot, shape (n, m).
    counts
        Raw counts, shape (n, G).
    monitor
        Asked for cancellation in every iteration.
    """
    genes = np.sort(np.argsort(-np.asarray(counts.sum(axis=0)).ravel(), kind="stable")[:_MAX_GENES])
    observed = np.asarray(counts[:, genes].toarray(), dtype=np.float64)
    observed = observed[:, observed.sum(axis=0) > 0]
    loss = CompositionLoss(features=features, weights=weights, observed=observed)
    coefficients, bias, _ = loss.split(_minimize(loss, loss.start(_initial_signatures(observed)), monitor))
    return coefficients.astype(np.float32), bias.astype(np.float32)


def _initial_signatures(counts: np.ndarray) -> np.ndarray:
    """Return signatures (P, G) that sum to 1, from a non-negative matrix factorization mixed with the mean profile."""
    from sklearn.decomposition import NMF

    mean_profile = counts.sum(axis=0) / max(float(counts.sum()), _TINY)
    n_programs = max(1, min(_N_PROGRAMS, len(counts) // _SPOTS_PER_PROGRAM, counts.shape[1]))
    if n_programs < 2:
        return mean_profile[None]
    model = NMF(
        n_programs, init="nndsvda", solver="mu", beta_loss="kullback-leibler", max_iter=200, tol=0.0, random_state=0
    )
    signatures = model.fit(counts + 1e-6).components_
    signatures = signatures / np.maximum(signatures.sum(axis=1, keepdims=True), _TINY)
    return np.asarray(0.7 * signatures + 0.3 * mean_profile)


def _position_functions(centers: np.ndarray, pitch: float) -> np.ndarray:
    """Return smooth functions of the position at the spots, one Gaussian every few pitches, shape (n, B)."""
    spacing = _POSITION_SPACING * pitch
    low, extent = centers.min(axis=0), np.ptp(centers, axis=0)
    # On a lattice, these comparisons are often between equal numbers: rounding errors must not decide them.
    axes = [low[i] + spacing * np.arange(np.ceil(extent[i] / spacing - _ROUNDING) + 1) for i in (0, 1)]
    knots = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    knots = knots[cKDTree(centers).query(knots)[0] < spacing * (1 - _ROUNDING)]
    distance = np.linalg.norm(centers[:, None] - knots[None], axis=-1) / spacing
    return np.exp(-0.5 * distance**2 / 0.64)


def _standardize(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.clip((features - mean) / scale, -_CLIP, _CLIP).astype(np.float32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def _minimize(loss: TotalsLoss | CompositionLoss, start: np.ndarray, monitor: RunMonitor) -> np.ndarray:
    def evaluate(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        monitor.check_canceled()
        return loss(parameters)

    options = {"maxiter": _ITERATIONS, "maxcor": 20}
    return np.asarray(minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options).x)
