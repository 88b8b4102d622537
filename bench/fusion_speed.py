"""How long fusion rules take to predict, as ratios to bare numpy in the same run (``python bench/fusion_speed.py``).

P holds ``--rows`` rows of 3 modalities and 8 classes, a tenth of them missing. Every time is the least of several
runs, in processor seconds, so that other processes count little. The yardsticks are ``P.sum(axis=1)`` for means,
maxima and votes, and ``np.log(P)`` plus that sum for the product. scikit-learn's voting, DESlib and combo are asked
for the same answers where they are installed (``pip install deslib combo pyod``); they know no gaps, so there are
none in that comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # after the number of threads, which is read when it loads
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import VotingClassifier
from sklearn.preprocessing import LabelEncoder

from affuse.fusion import registry

MODALITIES, CLASSES = 3, 8
FIT_ROWS = 2000
# Rules that must stay within twice their yardstick.
LIMITS = {"mean": "sum", "weighted": "sum", "max": "sum", "vote": "sum", "product": "log + sum"}
# What is learned by default must answer full rows within three times the product rule.
LEARNED = ("auto", "classwise")
MOST_PRODUCTS = 3


def least(function: Callable[[], Any], times: int = 5) -> float:
    """Least processor seconds of several calls."""
    found = []
    for _ in range(times):
        started = time.process_time()
        function()
        found.append(time.process_time() - started)
    return min(found)


def simulated(rows: int, gaps: float = 0.1) -> np.ndarray:
    """Random probabilities (rows, 3, 8), a share of which is missing."""
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(CLASSES), size=(rows, MODALITIES))
    P[rng.random((rows, MODALITIES)) < gaps] = np.nan
    return P


class Told(ClassifierMixin, BaseEstimator):
    """A classifier that finds its answers in its columns of X: what makes scikit-learn's voting fuse given answers."""

    def __init__(self, column: int = 0) -> None:
        self.column = column
        self.classes_ = np.arange(CLASSES)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """The columns of one modality."""
        return X[:, self.column * CLASSES : (self.column + 1) * CLASSES]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The first label of one modality."""
        return self.predict_proba(X).argmax(axis=1)


def voting(how: str) -> VotingClassifier:
    """scikit-learn's voting over told answers, ready to predict."""
    ensemble = VotingClassifier([(str(j), Told(j)) for j in range(MODALITIES)], voting=how)
    ensemble.estimators_ = [Told(j) for j in range(MODALITIES)]
    ensemble.le_ = LabelEncoder().fit(np.arange(CLASSES))
    ensemble.classes_ = ensemble.le_.classes_
    return ensemble


def others() -> Iterator[tuple[str, str, Callable[[np.ndarray], Any]]]:
    """Library, rule and call for each rule that another library offers on the same numbers."""
    yield "scikit-learn", "mean", lambda P: voting("soft").predict(P.reshape(len(P), -1))
    yield "scikit-learn", "vote", lambda P: voting("hard").predict(P.reshape(len(P), -1))
    try:
        from deslib.util import aggregation
    except ImportError:
        pass
    else:
        yield "DESlib", "mean", aggregation.average_rule
        yield "DESlib", "max", aggregation.maximum_rule
        yield "DESlib", "median", aggregation.median_rule
        yield "DESlib", "product", aggregation.product_rule
        yield "DESlib", "vote", lambda P: aggregation.majority_voting_rule(P.argmax(axis=2))
    try:
        from combo.models import score_comb
    except ImportError:
        pass
    else:
        yield "combo", "vote", lambda P: score_comb.majority_vote(P.argmax(axis=2), n_classes=CLASSES)


