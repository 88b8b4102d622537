"""How good whole answers are: every modality alone, fused, and the best possible choice among the modalities.

Pure functions of arrays: what the modalities say ``P`` (n, m, k), what is answered ``fused`` (n, k), which label is
right ``targets`` (n,), and who is in each row ``groups`` (n,). A row of NaN says nothing; nothing is not an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from affuse.errors import DataError
from affuse.evaluation.intervals import cluster_bootstrap
from affuse.evaluation.metrics import confusion_matrix, expected_calibration_error, f1_scores, reliability
from affuse.evaluation.significance import holm, paired_permutation

__all__ = [
    "answers_report",
    "break_down",
    "condition",
    "oracle",
    "paired_difference",
    "product_report",
]

_LEVEL = 0.95
_CALIBRATION_BINS = 15  # those of `expected_calibration_error`
_DRAWS_AT_ONCE = 100  # of a bootstrap; keeps the memory flat
_LEAST_ROWS = 10  # that a value of a column needs to be compared with others
_MOST_VALUES = 30  # of a column that rows are broken down by
_MOST_PAIRED = 8  # values up to which every pair is tested
_MOST_CELLS = 20_000_000  # rows times draws of a permutation test within groups
_ALPHA = 0.05


def product_report(
    P: np.ndarray,
    fused: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    modalities: Sequence[str],
    labels: Sequence[str],
    by: Mapping[str, Sequence[str]] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """All measures of a product on labelled rows, as a dict that JSON can hold.

    Parameters
    ----------
    P : array of shape (n, m, k)
        What every modality says by itself; NaN rows where it has no evidence.
    fused : array of shape (n, k)
        The answer; NaN rows where there is none.
    targets : int array of shape (n,)
        Column of the right label.
    groups : array of shape (n,)
        Who or what a row belongs to; intervals draw, and tests swap, whole groups.
    modalities : sequence of m str
        Names of the modalities.
    labels : sequence of k str
        Names of the labels.
    by : mapping of str to sequence of n str, optional
        Values of columns that the fused answer is broken down by; rows with "" are left out.
    draws : int
        Draws of the intervals.
    seed : int
        Seed of the draws.

    Returns
    -------
    dict
        ``n``, ``groups`` (their number), ``labels``, ``modalities``, and two views of the same answers:
        ``as_answered`` over all labels, ``restricted`` conditioned on the labels that occur among the targets. A view
        holds ``modalities`` (an `answers_report` each), ``fused``, ``oracle``, ``best_single``, ``difference`` and
        ``all_rows_difference`` (see `paired_difference`) and ``by`` (a `break_down` each).

    Raises
    ------
    DataError
        Where the shapes do not fit together or there are no rows.

    Examples
    --------
    >>> P = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.2, 0.8], [np.nan, np.nan]]])
    >>> found = product_report(P, P[:, 0], np.array([0, 1]), np.array(["a", "b"]), ["face", "voice"], ["x", "y"])
    >>> found["as_answered"]["fused"]["accuracy"], found["as_answered"]["modalities"]["voice"]["accuracy"]
    (1.0, 0.0)
    """
    P, fused, targets, groups = np.asarray(P), np.asarray(fused), np.asarray(targets), np.asarray(groups)
    _check(P, fused, targets, groups, modalities, labels)
    seen = np.unique(targets)
    options = {"draws": draws, "seed": seed}

    def view(columns: np.ndarray) -> dict[str, Any]:
        new = np.full(len(labels), -1)
        new[columns] = np.arange(len(columns))
        own = [labels[c] for c in columns]
        return _view(
            condition(P, columns), condition(fused, columns), new[targets], groups, modalities, own, by, options
        )

    return {
        "n": len(targets),
        "groups": len(np.unique(groups)),
        "labels": list(labels),
        "modalities": list(modalities),
        "as_answered": view(np.arange(len(labels))),
        "restricted": view(seen),
    }


def _check(
    P: np.ndarray,
    fused: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    modalities: Sequence[str],
    labels: Sequence[str],
) -> None:
    n, m, k = len(targets), len(modalities), len(labels)
    if P.shape != (n, m, k) or fused.shape != (n, k) or len(groups) != n:
        raise DataError(
            f"{n} targets, {m} modalities and {k} labels need P of shape ({n}, {m}, {k}), fused of ({n}, {k}) and {n} "
            f"groups; got {P.shape}, {fused.shape} and {len(groups)}"
        )
    if n == 0:
        raise DataError("there are no rows to measure on")


def _view(
    P: np.ndarray,
    fused: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    modalities: Sequence[str],
    labels: Sequence[str],
    by: Mapping[str, Sequence[str]] | None,
    options: Mapping[str, int],
) -> dict[str, Any]:
    alone = {name: answers_report(P[:, i], targets, groups, **options) for i, name in enumerate(modalities)}
    best = max(modalities, key=lambda name: (alone[name]["accuracy_all_rows"], alone[name]["n"] > 0))
    single = P[:, list(modalities).index(best)]
    both = _speaks(single) & _speaks(fused)
    hits, single_hits = _hits(fused, targets), _hits(single, targets)
    broken = {
        name: break_down(fused, targets, groups, np.asarray(values), **options) for name, values in (by or {}).items()
    }
    _adjust(broken)
    return {
        "labels": list(labels),
        "modalities": alone,
        "fused": answers_report(fused, targets, groups, **options),
        "oracle": answers_report(oracle(P, targets), targets, groups, **options),
        "best_single": best,
        "difference": paired_difference(hits[both], single_hits[both], groups[both], **options),
        "all_rows_difference": paired_difference(hits, single_hits, groups, **options),
        "by": broken,
    }


# --- rows -------------------------------------------------------------------------------------------------------------


def condition(P: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Probabilities (..., k) on the condition that one of ``columns`` (c,) is right: (..., c), rows sum to 1.

    NaN rows stay NaN; a row that gives all of them probability 0 becomes uniform, since nothing prefers one.
    """
    kept = np.asarray(P, dtype=float)[..., columns]
    total = kept.sum(axis=-1, keepdims=True)
    spread = np.where(np.isnan(total), np.nan, 1 / len(columns)) * np.ones(kept.shape)
    return np.divide(kept, total, out=spread, where=total > 0)


