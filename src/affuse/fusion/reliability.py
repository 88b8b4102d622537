"""Reliability by class: a pool of log-probabilities and probabilities with a weight for every modality and label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, product

import numpy as np

from affuse.errors import ConfigError
from affuse.fusion.base import Array, Columns, Groups, Mask, patterns_of, present
from affuse.fusion.estimator import Fuser
from affuse.fusion.folds import clustered_error, clusters_of, group_folds
from affuse.fusion.schema import LEAST, Check, each, flag, flags, in_turn, number, numbers, optional

__all__ = ["ClasswisePool", "sets_of"]

Loss = Callable[[Array], tuple[float, Array]]

# With more modalities than this, not all sets of them get a map, only those that occur and those where one is missing.
ALL_SETS_UP_TO = 4
MOST_SETS = 32  # of those that occur, the most frequent
# Every product costs time in every prediction.
MOST_PRODUCTS = 50

# What cross-validation chooses from: from an expert's zeros being next to certain to their being worth little, and
# from one weight for all classes to a map of its own for each.
FLOORS = (1e-5, 1e-3, 1e-2, 0.05, 0.15, 0.35)
SHRINKAGES = (np.inf, 3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0)
_PROBE = 300.0  # shrinkage at which floors are compared, besides infinity
_SEARCH_ROWS = 6000  # more rows than this tell the same about floor and shrinkage, and cost time

# Pulls in rows. Probabilities move by 1 where their logarithms move by about ten, so their weights may be larger.
_POOL_PULL = 10.0
_VOTE_SHARE = 1 / 100
_SQUARE_SHARE = 1 / 30
_PAIR_SHARE = 1 / 10
_INTERCEPT_SHARE = 1 / 100

# When to stop: what is only compared with its neighbours need not be as exact as what answers.
_EXACT = {"maxiter": 500, "ftol": 1e-10, "gtol": 1e-6}
_ROUGH = {"maxiter": 200, "ftol": 1e-7, "gtol": 1e-4}


@dataclass(frozen=True)
class _Settings:
    """Share of the uniform distribution that is mixed in, pull towards the pool in rows, and whether products count."""

    floor: float
    shrinkage: float
    products: bool = False


@dataclass(frozen=True)
class _Map:
    """Linear map to logits: ``bias`` (k,), of log-probabilities and of probabilities (s k, k), of their products.

    ``doubt`` is the share of the uniform distribution in the answer.
    """

    bias: Array
    logs: Array
    votes: Array
    products: Array | None
    doubt: float


class ClasswisePool(Fuser):
    """Logarithmic pool with reliability by class: a linear map a modality, shrunk towards one weight for all classes.

    The logits are ``b + Σ_m (W_m log p_m + V_m p_m)``: Dirichlet calibration with off-diagonal and intercept
    regularisation (ODIR) of all modalities together, with the probabilities beside their logarithms. Ridge penalties
    pull ``W_m`` and ``V_m`` to ``w_m I`` and ``v_m I``, and b to the log prior as often as the pool lacks it. That is
    the pool with two numbers a modality, which is learned first, itself pulled to the geometric mean of the
    probabilities. Squares of the probabilities and products of those of two modalities are added where there are few
    and held-out rows have a smaller loss with them. How much of the uniform distribution is mixed into the
    probabilities and the strength of the pull are chosen by cross-validation on log loss; the pool itself is kept where
    nothing is better by more than a standard error.

    Every set of modalities has a map of its own (with more than four modalities, those sets that occur, or that lack
    one modality), learned on all rows in which the set is present, so a missing modality is not replaced by anything.
    The answer holds ``1 / (n + 2)`` of the uniform distribution, n being the rows of `fit` (rule of succession). Gaps:
    see above; a set without a map is answered by the pool. Ties: the first column.

    Parameters
    ----------
    shrinkage : float, optional
        Pull towards the pool, in rows; infinity is the pool itself, None chooses.
    floor : float, optional
        Share of the uniform distribution mixed into every modality, above 0 and below 1; None chooses.
    products : bool, optional
        Whether squares and products of probabilities are used; None chooses.
    folds : int
        Number of folds of the cross-validation, at least 2; groups are not split.

    Attributes
    ----------
    floor_, shrinkage_, products_ : float, float, bool
        What was chosen.
    weights_ : array of shape (n_modalities, 2)
        Weights of log-probabilities and of probabilities of every modality in the pool.
    sets_ : array of bool of shape (n_sets, n_modalities)
        Modalities of each set that has a map.

    References
    ----------
    Kull et al. (2019), Beyond temperature scaling: Dirichlet calibration. arXiv:1910.12656

    Examples
    --------
    A face that recognises the first label well and a voice that recognises the second:

    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=900)
    >>> L = rng.normal(size=(900, 2, 3))
    >>> L[np.arange(900), 0, y] += np.array([3.0, 0.0, 1.0])[y]
    >>> L[np.arange(900), 1, y] += np.array([0.0, 3.0, 1.0])[y]
    >>> P = np.exp(L) / np.exp(L).sum(axis=2, keepdims=True)
    >>> pool, classwise = (ClasswisePool(s).fit(P[:600], y[:600]) for s in (np.inf, None))
    >>> classwise.score(P[600:], y[600:]) > pool.score(P[600:], y[600:])
    True
    """

    def __init__(
        self,
        shrinkage: float | None = None,
        floor: float | None = None,
        products: bool | None = None,
        folds: int = 5,
    ) -> None:
        self.shrinkage = shrinkage
        self.floor = floor
        self.products = products
        self.folds = folds

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        n, sizes = len(self.sets_), [int(members.sum()) for members in self.sets_]
        maps = in_turn([numbers(s * k, k) for s in sizes])
        return {
            "floor_": number(0.0, 1.0),
            "shrinkage_": number(low=0.0, infinite=True),
            "products_": flag,
            "weights_": numbers(m, 2),
            "sets_": flags(n, m),
            "biases_": each(numbers(k), n),
            "doubts_": each(number(0.0, 1.0), n),
            "log_maps_": maps,
            "vote_maps_": maps,
            "product_maps_": in_turn([optional(numbers(_count_products(s, k), k)) for s in sizes]),
            "prior_": numbers(k, low=LEAST, high=1.0),
        }

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Choose floor and strengths on the rows with the most modalities present, then learn a map for every set
        self._check_parameters()
        here = present(P)
        settings = self._choose(P, y, clusters_of(groups, len(y)), here)
        self.floor_, self.shrinkage_, self.products_ = settings.floor, settings.shrinkage, settings.products
        log_prior = _centred(np.log(self.prior_))
        self.weights_ = _fit_pool(_Rows.of(P, y), settings.floor, log_prior)
        sets, maps = [], []
        for members in sets_of(here):
            rows = here[:, members].all(axis=1)
            if rows.any():
                sets.append(members)
                maps.append(_fit_map(_Rows.of(P[rows][:, members], y[rows]), settings, log_prior))
        self.sets_ = np.array(sets, dtype=bool).reshape(-1, P.shape[1])
        self.biases_ = [found.bias for found in maps]
        self.log_maps_ = [found.logs for found in maps]
        self.vote_maps_ = [found.votes for found in maps]
        self.product_maps_ = [found.products for found in maps]
        self.doubts_ = [found.doubt for found in maps]

    def combine(self, P: Array, here: Mask) -> Array:
        # Answers (n, k) of the maps of each row's set of modalities
        if here.all():
            return self._answer(P, np.ones(P.shape[1], dtype=bool))
        answers = np.full((len(P), P.shape[2]), np.nan)
        for members, rows in patterns_of(here):
            if members.any():
                answers[rows] = self._answer(P[rows][:, members], members)
        return answers

    def _check_parameters(self) -> None:
        if self.shrinkage is not None and not self.shrinkage > 0:
            raise ConfigError(f"shrinkage must be above 0; got {self.shrinkage}")
        if self.floor is not None and not 0 < self.floor < 1:
            raise ConfigError(f"floor must be above 0 and below 1; got {self.floor}")
        if not self.folds >= 2:
            raise ConfigError(f"folds must be at least 2; got {self.folds}")

    def _choose(self, P: Array, y: Columns, clusters: Columns, here: Mask) -> _Settings:
        floors = FLOORS if self.floor is None else (self.floor,)
        shrinkages = SHRINKAGES if self.shrinkage is None else (self.shrinkage,)
        patterns, counts = np.unique(here, axis=0, return_counts=True)
        members = patterns[np.lexsort((counts, patterns.sum(axis=1)))[-1]]
        rows = here[:, members].all(axis=1)
        search = _Search(P[rows][:, members], y[rows], clusters[rows], self.folds, np.log(self.prior_))
        return (
            search.settings(floors, shrinkages, self.products) if members.any() else _Settings(floors[0], shrinkages[0])
        )

    def _answer(self, P: Array, members: Mask) -> Array:
        """Answers (n, k) for P (n, s, k) in which exactly the s ``members`` (m,) are present."""
        found = np.flatnonzero((self.sets_ == members).all(axis=1))
        k = P.shape[2]
        if len(found) == 0:
            pooled = _pool_map(self.weights_[members], np.log(self.prior_), k)
            return _answers(P, pooled, self.floor_)
        i = found[0]
        known = _Map(self.biases_[i], self.log_maps_[i], self.vote_maps_[i], self.product_maps_[i], self.doubts_[i])
        return _answers(P, known, self.floor_)


def sets_of(here: Mask) -> Mask:
    """Sets (s, m) of modalities that get a map of their own, from which modality is present where (n, m)."""
    m = here.shape[1]
    if m <= ALL_SETS_UP_TO:
        sets: Mask = np.array(list(product([False, True], repeat=m)))
    else:
        whole, single = np.ones((1, m), dtype=bool), np.eye(m, dtype=bool)
        patterns, counts = np.unique(here, axis=0, return_counts=True)
        common = patterns[np.argsort(-counts, kind="stable")[:MOST_SETS]]
        sets = np.unique(np.vstack([common, whole, ~single, single]), axis=0)
    return sets[sets.any(axis=1)]


@dataclass(frozen=True)
class _Rows:
    """Distinct rows P (u, s, k), and how often each label was right there, Y (u, k).

    Votes and verdicts repeat: 17,000 rows of three verdicts are 300 distinct ones.
    """

    P: Array
    Y: Array

    @classmethod
    def of(cls, P: Array, y: Columns) -> _Rows:
        k = P.shape[2]
        flat = np.ascontiguousarray(P.reshape(len(P), -1))
        # Rows are compared as bytes: sorting whole rows of floats takes longer than fitting on them.
        keys = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
        _, first, index = np.unique(keys, return_index=True, return_inverse=True)
        Y = np.zeros((len(first), k))
        np.add.at(Y, (index.ravel(), y), 1.0)
        return cls(P[first], Y)


@dataclass
class _Search:
    """Cross-validation of settings on P (n, s, k), in which all s modalities are present."""

    P: Array
    y: Columns
    clusters: Columns
    folds: int
    log_prior: Array
    pools: dict[float, list[Array]] = field(default_factory=dict)

    def settings(self, floors: Sequence[float], shrinkages: Sequence[float], products: bool | None) -> _Settings:
        """The best of ``floors`` and ``shrinkages``; see `ClasswisePool`."""
        self._thin()
        cheapest = _Settings(floors[len(floors) // 2], shrinkages[0], bool(products))
        if len(np.unique(self.clusters)) < 2 or (len(floors) == len(shrinkages) == 1 and products is not None):
            return cheapest
        probes = [s for s in shrinkages if s in (np.inf, _PROBE)] or list(shrinkages[:1])
        tried = {(f, s): self._losses(_Settings(f, s)) for f in floors for s in probes} if len(floors) > 1 else {}
        floor = min(tried, key=lambda key: tried[key].mean())[0] if tried else floors[0]
        ladder = [
            tried[floor, s] if (floor, s) in tried else self._losses(_Settings(floor, s, bool(products)))
            for s in shrinkages
        ]
        chosen = int(np.argmin([losses.mean() for losses in ladder]))
        if shrinkages[0] == np.inf and self._within_error(ladder[0], ladder[chosen]):
            chosen = 0  # one weight for all classes, unless more of them are better by more than a standard error
        found = _Settings(floor, shrinkages[chosen], bool(products))
        if products is None and found.shrinkage < np.inf and _count_products(*self.P.shape[1:]) <= MOST_PRODUCTS:
            more = replace(found, products=True)
            return more if self._losses(more).mean() < ladder[chosen].mean() else found
        return found

    def _thin(self) -> None:
        """Keep whole groups, drawn by a fixed seed, of about as many rows as are needed."""
        sizes = np.bincount(np.unique(self.clusters, return_inverse=True)[1])
        index = np.unique(self.clusters, return_inverse=True)[1]
        order = np.random.default_rng(0).permutation(len(sizes))
        before = np.cumsum(sizes[order]) - sizes[order]
        kept = np.zeros(len(sizes), dtype=bool)
        kept[order[(before < _SEARCH_ROWS) | (np.arange(len(order)) < 2 * self.folds)]] = True
        rows = kept[index]
        self.P, self.y, self.clusters = self.P[rows], self.y[rows], self.clusters[rows]

    def _losses(self, settings: _Settings) -> Array:
        """Held-out negative log-likelihood of every row (n,)."""
        losses = np.empty(len(self.y))
        for (rows, held_out), weights in zip(self._parts, self._weights(settings.floor), strict=True):
            found = _fit_map(rows, settings, self.log_prior, weights, rough=True)
            answers = _answers(self.P[held_out], found, settings.floor)
            losses[held_out] = -np.log(answers[np.arange(len(answers)), self.y[held_out]])
        return losses

    @cached_property
    def _parts(self) -> list[tuple[_Rows, Mask]]:
        """Rows to learn from, and which rows (n,) are held out, of every fold."""
        folds = group_folds(self.clusters, self.folds)
        return [(_Rows.of(self.P[learned], self.y[learned]), held_out) for learned, held_out in folds]

    def _weights(self, floor: float) -> list[Array]:
        """Weights (s, 2) of the pool of every fold; all shrinkages pull towards the same ones."""
        if floor not in self.pools:
            self.pools[floor] = [_fit_pool(rows, floor, _centred(self.log_prior)) for rows, _ in self._parts]
        return self.pools[floor]

    def _within_error(self, losses: Array, best: Array) -> bool:
        worse = losses - best
        return bool(worse.mean() <= clustered_error(worse, self.clusters)) if worse.any() else True


def _centred(values: Array) -> Array:
    return np.asarray(values - values.mean(axis=-1, keepdims=True))


def _mixed_logs(P: Array, floor: float) -> Array:
    """Logarithms of P (n, s, k) with a share ``floor`` of the uniform distribution; what is NaN stays NaN."""
    mixed = P * (1 - floor)
    mixed += floor / P.shape[2]
    return np.asarray(np.log(mixed, out=mixed))


def _log_softmax(scores: Array) -> Array:
    """Logarithms of the softmax of every row (n, k); as scipy's, in a quarter of the time."""
    columns = np.array(scores.T, order="C")  # sums over few long rows are many times faster than over many short ones
    columns -= columns.max(axis=0)
    columns -= np.log(np.exp(columns).sum(axis=0))
    return np.ascontiguousarray(columns.T)


