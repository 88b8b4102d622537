"""What a run leaves for people: measured figures, the confusion matrix in words, pictures and the model card."""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import affuse
from affuse.evaluation.formatting import ResultTable, percent
from affuse.evaluation.intervals import cluster_bootstrap
from affuse.evaluation.metrics import classification_report
from affuse.files import replacing
from affuse.tables import write_table

if TYPE_CHECKING:
    from affuse.data.own import Sample

__all__ = [
    "card",
    "confused",
    "draw",
    "git_state",
    "ids_of",
    "measure",
    "versions",
    "write_confusion",
    "write_predictions",
]

_PAIRS = 5
_LIBRARIES = ("torch", "lightning", "numpy", "onnx", "onnxruntime", "scikit-learn", "tokenizers", "transformers")


def measure(P: np.ndarray, targets: np.ndarray, groups: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """`classification_report` of P (n, k) with the 95 % interval of accuracy over ``groups`` and `confused` pairs.

    The interval draws whole groups (speakers); it is None with fewer than two.
    """
    report = classification_report(P, targets, labels)
    hits = (P.argmax(axis=1) == targets).astype(float)
    several = len(np.unique(groups)) > 1
    report["accuracy_95"] = list(cluster_bootstrap(hits, groups)) if several else None
    report["groups"] = len(np.unique(groups))
    report["recalls"] = {
        label: hits[targets == i].mean().item() for i, label in enumerate(labels) if (targets == i).any()
    }
    report["most_confused"] = confused(np.array(report["confusion"]), labels)
    return report


def confused(confusion: np.ndarray, labels: Sequence[str]) -> list[str]:
    """The pairs of labels that are mixed up most, as sentences; ``confusion`` (k, k) counts by true label (row)."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = [divmod(int(i), len(labels)) for i in order]
    return [
        f"{labels[truth]} was taken for {labels[answer]} in {wrong[truth, answer]} of {confusion[truth].sum()} rows"
        for truth, answer in pairs
        if wrong[truth, answer]
    ]


def write_confusion(path: Path, confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> None:
    """Counts by true label (row) and answered label (column) as CSV."""
    import pandas as pd

    table = pd.DataFrame(list(confusion), columns=list(labels))
    table.insert(0, "true label", list(labels))
    write_table(table, path)


def write_predictions(
    path: Path, samples: Sequence[Sample], P: np.ndarray, labels: Sequence[str], targets: np.ndarray, groups: np.ndarray
) -> None:
    """Answers P (n, k) about rows that were not learned from, as ``affuse fuse`` reads them.

    Columns: id, a label each, ``label`` for the true one and ``group`` for the speaker. Ids are the same for every
    modality of a recording, see `ids_of`.
    """
    import pandas as pd

    table = pd.DataFrame(P, columns=list(labels))
    table.insert(0, "id", ids_of(samples))
    table["label"] = [labels[int(target)] for target in targets]
    table["group"] = groups
    write_table(table, path)


def ids_of(samples: Sequence[Sample]) -> list[str]:
    """A name for every sample: its path below the folder that all share, without suffix, and its time where given.

    A picture and the sound of one recording thus have one name. Samples without a path are named by their place.
    """
    folders = [sample.path.parent for sample in samples if sample.path is not None]
    shared = os.path.commonpath(folders) if folders else ""
    names = [_id(sample, shared) for sample in samples]
    seen: Counter[str] = Counter()
    for row, name in enumerate(names):
        seen[name] += 1
        names[row] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return names


def _id(sample: Sample, shared: str) -> str:
    if sample.path is None:
        return sample.where
    name = Path(os.path.relpath(sample.path, shared)).with_suffix("").as_posix()
    if sample.start is None and sample.end is None:
        return name
    end = "" if sample.end is None else f"{sample.end:g}"
    return f"{name} {sample.start or 0.0:g}-{end}"


def draw(folder: Path, rows: Sequence[Mapping[str, float]], report: Mapping[str, Any]) -> bool:
    """Draw curves.png and confusion.png into ``folder``; False where Matplotlib (extra ``plot``) is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    curves = Figure(figsize=(8, 3.2), layout="constrained")
    losses, shares = curves.subplots(1, 2)
    for axes, names in ((losses, ("train_loss", "val_loss")), (shares, ("val_accuracy", "val_uar"))):
        for name in names:
            if rows and name in rows[-1]:
                axes.plot([row["epoch"] for row in rows], [row[name] for row in rows], label=name)
        axes.set_xlabel("epoch")
        axes.legend()
    matrix = Figure(figsize=(5.5, 5), layout="constrained")
    _draw_confusion(matrix.subplots(), np.array(report["confusion"]), report["labels"])
    for figure, name in ((curves, "curves.png"), (matrix, "confusion.png")):
        with replacing(folder / name) as (part,):
            figure.savefig(part, format="png", dpi=120)
    return True


def _draw_confusion(axes: Any, confusion: np.ndarray, labels: Sequence[str]) -> None:
    totals = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(confusion / totals, cmap="Blues", vmin=0, vmax=1)
    for (truth, answer), count in np.ndenumerate(confusion):
        dark = count / totals[truth, 0] > 0.5
        axes.text(answer, truth, str(count), ha="center", va="center", color="white" if dark else "black")
    places = range(len(labels))
    axes.set_xticks(places, labels, rotation=45, ha="right")
    axes.set_yticks(places, labels)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")


def versions() -> dict[str, str]:
    """Versions of affuse, Python and the libraries that decide what a run gives."""
    found = {"affuse": affuse.__version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of the repository that the command runs in, and whether it holds changes; None outside of one."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        commit, changes = (
            subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, env=environment).stdout
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.strip(), "changed": bool(changes.strip())}