def oracle(P: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The best possible choice of one modality a row: (n, k) from P (n, m, k) and targets (n,).

    The surest of the modalities that are right, or the surest of all where none is; NaN where none says anything. It
    knows the truth, so it bounds what choosing among the modalities can reach (not what combining them can).
    """
    top = np.nan_to_num(P.max(axis=2), nan=-np.inf)
    right = np.nan_to_num(P, nan=-1.0).argmax(axis=2) == np.asarray(targets)[:, None]
    chosen = np.where(np.isneginf(top), -np.inf, top + right).argmax(axis=1)
    return np.asarray(P[np.arange(len(P)), chosen])


def _speaks(P: np.ndarray) -> np.ndarray:
    return ~np.isnan(P).any(axis=-1)


def _hits(P: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Where P (n, k) says something and it is right (n,)."""
    return np.asarray(_speaks(P) & (np.nan_to_num(P, nan=-1.0).argmax(axis=1) == targets))


# --- one source of answers --------------------------------------------------------------------------------------------


def answers_report(
    P: np.ndarray, targets: np.ndarray, groups: np.ndarray, draws: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Measures of answers P (n, k), of which NaN rows are none; as `affuse.evaluation.classification_report`.

    ``n`` rows are answered, which is the share ``coverage`` of all. All measures are over these rows, but
    ``accuracy_all_rows``, where no answer counts as a wrong one. ``confidence`` is the mean probability of what is
    answered, ``reliability`` the bins of `reliability`. ``accuracy_ci95``, ``uar_ci95``, ``macro_f1_ci95`` and
    ``ece_ci95`` are percentile intervals over draws of whole groups (Field & Welsh 2007,
    doi:10.1111/j.1467-9868.2007.00593.x), None with fewer than two groups; a label that is not drawn does not count in
    that draw. All are None where nothing is answered.
    """
    spoken = _speaks(P)
    n, k = int(spoken.sum()), P.shape[1]
    hits = _hits(P, targets)
    about = {"n": n, "coverage": n / len(P), "accuracy_all_rows": float(hits.mean())}
    if n == 0:
        names = ("accuracy", "uar", "macro_f1", "ece")
        nothing = dict.fromkeys([*names, *(f"{name}_ci95" for name in names), "weighted_f1", "confidence"])
        return about | nothing | {"confusion": np.zeros((k, k), dtype=int).tolist(), "reliability": []}
    P, targets, groups = P[spoken], targets[spoken], groups[spoken]
    confusion = confusion_matrix(targets, P.argmax(axis=1), k)
    counts = confusion.sum(axis=1)
    measured = _measures(confusion)
    intervals = _intervals(P, targets, groups, draws, seed)
    return (
        about
        | {name: float(value) for name, value in measured.items()}
        | {
            "weighted_f1": float((f1_scores(confusion) * counts).sum() / counts.sum()),
            "ece": expected_calibration_error(P, targets),
            "confidence": float(P.max(axis=1).mean()),
        }
        | {f"{name}_ci95": intervals.get(name) for name in (*measured, "ece")}
        | {"confusion": confusion.tolist(), "reliability": reliability(P, targets)}
    )


def _measures(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, unweighted average recall and macro F1 of confusion matrices (..., k, k): (...,) each."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    true, answered = confusion.sum(axis=-1), confusion.sum(axis=-2)
    occurs, seen = true > 0, true + answered > 0
    recall = np.divide(hits, true, out=np.zeros(hits.shape), where=occurs)
    f1 = np.divide(2 * hits, true + answered, out=np.zeros(hits.shape), where=seen)
    return {
        "accuracy": hits.sum(axis=-1) / true.sum(axis=-1),
        "uar": recall.sum(axis=-1) / occurs.sum(axis=-1),
        "macro_f1": f1.sum(axis=-1) / seen.sum(axis=-1),
    }


def _intervals(
    P: np.ndarray, targets: np.ndarray, groups: np.ndarray, draws: int, seed: int
) -> dict[str, list[float] | None]:
    names, index = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return {}
    k, bins = P.shape[1], _CALIBRATION_BINS
    confidence, answers = P.max(axis=1), P.argmax(axis=1)
    confusion = np.zeros((len(names), k * k))
    np.add.at(confusion, (index, targets * k + answers), 1.0)
    gaps = np.zeros((len(names), bins))
    np.add.at(gaps, (index, np.minimum((confidence * bins).astype(int), bins - 1)), confidence - (answers == targets))
    found: dict[str, list[np.ndarray]] = {}
    for weights in _drawn(len(names), draws, seed):
        tables = (weights @ confusion).reshape(-1, k, k)
        drawn = _measures(tables) | {"ece": np.abs(weights @ gaps).sum(axis=1) / tables.sum(axis=(1, 2))}
        for name, values in drawn.items():
            found.setdefault(name, []).append(values)
    return {name: _percentiles(np.concatenate(parts)) for name, parts in found.items()}


def _drawn(count: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of ``count`` groups is drawn, (some, count) at a time."""
    rng = np.random.default_rng(seed)
    for first in range(0, draws, _DRAWS_AT_ONCE):
        rows = min(_DRAWS_AT_ONCE, draws - first)
        chosen = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count).astype(float)


def _percentiles(values: np.ndarray) -> list[float]:
    return [float(v) for v in np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])]