def _minimise(loss: Loss, start: Array, bounds: object = None, rough: bool = False) -> Array:
    from scipy.optimize import minimize  # slow to import, and only learning needs it

    options = _ROUGH if rough else _EXACT
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x)


def _pool_features(P: Array, floor: float, log_prior: Array) -> Array:
    """What the pool weighs, (n, 2 s, k): log-probabilities less the log prior, then probabilities; 0 in gaps."""
    k = P.shape[2]
    logs = _centred(_mixed_logs(P, floor)) - log_prior
    features = np.concatenate([logs, k * P - 1], axis=1)
    return np.where(np.isnan(features), 0.0, features)


def _fit_pool(rows: _Rows, floor: float, log_prior: Array) -> Array:
    """Weights (s, 2) of log-probabilities and of probabilities that maximise the likelihood, pulled to the mean."""
    features = _pool_features(rows.P, floor, log_prior)
    s = rows.P.shape[1]
    aim = np.concatenate([np.full(s, 1 / s), np.zeros(s)])
    count = rows.Y.sum(axis=1, keepdims=True)

    def loss(weights: Array) -> tuple[float, Array]:
        L = _log_softmax(log_prior + np.einsum("m,nmk->nk", weights, features))
        slope = np.einsum("nk,nmk->m", count * np.exp(L) - rows.Y, features) + _POOL_PULL * (weights - aim)
        value = -(L * rows.Y).sum() + _POOL_PULL * ((weights - aim) ** 2).sum() / 2
        return value / count.sum(), slope / count.sum()

    return _minimise(loss, aim, [(0.0, 10.0)] * s + [(None, None)] * s).reshape(2, s).T


