"""Are answers as often right for everybody? Accuracy by sex, age, race and skin tone of the people, with intervals.

``python -m research.fairness --data DIR [--out docs/fairness.md] [--only cremad]``

Values of a column are compared by a permutation test over whole persons; p-values are adjusted by Holm's method over
the columns of a set. A value with fewer than ten rows is left out. Where people are so few that no difference could be
told from chance, the table says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from affuse.evaluation.formatting import ResultTable, interval
from recipes.command import data_parser, errors_as_sentences
from research.pages import write_between

__all__ = ["SETS", "main", "tables"]

_CPED_ROWS = 3000  # drawn from the dev series, to keep it short
_AGES = ((0, 30, "under 30"), (30, 45, "30 to 44"), (45, 200, "45 and more"))

Broken = Mapping[str, Mapping[str, Any]]


def cremad(data: Path) -> Broken:
    """CREMA-D: what ten people hear and what ten see in a clip, fused, by the actor of the clip."""
    from affuse.data.prediction_sets.cremad_votes import read_cremad_votes
    from affuse.evaluation.product_measures import _adjust, break_down
    from affuse.fusion import registry

    predictions = read_cremad_votes(data)
    people = pd.read_csv(data / "cremad_votes" / "VideoDemographics.csv", dtype={"ActorID": str}).set_index("ActorID")
    actors = people.loc[predictions.groups]
    columns = {
        "sex": actors["Sex"].str.lower().to_numpy(),
        "age": np.array([_age(age) for age in actors["Age"]]),
        "race, as actors say": actors["Race"].to_numpy(),
    }
    P, y, groups = predictions.P, predictions.targets, np.asarray(predictions.groups)
    fused = np.empty((len(y), len(predictions.labels)))
    for train, test in GroupKFold(5, shuffle=True, random_state=0).split(P, groups=groups):
        fused[test] = registry.make("classwise").fit(P[train], y[train], groups[train]).predict_proba(P[test])
    found = {name: break_down(fused, y, groups, values.astype(str)) for name, values in columns.items()}
    _adjust(found)
    return found


def _age(age: int) -> str:
    return next(name for low, high, name in _AGES if low <= age < high)


def _product(dataset: str, by: Sequence[str], split: str, experts: Sequence[str]) -> Callable[[Path], Broken]:
    def measured(data: Path) -> Broken:
        import affuse
        from affuse.analyzer.loading import load_experts

        analyzer = affuse.Analyzer(load_experts({name: name for name in experts}))
        found = affuse.evaluate(dataset, data=data, split=split, by=by, analyzer=analyzer)
        return dict(found.report["as_answered"]["by"])

    return measured


def cped(data: Path) -> Broken:
    """CPED: lines of Chinese television dialogue, read as words, by the speaker."""
    import affuse
    from affuse.analyzer.loading import load_experts
    from affuse.data.corpora.cped import _DEV_SERIES, _NAMES

    table = pd.read_csv(data / "cped" / "dialogues_open.csv")
    series = sorted(table["TV_ID"].unique())[:_DEV_SERIES]
    table = table[table["TV_ID"].isin(series) & table["Emotion"].isin(list(_NAMES)) & table["Utterance"].notna()]
    table = table.sample(min(_CPED_ROWS, len(table)), random_state=0)
    rows = pd.DataFrame(
        {
            "text": table["Utterance"],
            "label": table["Emotion"].map(_NAMES),
            "person": table["TV_ID"].astype(str) + " " + table["Speaker"],
            "sex": table["Gender"].where(table["Gender"].isin(["female", "male"]), ""),
            "age": table["Age"].where(table["Age"] != "unknown", ""),
        }
    )
    with TemporaryDirectory() as folder:
        manifest = Path(folder) / "cped.csv"
        rows.to_csv(manifest, index=False)
        analyzer = affuse.Analyzer(load_experts({"text": "text"}, language="zh"))
        found = affuse.evaluate(manifest, by=["sex", "age"], analyzer=analyzer)
    return dict(found.report["as_answered"]["by"])


SETS: dict[str, tuple[str, Callable[[Path], Broken]]] = {
    "cremad": (
        "CREMA-D, votes of people fused by `classwise`, each actor judged by what was learned from others",
        cremad,
    ),
    "cped": ("CPED dev, words of Chinese television, by the speaker", cped),
    "javanese": (
        "Javanese clips, the face alone, which learned from none of these actors",
        _product("javanese_av", ["sex", "skin_tone"], "open", ["face"]),
    ),
    "javanese_dev": (
        "Javanese dev, whole answers of actors that no expert learned from",
        _product("javanese_av", ["sex", "skin_tone"], "dev", ["face", "voice", "text"]),
    ),
    "ravdess": ("RAVDESS dev, the voice of actors never heard", _product("ravdess", ["sex"], "dev", ["voice"])),
    "emodb": ("EMO-DB dev, the voice of speakers never heard", _product("emodb", ["sex"], "dev", ["voice"])),
}
"""What is measured, by name."""


def tables(data: Path, only: Sequence[str] | None = None) -> str:
    """Tables in Markdown, one a set."""
    parts = []
    for name, (title, measure) in SETS.items():
        if only and name not in only:
            continue
        table = ResultTable(["", "value", "rows", "persons", "accuracy", "95 % interval", "UAR", "verdict"])
        for column, broken in measure(data).items():
            for value, own in broken["values"].items():
                spread = interval(own["accuracy_ci95"]) if own["accuracy_ci95"] else ""
                cells = [f"{own['n']:,}", str(own["groups"]), f"{own['accuracy']:.3f}", spread, f"{own['uar']:.3f}"]
                table.add(column, value, *cells, _verdict(broken))
            for value, count in broken["too_small"].items():
                table.add(column, value, str(count), "", "", "", "", "too few rows")
        parts.append(f"### {title}\n\n{table.markdown()}\n")
    return "\n".join(parts)


def _verdict(broken: Mapping[str, Any]) -> str:
    if broken["too_few"]:
        return "too few persons"
    differs = "differ" if broken["p_holm"] < 0.05 else "no difference beyond chance"
    return f"{differs} (p = {broken['p_holm']:.4f})"


def main() -> None:
    """Measure, and print the tables or put them into a page."""
    parser = data_parser(__doc__)
    parser.add_argument("--only", action="append", choices=list(SETS))
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with errors_as_sentences(parser):
        found = tables(chosen.data, chosen.only)
        if chosen.out is not None:
            write_between(chosen.out, "fairness", found.strip())
    if chosen.out is None:
        print(found)


if __name__ == "__main__":
    main()