def informed(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Experts of which each knows some of the labels (rows, 3, 8), and the labels: there is something to learn."""
    rng = np.random.default_rng(0)
    y = np.arange(rows) % CLASSES
    logits = rng.normal(size=(rows, MODALITIES, CLASSES))
    logits[np.arange(rows), :, y] += (2 * rng.random((CLASSES, MODALITIES)))[y]
    P = np.exp(logits)
    return P / P.sum(axis=2, keepdims=True), y


def learned(rows: int) -> dict[str, Any]:
    """Seconds in which fitted fusers give probabilities for rows without gaps, and the ratio to the product rule."""
    P, (told, y) = simulated(rows, gaps=0.0), informed(FIT_ROWS)
    product = registry.make("product").fit(told, y)
    yardstick = least(lambda: product.predict_proba(P))
    found: dict[str, Any] = {"product": {"seconds": yardstick, "ratio": 1.0, "chosen": ""}}
    for name in LEARNED:
        fuser = registry.make(name).fit(told, y)
        seconds = least(lambda fuser=fuser: fuser.predict_proba(P))
        chosen = str(getattr(fuser, "choice", "") or "")
        found[name] = {"seconds": seconds, "ratio": seconds / yardstick, "chosen": chosen}
    return found


def measure(rows: int) -> dict[str, Any]:
    """All figures, as what JSON can hold."""
    P = simulated(rows)
    total = least(lambda: P.sum(axis=1))
    logarithm = least(lambda: np.log(P))
    yardsticks = {"sum": total, "log + sum": logarithm + total}
    y = np.arange(FIT_ROWS) % CLASSES
    part = P[: rows // 10]
    rules = {}
    for name in registry.names():
        fuser = registry.make(name).fit(P[:FIT_ROWS], y)
        seconds = least(lambda fuser=fuser: fuser.predict(P), times=5 if name in LIMITS else 1)
        tenth = least(lambda fuser=fuser: fuser.predict(part), times=5 if name in LIMITS else 2)
        yardstick = LIMITS.get(name, "sum")
        rules[name] = {
            "seconds": seconds,
            "ratio": seconds / yardsticks[yardstick],
            "yardstick": yardstick,
            "per row against a tenth of the rows": seconds / tenth / 10,
            "peak memory against P": peak_memory(fuser, part) / part.nbytes,
        }
    others = list(compare(rows))
    return {"rows": rows, "yardsticks": yardsticks, "rules": rules, "learned": learned(rows), "others": others}


def peak_memory(fuser: Any, P: np.ndarray) -> int:
    """Most bytes that predict holds at a time, its answer included."""
    tracemalloc.start()
    fuser.predict(P)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def compare(rows: int) -> Iterator[dict[str, Any]]:
    """Seconds of affuse and of other libraries on the same rows without gaps; of votes a tenth: others loop there."""
    whole = simulated(rows, gaps=0.0)
    y = np.arange(FIT_ROWS) % CLASSES
    for library, rule, call in others():
        P = whole[: rows // 10] if rule == "vote" else whole
        fuser = registry.make(rule).fit(P[:FIT_ROWS], y)
        found = {"library": library, "rule": rule, "rows": len(P), "affuse": least(lambda: fuser.predict(P))}  # noqa: B023
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what other libraries warn of is theirs
            try:
                found["seconds"] = least(lambda: call(P), times=3)  # noqa: B023
            except Exception as error:
                found["error"] = f"{type(error).__name__}: {error}"
        yield found


def show(figures: dict[str, Any]) -> None:
    """Print the figures as tables."""
    print(f"{figures['rows']:,} rows x {MODALITIES} modalities x {CLASSES} classes, a tenth missing")
    print(", ".join(f"{name}: {seconds:.3f} s" for name, seconds in figures["yardsticks"].items()))
    print(f"\n{'rule':<18}{'seconds':>9}{'ratio':>8}  {'to':<10}{'linear':>8}{'memory':>8}")
    for name, row in figures["rules"].items():
        linear, memory = row["per row against a tenth of the rows"], row["peak memory against P"]
        figures_of_rule = (
            f"{row['seconds']:>9.3f}{row['ratio']:>8.2f}  {row['yardstick']:<10}{linear:>8.2f}{memory:>8.2f}"
        )
        print(f"{name:<18}{figures_of_rule}{'  limit 2' * (name in LIMITS)}")
    for name, row in figures["learned"].items():
        chosen = f" ({row['chosen']})" if row["chosen"] else ""
        print(f"{name}{chosen}, full rows, learned: {row['seconds']:.3f} s, {row['ratio']:.2f} times the product's")
    for row in figures["others"]:
        result = row.get("error") or f"{row['seconds']:.3f} s, {row['seconds'] / row['affuse']:.1f} times affuse's"
        print(f"{row['library']}, {row['rule']}, {row['rows']:,} rows without gaps: {result}")


def main() -> None:
    """Measure and print; exit with 1 where a rule is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    if options.rows < 10 * FIT_ROWS:  # a tenth of the rows is fitted on as well
        parser.error(f"--rows takes at least {10 * FIT_ROWS}; got {options.rows}")
    figures = measure(options.rows)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        show(figures)
    slow = [name for name in LIMITS if figures["rules"][name]["ratio"] > 2]
    if slow:
        raise SystemExit(f"over twice their yardstick: {', '.join(slow)}")
    slow = [name for name in LEARNED if figures["learned"][name]["ratio"] > MOST_PRODUCTS]
    if slow:
        raise SystemExit(f"over {MOST_PRODUCTS} times the product rule: {', '.join(slow)}")


if __name__ == "__main__":
    main()