def _pool_map(weights: Array, log_prior: Array, k: int, doubt: float = 0.0) -> _Map:
    """The pool of ``weights`` (s, 2) as a linear map."""
    log_prior = _centred(log_prior)
    logs = np.vstack([w * np.eye(k) for w, _ in weights])
    votes = np.vstack([v * k * np.eye(k) for _, v in weights])
    return _Map((1 - weights[:, 0].sum()) * log_prior, logs, votes, None, doubt)


def _design(P: Array, floor: float, products: bool) -> tuple[Array, Array]:
    """Features (n, d) of the class-wise part and the share (d,) of the shrinkage that pulls at each."""
    n, s, k = P.shape
    parts = [np.ones((n, 1)), _centred(_mixed_logs(P, floor)).reshape(n, -1), P.reshape(n, -1) - 1 / k]
    shares = [_INTERCEPT_SHARE, 1.0, _VOTE_SHARE]
    if products:
        found = _products(P) - 1 / k**2
        parts += [found[:, : s * k], found[:, s * k :]]
        shares += [_SQUARE_SHARE, _PAIR_SHARE]
    return np.hstack(parts), np.repeat(shares, [part.shape[1] for part in parts])


def _count_products(s: int, k: int) -> int:
    return s * k + s * (s - 1) // 2 * k * k