# --- differences ------------------------------------------------------------------------------------------------------


def paired_difference(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray, draws: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """How much more often ``first`` (n,) is right than ``second`` (n,) on the same rows.

    ``difference`` of the accuracies, ``ci95`` over draws of whole groups (None with fewer than two), and ``p`` of a
    sign-flip test in which whole groups swap (`affuse.evaluation.significance.paired_permutation`).
    """
    change = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    if len(change) == 0:
        return {"n": 0, "difference": None, "ci95": None, "p": None}
    several = len(np.unique(groups)) > 1
    return {
        "n": len(change),
        "difference": float(change.mean()),
        "ci95": list(cluster_bootstrap(change, groups, draws=draws, seed=seed)) if several else None,
        "p": paired_permutation(change, groups, seed=seed) if several else None,
    }


def break_down(
    P: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    values: np.ndarray,
    draws: int = 2000,
    seed: int = 0,
    least: int = _LEAST_ROWS,
) -> dict[str, Any]:
    """Answers P (n, k) by the ``values`` (n,) of a column, and whether their accuracies differ by more than chance.

    ``values`` of the result holds n, groups, accuracy and uar with intervals by value; ``p`` is that of a permutation
    test, in which the values are permuted over whole groups where a group has one value (a person's sex), within the
    groups where values change inside them (the sentence that is spoken), as ``dealt`` says. With up to eight values,
    ``pairs`` tests every two of them, adjusted by Holm's method (``p_holm``). ``too_few`` is true where the groups are
    so few that no difference could reach p = .05. Rows with an empty value, or without an answer, are left out; so are
    values with fewer than ``least`` rows, where two others have as many: ``too_small`` holds their counts.

    Raises
    ------
    DataError
        With a single value, or more than 30.

    References
    ----------
    Anderson & ter Braak (2003), Permutation tests for multi-factorial analysis of variance,
    doi:10.1080/00949650215733 (which units may be exchanged).
    """
    kept = _speaks(P) & (values != "")
    names, counts = np.unique(values[kept], return_counts=True)
    too_small = counts < least if (counts >= least).sum() >= 2 else np.zeros(len(counts), bool)
    kept &= ~np.isin(values, names[too_small])
    if not 2 <= len(np.unique(values[values != ""])) <= _MOST_VALUES:
        count = len(np.unique(values[values != ""]))
        raise DataError(f"rows can be compared by a column with 2 to {_MOST_VALUES} different values; got {count}")
    small = {str(name): int(count) for name, count in zip(names[too_small], counts[too_small], strict=True)}
    names = names[~too_small]
    P, targets, groups, values = P[kept], targets[kept], groups[kept], values[kept]
    hits = _hits(P, targets)
    table = {}
    for name in names:
        own = values == name
        found = answers_report(P[own], targets[own], groups[own], draws, seed)
        about = {key: found[key] for key in ("n", "accuracy", "accuracy_ci95", "uar", "uar_ci95")}
        table[str(name)] = about | {"groups": len(np.unique(groups[own]))}
    result = {"values": table, "too_small": small, "left_out": int((~kept).sum())} | _test(hits, values, groups, seed)
    result["pairs"] = _pairs(hits, values, groups, names, seed) if 2 < len(names) <= _MOST_PAIRED else []
    return result


def _pairs(hits: np.ndarray, values: np.ndarray, groups: np.ndarray, names: np.ndarray, seed: int) -> list[Any]:
    found = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            two = (values == first) | (values == second)
            change = float(hits[values == first].mean() - hits[values == second].mean())
            p = _test(hits[two], values[two], groups[two], seed)["p"]
            found.append({"values": [str(first), str(second)], "difference": change, "p": p})
    for pair, adjusted in zip(found, holm([pair["p"] for pair in found]), strict=True):
        pair["p_holm"] = adjusted
    return found


def _adjust(broken: Mapping[str, dict[str, Any]]) -> None:
    """Add to every column its p adjusted for the number of columns."""
    for found, p in zip(broken.values(), holm([found["p"] for found in broken.values()]), strict=True):
        found["p_holm"] = p


def _test(hits: np.ndarray, values: np.ndarray, groups: np.ndarray, seed: int, draws: int = 9999) -> dict[str, Any]:
    names, column = np.unique(values, return_inverse=True)
    if len(names) < 2:
        return {"p": 1.0, "dealt": "to whole groups", "too_few": True}
    _, index = np.unique(groups, return_inverse=True)
    first = np.zeros(index.max() + 1, dtype=int)
    first[index[::-1]] = column[::-1]
    rng = np.random.default_rng(seed)
    if (first[index] == column).all():
        sums, counts = np.bincount(index, hits), np.bincount(index).astype(float)
        p = _permuted(sums, counts, first, lambda rows: rng.permuted(np.tile(first, (rows, 1)), axis=1), draws)
        return {"p": p, "dealt": "to whole groups", "too_few": 1 / _arrangements(first) > _ALPHA}
    order = np.lexsort((column, index))
    index, column, hits = index[order], column[order], hits[order].astype(float)

    def within(rows: int) -> np.ndarray:
        return np.asarray(column[np.argsort(index + rng.random((rows, len(index))), axis=1)])

    p = _permuted(hits, np.ones(len(hits)), column, within, max(999, min(draws, _MOST_CELLS // len(hits))))
    return {"p": p, "dealt": "within groups", "too_few": False}


def _permuted(
    sums: np.ndarray, counts: np.ndarray, column: np.ndarray, deal: Callable[[int], np.ndarray], draws: int
) -> float:
    """p of the sum of squares between values, where units with ``sums`` of ``counts`` rows get ``column`` by chance."""
    observed = _between(sums, counts, column[None])[0]
    extreme = 0
    for start in range(0, draws, _DRAWS_AT_ONCE):
        dealt = deal(min(_DRAWS_AT_ONCE, draws - start))
        extreme += int((_between(sums, counts, dealt) >= observed - 1e-9).sum())
    return (extreme + 1) / (draws + 1)  # the order that was observed counts among those drawn


def _between(sums: np.ndarray, counts: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Weighted sum of squares of the values' accuracies about the mean, a row of ``columns`` (d, units) each: (d,)."""
    mean = sums.sum() / counts.sum()
    total = np.zeros(len(columns))
    for value in range(int(columns.max()) + 1):
        own = (columns == value).astype(float)
        n = own @ counts
        total += np.where(n > 0, (own @ sums - mean * n) ** 2 / np.maximum(n, 1), 0.0)
    return total


def _arrangements(column: np.ndarray) -> float:
    """In how many ways that differ the values of ``column`` (units,) can be dealt."""
    counts = np.bincount(column)
    ways = math.factorial(len(column)) if len(column) < 60 else math.inf
    for count in [*counts, *np.bincount(counts)[1:]]:  # equal values, and values that are equally frequent
        ways = ways if ways == math.inf else ways / math.factorial(int(count))
    return ways
