"""Discriminant analysis with random effects: persons and collections shift the log-probabilities of an expert."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import ConfigError, DataError
from affuse.fusion.base import Array, Columns, Groups, Mask, check_probabilities, patterns_of, present, softmax
from affuse.fusion.estimator import Fuser, check_fitted, check_vector
from affuse.fusion.mixed_model import coordinates, fit_mixed_model, helmert, predicted_shift
from affuse.fusion.schema import LEAST, Check, facts, number, numbers

__all__ = ["UNITS", "RandomEffectsFusion", "check_unit", "counts_of", "trust"]

UNITS = ("person", "member", "collection")
"""What a fuser can adapt to; see `RandomEffectsFusion.adapt`."""

# Bounds of `trust`: below the first number nothing is taken over, above the second everything. They were chosen by
# hand: those of a person by CREMA-D votes, RAVDESS, EMO-DB and Urdu, those of members and collections also by the
# accuracies on Urdu and on the open Javanese clips.
_EVEN = (0.9, 0.97)  # 1 less the divergence of the mean answer from the prior, as a share of log k
_EVEN_MEMBER = (0.6, 0.85)
_DIVERSE = (0.25, 0.35)  # divergence of the answers from their mean, of at most 1
_DIVERSE_COLLECTION = (0.37, 0.47)
_TRUSTED_ROWS = 10.0  # rows of which half the shift is taken over


class RandomEffectsFusion(Fuser):
    """Linear discriminant analysis of log-probabilities with random effects of persons and collections.

    Outside of its corpus an expert is off by a vector in log-probability, another one for every person and every set of
    recordings. For a row x of log-probabilities (in an orthonormal basis of contrasts) with label y, person p and
    collection c the model is ``x = mean[y] + u[p] + v[c] + e``, with normal u, v and e of learned covariances. A row by
    itself is answered with both shifts integrated out: evidence that varies much between persons or collections counts
    less. `adapt` estimates the shift from rows without labels, as far as they determine it, and answers with what it
    then knows. Gaps: the modality is integrated out. Ties: the first column.

    Parameters
    ----------
    floor : float
        Least probability, above 0 and below 1 / n_classes; smaller ones count as this.
    domain : float or array of shape (n_modalities,)
        Variance of the shift of a collection, in squared nats; 0 where new rows are from the same source.
    separate : float
        Prior probability that the modalities of a row express different emotions, at least 0 and below 1: with it,
        contradiction costs confidence as in `CommonCausePool`.
    prior : array of shape (n_classes,), optional
        Label frequencies of the answer; those of ``y`` where None.

    Attributes
    ----------
    means_ : array of shape (n_classes, d)
        Means of the labels, with d = n_modalities * (n_classes - 1) contrasts.
    within_, person_, common_ : array of shape (d, d)
        Covariance within one label and person, of persons' shifts, and of what is not known of the collection's shift.
    shift_ : array of shape (d,)
        Shift that `adapt` found, 0 before.
    adapted_ : dict
        Facts about what `adapt` found, empty before.

    References
    ----------
    Fisher (1936), The use of multiple measurements in taxonomic problems. doi:10.1111/j.1469-1809.1936.tb02137.x

    Laird & Ware (1982), Random-effects models for longitudinal data. doi:10.2307/2529876

    Körding et al. (2007), Causal inference in multisensory perception. doi:10.1371/journal.pone.0000943

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=400)
    >>> L = rng.normal(size=(400, 2, 2)) + 2 * np.eye(2)[y][:, None]
    >>> P = np.exp(L) / np.exp(L).sum(axis=2, keepdims=True)
    >>> fuser = RandomEffectsFusion().fit(P, y)
    >>> bool((fuser.predict(P) == y).mean() > 0.9)
    True
    """

    adapts = True

    def __init__(
        self,
        floor: float = 0.01,
        domain: ArrayLike = 0.0,
        separate: float = 0.0,
        prior: ArrayLike | None = None,
    ) -> None:
        self.floor = floor
        self.domain = domain
        self.separate = separate
        self.prior = prior

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        d = m * (k - 1)
        covariances = dict.fromkeys(("within_", "person_", "common_"), numbers(d, d))
        return {
            "floor": number(LEAST, 1 / k),
            "separate": number(0.0, 1.0 - LEAST),
            "means_": numbers(k, d),
            **covariances,
            "shift_": numbers(d),
            "adapted_": facts,
            "prior_": numbers(k, low=LEAST, high=1.0),
        }

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Learn the means of labels and the covariances within and between persons (``groups``)
        k = P.shape[2]
        if not 0 < self.floor < 1 / k:
            raise ConfigError(f"floor must lie between 0 and 1 / {k}; got {self.floor}")
        domain = np.asarray(self.domain, dtype=float)
        if domain.shape not in {(), (P.shape[1],)} or not (domain >= 0).all():
            raise ConfigError(
                f"domain must be at least 0, one for each of {P.shape[1]} modalities; got {domain.tolist()}"
            )
        if not 0 <= self.separate < 1:
            raise ConfigError(f"separate must be from 0 to below 1; got {self.separate}")
        if self.prior is not None:
            prior = np.maximum(check_vector(self.prior, k, "prior", "classes"), 1e-6)
            self.prior_ = prior / prior.sum()
        some = present(P).any(axis=1)
        if not some.any():
            raise DataError("no row has any evidence to learn from")
        people = None if groups is None else np.unique(groups[some], return_inverse=True)[1]
        X = coordinates(P[some], self.floor)
        self.means_, self.within_, self.person_ = fit_mixed_model(X, y[some], people, P.shape[1], k)
        d = X.shape[1]
        self.common_ = np.diag(np.repeat(np.broadcast_to(domain, P.shape[1]), k - 1))
        self.shift_ = np.zeros(d)
        self.adapted_: dict[str, Any] = {}

    def combine(self, P: Array, here: Mask) -> Array:
        # Posterior (n, k) of P (n, m, k), with the shifts integrated out
        scores = np.zeros((len(P), P.shape[2]))
        if here.all():
            scores = self._scores(P, np.ones(P.shape[1], dtype=bool))
        else:
            for modalities, rows in patterns_of(here):
                if modalities.any():
                    scores[rows] = self._scores(P[rows], modalities)
        fused = softmax(scores)
        return fused if self.separate == 0 else self._with_conflict(P, here, scores, fused)

    def adapt(self, P: ArrayLike, weights: ArrayLike | None = None, of: str = "person") -> Self:
        """The fuser for one person, or one set of recordings, from rows without labels.

        Where the answers show the labels about as often as the prior says, the mean of the rows tells the shift apart
        from the labels, and the estimate is the best linear unbiased prediction. Where they do not, the same mean may
        come from a person who is happy throughout; then the shift is used only in part, down to not at all
        (`affuse.fusion.effects.trust`).

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities; NaN where a modality is missing.
        weights : array of shape (n_samples,), optional
            How many independent rows each counts for, at most 1 each; 1 where None.
        of : {"person", "member", "collection"}
            "member" is a person whose labels are known to be mixed; "collection" several persons with mixed labels, of
            whom only what they share is learned.

        Returns
        -------
        RandomEffectsFusion
            A copy to be used for these rows. Its ``adapted_`` holds "n" rows, "trust" (0 to 1) and "known", the share
            of the shift's variance that is now known (0 to 1).

        Raises
        ------
        DataError
            If shapes do not fit, or weights are negative.
        ConfigError
            If ``of`` is unknown.

        References
        ----------
        Robinson (1991), That BLUP is a good thing. doi:10.1214/ss/1177011926
        """
        check_fitted(self)
        P = check_probabilities(P, self.n_modalities_, len(self.classes_))
        some, counts = present(P).any(axis=1), counts_of(weights, len(P))
        check_unit(of)
        taken = trust(self.predict_proba(P[some]), counts[some], self.prior_, of)
        return self.shifted(P[some], counts[some], taken, of)

    def shifted(self, P: Array, counts: Array, taken: float, of: str = "person") -> Self:
        """`adapt` with a given share of the shift.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Rows that all have some modality.
        counts : array of shape (n_samples,)
            How many independent rows each counts for.
        taken : float
            Share of the estimated shift that is used, 0 to 1.
        of : {"person", "member", "collection"}
            As in `adapt`.

        Returns
        -------
        RandomEffectsFusion
        """
        before = self.common_ if of == "collection" else self.common_ + self.person_
        other = copy(self)
        other.adapted_ = {"n": len(P), "trust": taken, "known": 0.0}
        if taken == 0 or not before.any():
            return other
        noise = self.within_ + self.person_ if of == "collection" else self.within_
        mean, after = predicted_shift(
            coordinates(P, self.floor) - self.shift_, counts, self.prior_ @ self.means_, noise, before
        )
        other.shift_ = self.shift_ + taken * mean
        left = (1 - taken) * before + taken * after
        if of == "collection":
            other.common_ = left
        else:
            other.common_, other.person_ = np.zeros_like(left), left
        other.adapted_["known"] = float(1 - np.trace(left) / np.trace(before))
        return other

    def labelled_shift(self, P: Array, y: Columns) -> Array:
        """Shift of one person whose labels are known.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            The person's rows.
        y : array of int of shape (n_samples,)
            Columns of the right labels.

        Returns
        -------
        array of shape (n_modalities * (n_classes - 1),)
        """
        residuals = coordinates(P, self.floor) - self.means_[y] - self.shift_
        zero = np.zeros(residuals.shape[1])
        return predicted_shift(residuals, np.ones(len(P)), zero, self.within_, self.person_ + self.common_)[0]

    def move(self, P: Array, shift: Array) -> Array:
        """Remove a shift from log-probabilities.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
        shift : array of shape (n_modalities * (n_classes - 1),)
            In the basis of contrasts.

        Returns
        -------
        array of shape (n_samples, n_modalities, n_classes)
        """
        m, k = P.shape[1:]
        L = np.log(np.maximum(P, self.floor)) - shift.reshape(m, k - 1) @ helmert(k).T
        return softmax(L)

    def _scores(self, P: Array, modalities: Mask) -> Array:
        """Log-posteriors (n, k), not normalised, of rows P (n, m, k) in which ``modalities`` (m,) and no others are."""
        k = P.shape[2]
        own = np.repeat(modalities, k - 1)
        covariance = (self.within_ + self.person_ + self.common_)[np.ix_(own, own)]
        means = self.means_[:, own]
        slopes = np.linalg.solve(covariance, means.T)  # (d, k)
        offset = np.log(self.prior_) - ((means / 2 + self.shift_[own]) * slopes.T).sum(axis=1)
        basis = np.kron(np.eye(int(modalities.sum())), helmert(k))
        L = np.log(np.maximum(P if modalities.all() else P[:, modalities], self.floor))
        L = L.reshape(len(P), int(modalities.sum()) * k)
        return np.asarray(L @ (basis @ slopes) + offset)

    def _with_conflict(self, P: Array, here: Mask, scores: Array, fused: Array) -> Array:
        """Mean of the joint answer and the single opinions, weighted by how probable one cause is (Körding, 2007)."""
        alone = np.zeros(P.shape)
        for j in range(P.shape[1]):
            only = np.arange(P.shape[1]) == j
            alone[here[:, j], j] = softmax(self._scores(P[here[:, j]], only))
        count = here.sum(axis=1)
        # How well the opinions agree: with one cause, the sum over labels of the product of the ratios to the prior.
        ratio = np.where(here[:, :, None], np.log(np.maximum(alone, 1e-12)) - np.log(self.prior_), 0.0).sum(axis=1)
        together = np.log((self.prior_ * np.exp(ratio - ratio.max(axis=1, keepdims=True))).sum(axis=1))
        together += ratio.max(axis=1)
        odds = self.separate / (1 - self.separate) * np.exp(np.clip(-together, -500, 500))
        share = np.where(count > 1, odds / (1 + odds), 0.0)[:, None]
        return np.asarray((1 - share) * fused + share * alone.sum(axis=1) / np.maximum(count, 1)[:, None])


def check_unit(of: str) -> None:
    """Raise ConfigError where ``of`` is nothing that a fuser adapts to."""
    if of not in UNITS:
        raise ConfigError(f"a fuser cannot adapt to {of!r}; known: {', '.join(UNITS)}")


def counts_of(weights: ArrayLike | None, n: int) -> Array:
    """How many independent rows each of n rows counts for (n,); one each where None.

    Raises DataError where there is not one number, at least 0, for every row.
    """
    counts = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if counts.shape != (n,):
        raise DataError(f"P has {n} rows, but weights has the shape {counts.shape}")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise DataError(f"weights must be at least 0; the least is {counts.min():g}")
    return counts


def trust(answers: Array, counts: Array, prior: Array, of: str = "person") -> float:
    """How far the labels of rows look as if they had the frequencies of the prior: 0 to 1.

    Three things are required. Many rows: ``n / (n + 10)``. Rows that differ, so that the mean answer is even because
    the labels are, and not because every answer is uncertain (generalised Jensen-Shannon divergence of the answers).
    And, for a person, a mean answer close to the prior (Kullback-Leibler divergence); less of it where it is known that
    the labels are mixed, nothing for a collection. The bounds were chosen by hand, by what simulated persons of one
    label or mostly one label lose and by what adapting gains on labelled sets; docs/adaptation.md names them.

    Parameters
    ----------
    answers : array of shape (n_samples, n_classes)
        Answers that do not use a shift.
    counts : array of shape (n_samples,)
        How many independent rows each counts for.
    prior : array of shape (n_classes,)
        Label frequencies that the rows are assumed to have.
    of : {"person", "member", "collection"}
        As in `RandomEffectsFusion.adapt`.

    Returns
    -------
    float

    Examples
    --------
    >>> even = np.array([0.5, 0.5])
    >>> happy_throughout = np.tile([[0.9, 0.1]], (50, 1))
    >>> trust(happy_throughout, np.ones(50), even)
    0.0
    >>> both = np.tile([[0.9, 0.1], [0.1, 0.9]], (25, 1))
    >>> round(trust(both, np.ones(50), even), 2)
    0.83
    """
    n = float(counts.sum())
    if len(answers) < 2 or n <= 0:
        return 0.0
    mean = counts @ answers / n
    most = np.log(answers.shape[1])
    diversity = float(_entropy(mean) - counts @ _entropy(answers) / n) / most
    taken = _ramp(diversity, *(_DIVERSE_COLLECTION if of == "collection" else _DIVERSE))
    if of != "collection":
        away = float((mean * np.log(np.maximum(mean, 1e-12) / np.maximum(prior, 1e-3))).sum()) / most
        taken *= _ramp(1 - away, *(_EVEN_MEMBER if of == "member" else _EVEN))
    return float(n / (n + _TRUSTED_ROWS) * taken)


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def _entropy(P: Array) -> Any:
    return -(P * np.log(np.maximum(P, 1e-12))).sum(axis=-1)
