"""Pictures and page of a comparison of methods: intervals, confusions, reliability, missing modalities and noise."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.files import replacing
from affuse.report.assets import template
from affuse.report.plot import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "write_comparison"]

# The two that every picture is about stand out; what else is drawn stays in the background. Okabe & Ito (2008).
_AUTO, _SINGLE, _OTHER = "#0072B2", "#D55E00", "#A3A8AE"
_AUTO_NAME = "auto"
# Bins of confidence with fewer rows say nothing about calibration.
_FEWEST = 10


def write_comparison(facts: Mapping[str, Any], about: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Write comparison.html, which needs no other file, and a PNG of every picture, all or none.

    Parameters
    ----------
    facts : mapping
        What `affuse.evaluation.Comparison.to_dict` gives.
    about : mapping
        ``name``, ``note``, ``labels`` and ``alarms`` of its protocol.
    folder : path
        Is made where it does not exist.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    MissingExtraError
        Without matplotlib, which is the extra ``plot``.
    OutputError
        If the folder cannot be written.
    """
    figures = {name: draw(facts, about) for name, (draw, _) in PICTURES.items()}
    paths = [Path(folder) / "comparison.html", *(Path(folder) / f"{name}.png" for name in figures)]
    with replacing(*paths) as (page, *parts):
        for part, figure in zip(parts, figures.values(), strict=True):
            figure.savefig(part, dpi=150, format="png")
        pictures = [
            {"name": name, "caption": PICTURES[name][1], "data": base64.b64encode(part.read_bytes()).decode("ascii")}
            for name, part in zip(figures, parts, strict=True)
        ]
        page.write_text(_page(facts, about, pictures), encoding="utf-8")
    return paths


def _page(facts: Mapping[str, Any], about: Mapping[str, Any], pictures: Sequence[Mapping[str, str]]) -> str:
    methods = sorted(facts["methods"].items(), key=lambda item: -item[1]["accuracy"])
    single = sorted(facts["single"].items(), key=lambda item: -item[1]["accuracy"])
    return template("comparison.html.j2").render(
        about=about, auto=facts["auto"], methods=methods, single=single, pictures=pictures
    )


def _best_single(facts: Mapping[str, Any]) -> str:
    return str(max(facts["single"], key=lambda name: facts["single"][name]["accuracy"]))


def _colour(name: str) -> str:
    return _AUTO if name == _AUTO_NAME else _OTHER


def draw_intervals(facts: Mapping[str, Any], about: Mapping[str, Any]) -> Figure:
    """Accuracy of every method and single modality with its interval, the best at the top."""
    rows = [(name, found, _colour(name)) for name, found in facts["methods"].items()]
    rows += [(f"only {name}", found, _SINGLE) for name, found in facts["single"].items()]
    rows.sort(key=lambda row: row[1]["accuracy"])
    figure = new_figure(8, 1.2 + 0.28 * len(rows))
    axis = figure.subplots()
    for height, (_, found, colour) in enumerate(rows):
        axis.hlines(height, *found["ci95"], color=colour, linewidth=2)
        axis.plot(found["accuracy"], height, "o", color=colour)
    axis.axvline(facts["single"][_best_single(facts)]["accuracy"], color=_SINGLE, linewidth=0.8, linestyle="--")
    axis.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axis.set(xlabel="accuracy, 95 % interval over groups", title=about["name"])
    axis.grid(axis="x", alpha=0.3)
    _bare(axis)
    return figure


def draw_confusions(facts: Mapping[str, Any], about: Mapping[str, Any]) -> Figure:
    """Confusion matrices of the automatic choice and of the best single modality, in shares of the true label."""
    best = _best_single(facts)
    pairs = [(_AUTO_NAME, facts["methods"][_AUTO_NAME]), (f"only {best}", facts["single"][best])]
    labels = list(about["labels"])
    figure = new_figure(4 + 0.9 * len(labels), 2 + 0.45 * len(labels))
    for axis, (name, found) in zip(figure.subplots(1, 2, sharey=True), pairs, strict=True):
        counts = np.asarray(found["confusion"], dtype=float)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (i, j), share in np.ndenumerate(shares):
            axis.text(
                j,
                i,
                f"{share:.0%}".rstrip("%"),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share > 0.5 else "black",
            )
        axis.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
        axis.set_yticks(range(len(labels)), labels)
        axis.set(title=f"{name}, % of the true label", xlabel="answered")
    figure.axes[0].set_ylabel("true label")
    return figure