def card(facts: Mapping[str, Any]) -> str:
    """The model card, in Markdown, from the facts of run.json."""
    return "\n".join(_card_lines(facts)) + "\n"


def _card_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    data, network = facts["data"], facts["network"]
    yield f"# {facts['name']}"
    yield ""
    yield (
        f"Judges {', '.join(facts['labels'])} from {facts['modality']}; trained by `affuse train` "
        f"{facts['versions']['affuse']} on {data['name']}. Licence of the data: {facts['licence']}."
    )
    yield ""
    yield "## Data"
    yield ""
    splits = ResultTable(("split", "rows", "speakers or groups", *facts["labels"]))
    for name, split in data["splits"].items():
        counts = (split["labels"][label] for label in facts["labels"])
        splits.add(name, *map(str, (split["rows"], split["groups"], *counts)))
    yield splits.markdown()
    yield ""
    yield (
        "*train* is learned from; *held_out*, set aside from it, stops training and sets the temperature; the others "
        "only report."
    )
    yield from (f"- {note}" for note in data["notes"])
    yield ""
    yield "## Network"
    yield ""
    yield (
        f"`{network['name']}`, {network['parameters']:,} weights; epoch {facts['best_epoch']} of {facts['epochs']} was "
        f"kept; temperature {facts['temperature']:.3f}."
    )
    for part, report in facts["measured"].items():
        yield from _figures(part, report)
    yield ""
    yield "## Limits"
    yield ""
    yield from (f"- {limit}" for limit in _limits(facts))


def _figures(part: str, report: Mapping[str, Any]) -> Iterator[str]:
    interval = report["accuracy_95"]
    told = "" if interval is None else f" (95 % interval {100 * interval[0]:.1f}–{100 * interval[1]:.1f})"
    yield ""
    yield f"## Measured on {part}, {report['n']} rows that neither training nor selection saw"
    yield ""
    yield f"Accuracy {100 * report['accuracy']:.1f} %{told}, unweighted average recall {100 * report['uar']:.1f} %, "
    yield (
        f"macro-F1 {report['macro_f1']:.3f}, weighted F1 {report['weighted_f1']:.3f}, "
        f"calibration error {report['ece']:.3f}."
    )
    yield ""
    recalls = ResultTable(("label", "recall"))
    for label, recall in report["recalls"].items():
        recalls.add(label, percent(recall))
    yield recalls.markdown()
    yield ""
    yield from (f"- {pair}" for pair in report["most_confused"])


def _limits(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"It was measured on {facts['data']['name']} alone; other devices, people or texts cost accuracy."
    for part, report in facts["measured"].items():
        weak = [label for label, recall in report["recalls"].items() if recall < 0.5]
        if weak:
            yield f"It finds less than half of {', '.join(weak)} ({part})."
        if report["groups"] < 10:
            yield f"{part} holds {report['groups']} speakers or groups; how people differ is hardly measured by so few."
    if facts["licence"] == "not stated":
        yield "The licence of the data is not stated; check it before you give the weights away."
    yield "It judges what is expressed, not what somebody feels."
