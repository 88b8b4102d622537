"""Accuracy gained by adapting to persons, and lost where persons do not show every emotion equally often.

``python bench/adaptation.py --data DIR [--voices runs/voice_folds/unseen.npz] [--method classwise]``

Persons are simulated from those of the data, none of whom the fuser was trained on: as they are, with one emotion only,
with 60 or 80 % of one emotion, and with 3 clips. CREMA-D votes are fused by ``--method``, trained on other actors in
five folds; ``--voices`` is unseen.npz of ``python -m recipes.voice --folds-over-all``, fused by a fuser that was
trained on other speakers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for recipes, which are not installed

FOLDS = 5
SHARES = (0.6, 0.8, 1.0)
FEW = 3


def cases(rows: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Names of cases, and the rows of a person in each; ``rows`` are all of theirs."""
    yield "as they are", rows
    for label in np.unique(y[rows]):
        own, others = rows[y[rows] == label], rng.permutation(rows[y[rows] != label])
        for share in SHARES:
            count = round(len(own) * (1 - share) / share)
            name = "one emotion only" if share == 1 else f"{share:.0%} one emotion"
            yield name, np.concatenate([own, others[:count]])
    for _ in range(FEW):
        yield f"{FEW} clips only", rng.permutation(rows)[:FEW]


def measure(P: np.ndarray, y: np.ndarray, persons: np.ndarray, learn: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """Rows, accuracy without and with adaptation by case; ``learn`` fits a fuser to the rows of a mask (n,)."""
    rng = np.random.default_rng(0)
    names = rng.permutation(np.unique(persons))
    hits: dict[str, list[np.ndarray]] = {}
    for fold in range(FOLDS):
        held_out = names[fold::FOLDS]
        fuser = learn(~np.isin(persons, held_out))
        for person in held_out:
            for case, rows in cases(np.flatnonzero(persons == person), y, rng):
                plain, adapted = (f.predict(P[rows]) == y[rows] for f in (fuser, fuser.adapt(P[rows])))
                hits.setdefault(case, []).append(np.stack([plain, adapted], axis=1))
    return {case: (sum(map(len, parts)), *np.concatenate(parts).mean(axis=0)) for case, parts in hits.items()}


def votes(data: Path, method: str) -> dict[str, Any]:
    """CREMA-D votes: what people heard and what they saw."""
    from affuse.data.prediction_sets.cremad_votes import read_cremad_votes
    from affuse.fusion import AdaptiveFuser, make

    table = read_cremad_votes(data, "open")
    P, y, persons = table.P, table.targets, table.groups
    return measure(P, y, persons, lambda rows: AdaptiveFuser(make(method)).fit(P[rows], y[rows], persons[rows]))


def voices(path: Path) -> dict[str, Any]:
    """RAVDESS through the shipped kind of fuser, by networks and a fuser that never heard the speaker."""
    from recipes.fuser import LabelledOutputs, learn, voice_rows

    with np.load(path, allow_pickle=False) as arrays:
        own = arrays["corpus"] == "ravdess"
    rows = voice_rows(path)
    P, y, persons = rows.P[own, None], rows.y[own], rows.persons[own]
    return measure(
        P, y, persons, lambda kept: learn({"voice": LabelledOutputs(P[kept, 0], y[kept], persons[kept])}).fuser
    )


def show(name: str, found: dict[str, Any]) -> None:
    """Print one table."""
    print(f"{name:32}{'rows':>8}{'none':>8}{'person':>8}{'points':>8}")
    for case, (rows, plain, adapted) in found.items():
        print(f"  {case:30}{rows:8}{plain:8.3f}{adapted:8.3f}{100 * (adapted - plain):+8.1f}")


def main() -> None:
    """Print what each case gains or loses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the datasets")
    parser.add_argument("--voices", type=Path, help="unseen.npz of a run of recipes.voice")
    parser.add_argument("--method", default="classwise", help="how the votes are fused")
    options = parser.parse_args()
    show(f"CREMA-D votes, {options.method}", votes(options.data, options.method))
    if options.voices is not None:
        show("RAVDESS, voice", voices(options.voices))


if __name__ == "__main__":
    main()