def _products(P: Array) -> Array:
    """Squares of the probabilities (n, s k), then products of those of every two modalities (n, pairs k k)."""
    n, s, k = P.shape
    columns = np.ascontiguousarray(P.reshape(n, s * k).T).reshape(s, k, n)  # long rows multiply many times faster
    found = np.empty((_count_products(s, k), n))
    np.square(columns, out=found[: s * k].reshape(s, k, n))
    crossed = found[s * k :].reshape(-1, k, k, n)
    for i, (a, b) in enumerate(combinations(range(s), 2)):
        np.multiply(columns[a][:, None], columns[b][None], out=crossed[i])
    return found.T


def _fit_map(
    rows: _Rows, settings: _Settings, log_prior: Array, weights: Array | None = None, rough: bool = False
) -> _Map:
    """The map of one set of modalities, all of which are present in ``rows``; ``rough`` for comparing settings.

    ``weights`` (s, 2) are those of the pool on these rows, fitted here where None.
    """
    _, s, k = rows.P.shape
    log_prior = _centred(log_prior)
    if weights is None:
        weights = _fit_pool(rows, settings.floor, log_prior)
    pooled = _pool_map(weights, log_prior, k, doubt=1 / (rows.Y.sum() + 2))
    if settings.shrinkage == np.inf:
        return pooled
    X, shares = _design(rows.P, settings.floor, settings.products)
    # In units of its pull every weight is pulled alike, which is what the optimiser likes best.
    scale = 1 / np.sqrt(shares * settings.shrinkage)
    found = _fit_deviations(X * scale, rows.Y, _logits(rows.P, pooled, settings.floor), rough) * scale[:, None]
    ends = np.cumsum([1, s * k, s * k])
    bias, logs, votes, products = np.split(found, ends)
    # The features were centred, which the map does not ask for: what that took off goes into bias and map.
    logs = (logs.reshape(s, k, k) - logs.reshape(s, k, k).mean(axis=1, keepdims=True)).reshape(s * k, k)
    bias = bias[0] - votes.sum(axis=0) / k - products.sum(axis=0) / k**2
    return _Map(
        pooled.bias + bias,
        pooled.logs + logs,
        pooled.votes + votes,
        products if settings.products else None,
        pooled.doubt,
    )


