"""Measure experts and product with both sets of weights, and put the figures side by side into docs/licences.md.

``AFFUSE_DATA=DIR python scripts/compare_sets.py [--sets research,commercial] [--only ravdess,emodb]`` measures, keeps
what it finds in docs/weight_sets.json, and brings the table up to date. Figures of the research set that are not
measured so are those of ``make figures`` (docs/figures.json). Intervals (95 %) draw speakers where the rows say who
speaks, else rows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affuse.evaluation.formatting import ResultTable
from affuse.files import write_json, write_text
from affuse.weight_sets import RESEARCH, SETS

ROOT = Path(__file__).resolve().parent.parent
KEPT, PAGE = ROOT / "docs" / "weight_sets.json", ROOT / "docs" / "licences.md"

MEASURED: dict[str, tuple[str, str, str]] = {
    "javanese_speech": ("voice", "Javanese, 2 actors never heard", "accuracy"),
    "ravdess": ("voice", "RAVDESS, English", "accuracy"),
    "emodb": ("voice", "EMO-DB, German", "accuracy"),
    "urdu_speech": ("voice", "Urdu, spontaneous, never learned from", "accuracy"),
    "ferplus": ("face", "FER+, pictures of the web", "accuracy"),
    "goemotions": ("text", "GoEmotions, English comments", "macro_f1"),
    "meld": ("text", "MELD, English dialogue", "weighted_f1"),
    "sst2": ("text", "SST-2, English reviews, sentiment", "accuracy"),
    "mosi": ("text", "MOSI, English spoken reviews, sentiment", "accuracy"),
    "smp2020_ewect": ("text", "SMP2020, Chinese microblogs", "macro_f1"),
    "chnsenticorp": ("text", "ChnSentiCorp, Chinese reviews, sentiment", "accuracy"),
    "emotiontalk_words": ("text", "EmotionTalk, Mandarin dialogue", "accuracy"),
    "brighter": ("text", "BRIGHTER, 28 languages, marks", "macro_f1"),
    "javanese_av": ("product", "Javanese clips, face and voice, 2 actors never seen", "accuracy"),
}
"""Corpora (dev): what is measured, what they are, and their headline figure."""

_START, _END = "<!-- sets -->", "<!-- end of sets -->"


def measure(dataset: str, chosen: str, data: str) -> dict[str, Any]:
    """Headline figure of one corpus with one set, rows, and an interval where it is an accuracy or a recall."""
    from affuse.analyzer.loading import load_named
    from affuse.data.corpora import load
    from affuse.evaluation import classification_report
    from affuse.evaluation.experts import answers, evaluate_expert
    from affuse.evaluation.intervals import cluster_bootstrap

    what, _, headline = MEASURED[dataset]
    if what == "product":
        return _product(dataset, chosen, data)
    rows, expert = load(dataset, Path(data), "dev"), load_named(what, chosen)
    if rows.marks is not None:
        return {"n": len(rows), "figure": float(evaluate_expert(expert, rows)[headline])}
    P = answers(expert, rows)
    found: dict[str, Any] = {
        "n": len(rows),
        "figure": float(classification_report(P, rows.targets, rows.labels.labels)[headline]),
    }
    if headline == "accuracy":
        right = (P.argmax(axis=1) == rows.targets).astype(float)
        groups = np.asarray(rows.groups) if what == "voice" else np.arange(len(right))
        found["ci95"] = list(cluster_bootstrap(right, groups))
    return found


def _product(dataset: str, chosen: str, data: str) -> dict[str, Any]:
    from affuse.evaluation.product import evaluate

    facts = evaluate(dataset, data=data, split="dev", weights=chosen).to_dict()
    return _fused(facts)


def _fused(facts: Mapping[str, Any]) -> dict[str, Any]:
    fused = facts["as_answered"]["fused"]
    return {"n": facts["n"], "figure": float(fused["accuracy"]), "ci95": fused["accuracy_ci95"]}


def _of_make_figures() -> dict[str, Any]:
    """What ``make figures`` has measured of the research set, which was in use then."""
    facts = json.loads((ROOT / "docs" / "figures.json").read_text(encoding="utf-8"))
    alone = {name: own for name, own in facts["evaluate"].items() if name in MEASURED}
    found = {name: {"n": own["n"], "figure": own[MEASURED[name][2]]} for name, own in alone.items()}
    return found | {name: _fused(own) for name, own in facts["product"].items() if name in MEASURED}


def table(kept: Mapping[str, Any]) -> str:
    """The figures of both sets side by side, in Markdown."""
    drawn = ResultTable(["part", "measured on (dev)", "rows", "figure", *SETS], left=2)
    for dataset, (what, about, headline) in MEASURED.items():
        found = [kept.get(chosen, {}).get(dataset) for chosen in SETS]
        if any(found):
            n = next(one["n"] for one in found if one)
            drawn.add(what, about, f"{n:,}", headline.replace("_", " "), *(_cell(one) for one in found))
    return drawn.markdown()


def _cell(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "–"
    interval = found.get("ci95")
    return f"{100 * found['figure']:.1f}" + (f" ({100 * interval[0]:.0f}–{100 * interval[1]:.0f})" if interval else "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for, keep it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help="research, commercial or both (default)")
    parser.add_argument(
        "--only", default=",".join(MEASURED), help="names of corpora, with commas; empty: the table alone"
    )
    options = parser.parse_args(arguments)
    for chosen in options.sets.split(","):
        for dataset in filter(None, options.only.split(",")):
            found = measure(dataset, chosen, os.environ["AFFUSE_DATA"])
            kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
            kept.setdefault(chosen, {})[dataset] = found
            write_json(KEPT, kept)
            print(chosen, dataset, found, flush=True)
    page = PAGE.read_text(encoding="utf-8")
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    kept[RESEARCH] = _of_make_figures() | kept.get(RESEARCH, {})
    new = re.sub(f"(?s){_START}.*{_END}", lambda _: f"{_START}\n{table(kept)}\n{_END}", page)
    write_text(PAGE, new)


if __name__ == "__main__":
    main()