def draw_reliability(facts: Mapping[str, Any], about: Mapping[str, Any]) -> Figure:
    """Accuracy over confidence: on the diagonal, a confidence of 80 % is right four times in five."""
    figure = new_figure(5.5, 5)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.4", linewidth=0.8, linestyle="--")
    best = _best_single(facts)
    lines = [(name, found, _OTHER) for name, found in facts["methods"].items() if name in ("mean", "product")]
    lines += [(f"only {best}", facts["single"][best], _SINGLE), (_AUTO_NAME, facts["methods"][_AUTO_NAME], _AUTO)]
    for style, (name, found, colour) in zip((":", "-.", "-", "-")[-len(lines) :], lines, strict=True):
        bins = [b for b in found["reliability"] if b["n"] >= _FEWEST]
        label = f"{name} (ECE {found['ece']:.3f})"
        points = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
        axis.plot(*points, linestyle=style, marker="o", markersize=4, color=colour, label=label)
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title=about["name"])
    axis.legend(frameon=False, loc="lower right")
    _bare(axis)
    return figure


def draw_missing(facts: Mapping[str, Any], about: Mapping[str, Any]) -> Figure:
    """Accuracy by the number of missing modalities, mean over which, and with half of all missing at random."""
    counts = list(facts["methods"][_AUTO_NAME]["missing"])
    figure = new_figure(7, 4.5)
    axis = figure.subplots()

    def curve(found: Mapping[str, Any]) -> list[float]:
        return [found["missing"][count] for count in counts]

    _curves(axis, facts, range(len(counts)), curve)
    axis.plot(
        range(len(counts)), _best_remaining(facts, counts), color=_SINGLE, marker="o", label="best remaining modality"
    )
    for name, found in facts["methods"].items():
        if found["random_half"] is not None:
            axis.plot(
                len(counts), found["random_half"], "o", color=_colour(name), zorder=3 if name == _AUTO_NAME else 1
            )
    axis.set_xticks(range(len(counts) + 1), [*counts, "half at random"])
    axis.set(xlabel="missing modalities", ylabel="accuracy", title=about["name"])
    axis.legend(frameon=False)
    return figure


def _best_remaining(facts: Mapping[str, Any], counts: Sequence[str]) -> list[float]:
    single = {name: found["accuracy"] for name, found in facts["single"].items()}
    bars: dict[str, list[float]] = {"0": [max(single.values())]}
    for subset in facts["methods"][_AUTO_NAME]["subsets"]:
        members = subset.split("+")
        bars.setdefault(str(len(single) - len(members)), []).append(max(single[name] for name in members))
    return [float(np.mean(bars[count])) for count in counts]


def draw_noise(facts: Mapping[str, Any], about: Mapping[str, Any]) -> Figure:
    """Accuracy by the standard deviation of normal noise on the log-probabilities of every modality."""
    levels = list(facts["methods"][_AUTO_NAME]["noise"])
    figure = new_figure(7, 4.5)
    axis = figure.subplots()
    positions = [0.0, *map(float, levels)]

    def curve(found: Mapping[str, Any]) -> list[float]:
        return [found["accuracy"], *(found["noise"][level] for level in levels)]

    _curves(axis, facts, positions, curve)
    best = _best_single(facts)
    axis.plot(positions, curve(facts["single"][best]), color=_SINGLE, marker="o", label=f"only {best}")
    axis.set(xlabel="noise on log-probabilities (standard deviation)", ylabel="accuracy", title=about["name"])
    axis.legend(frameon=False)
    return figure


def _curves(
    axis: Axes, facts: Mapping[str, Any], positions: Sequence[float], curve: Callable[[Mapping[str, Any]], list[float]]
) -> None:
    others = [found for name, found in facts["methods"].items() if name != _AUTO_NAME]
    for number, found in enumerate(others):
        axis.plot(positions, curve(found), color=_OTHER, linewidth=0.8, label="other methods" if number == 0 else None)
    axis.plot(
        positions, curve(facts["methods"][_AUTO_NAME]), color=_AUTO, marker="o", linewidth=2, label=_AUTO_NAME, zorder=3
    )
    axis.grid(alpha=0.3)
    _bare(axis)


def _bare(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)


PICTURES: dict[str, tuple[Callable[[Mapping[str, Any], Mapping[str, Any]], Figure], str]] = {
    "intervals": (draw_intervals, "Accuracy with 95 % intervals; the dashed line is the best single modality"),
    "confusions": (draw_confusions, "What is taken for what: the automatic choice beside the best single modality"),
    "reliability": (draw_reliability, "Reliability: accuracy over confidence; below the diagonal is over-confident"),
    "missing": (draw_missing, "Missing modalities: mean over which are missing, and half of all missing at random"),
    "noise": (draw_noise, "Noise on the log-probabilities of every modality"),
}
"""Name of every picture: the function that draws it, and its caption."""