def _fit_deviations(X: Array, Y: Array, offset: Array, rough: bool) -> Array:
    """Weights (d, k) of X (n, d) that maximise the likelihood of counts Y (n, k) beside ``offset``, pulled to 0."""
    count = Y.sum(axis=1, keepdims=True)
    total = count.sum()

    def loss(flat: Array) -> tuple[float, Array]:
        W = flat.reshape(X.shape[1], -1)
        L = _log_softmax(X @ W + offset)
        slope = X.T @ (count * np.exp(L) - Y) + W
        return float(-(L * Y).sum() + (W**2).sum() / 2) / total, slope.ravel() / total

    return _minimise(loss, np.zeros(X.shape[1] * Y.shape[1]), rough=rough).reshape(X.shape[1], -1)


def _logits(P: Array, found: _Map, floor: float) -> Array:
    n, s, k = P.shape
    logits = _mixed_logs(P, floor).reshape(n, s * k) @ found.logs
    logits += P.reshape(n, s * k) @ found.votes
    logits += found.bias
    if found.products is not None:
        logits += _products(P) @ found.products
    return np.asarray(logits)


def _answers(P: Array, found: _Map, floor: float) -> Array:
    """Probabilities (n, k) that the map gives to P (n, s, k)."""
    answers = _logits(P, found, floor)
    answers -= answers.max(axis=1, keepdims=True)
    np.exp(answers, out=answers)
    k = P.shape[2]
    answers *= ((1 - found.doubt) / (answers @ np.ones(k)))[:, None]
    answers += found.doubt / k
    return answers
