"""``affuse evaluate``: how good is an expert on rows that it never saw?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from affuse.errors import ConfigError

if TYPE_CHECKING:
    from affuse.datasets import Dataset

__all__ = ["evaluate", "evaluate_expert"]


def evaluate(
    expert: Annotated[
        str, typer.Option(help="The expert: face, voice, text, an installed one, or the folder of a trained one.")
    ],
    dataset: Annotated[str, typer.Option(help="Name of the data set, for example ferplus, ravdess or goemotions.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the data sets.", envvar="AFFUSE_DATA")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "valid",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Measure an expert on one split of a data set."""
    from affuse.datasets import load
    from affuse.experts import load_expert

    report = evaluate_expert(load_expert(expert), load(dataset, data, split))
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print(report, f"{expert} on {dataset}, {split}")


def evaluate_expert(expert: Any, dataset: Dataset) -> dict[str, Any]:
    """Answers of ``expert`` on the rows of ``dataset``, restricted to its labels, as `classification_report`.

    Raises ConfigError where the expert reads another modality, or cannot be asked about single rows.
    """
    from affuse.evaluation import classification_report

    if expert.modality != dataset.modality:
        raise ConfigError(
            f"{dataset.name} holds rows for {dataset.modality}; the expert {expert.name} reads {expert.modality}"
        )
    if not hasattr(expert, "classify"):
        raise ConfigError(f"the expert {expert.name} reads whole recordings; {dataset.name} holds single rows")
    return classification_report(_answers(expert, dataset), dataset.targets, dataset.labels.labels)


def _answers(expert: Any, dataset: Dataset) -> np.ndarray:
    from affuse.labels import SENTIMENT, restrict

    if dataset.modality == "voice":
        answers = np.stack([expert.classify(_waveform(path)) for path in dataset.inputs])
        return restrict(answers, expert.labels, dataset.labels.labels)
    if dataset.modality == "text":
        expert.language = dataset.language
        if set(dataset.labels.labels) <= set(SENTIMENT.labels):
            return restrict(_sentiment(expert, dataset.inputs), SENTIMENT, dataset.labels.labels)
    return restrict(expert.classify(dataset.inputs), expert.labels, dataset.labels.labels)


def _sentiment(expert: Any, texts: Sequence[str]) -> np.ndarray:
    """Sentiment (n, 3) of texts: the expert's own judgement, or what its emotions imply."""
    from affuse.fusion.spaces import judges_sentiment
    from affuse.labels import SENTIMENT, map_probabilities, to_emotions, to_sentiment

    if hasattr(expert, "sentiment"):
        return np.asarray(expert.sentiment(texts))
    answers = expert.classify(texts)
    if judges_sentiment(expert.labels):
        return map_probabilities(answers, expert.labels, SENTIMENT)
    return to_sentiment(to_emotions(answers, expert.labels))


def _waveform(path: Path) -> np.ndarray:
    """The whole sound of a clip."""
    from affuse.media import Recording
    from affuse.timeline import Timeline

    recording = Recording.open(path)
    return next(recording.sound(Timeline((recording.span,))))


def _print(report: dict[str, Any], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    figures = Table(title=title, title_justify="left")
    for key in ("n", "accuracy", "uar", "macro_f1", "weighted_f1", "ece"):
        figures.add_column(key, justify="right")
    figures.add_row(
        str(report["n"]), *(f"{report[key]:.4f}" for key in ("accuracy", "uar", "macro_f1", "weighted_f1", "ece"))
    )
    console.print(figures)
    confusion = Table(title="true label (row) answered as (column)", title_justify="left")
    confusion.add_column("")
    for label in report["labels"]:
        confusion.add_column(label[:9], justify="right")
    for label, row in zip(report["labels"], report["confusion"], strict=True):
        confusion.add_row(label, *map(str, row))
    console.print(confusion)
