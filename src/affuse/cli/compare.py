"""``affuse compare``: every way to fuse, on the same rows, with intervals and tests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affuse.cli import completion
from affuse.cli.options import (
    AdaptPerson,
    Data,
    FeatureNames,
    Group,
    IdColumn,
    Json,
    Methods,
    Split,
    names_of,
    with_limits,
)
from affuse.errors import ConfigError
from affuse.progress import progress_bar

if TYPE_CHECKING:
    from affuse.evaluation.comparison import Comparison

__all__ = ["compare", "parse_folds"]

_Manifest = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        help="Your own predictions: a CSV with the columns modality and path, and fold where experts were trained "
        "by fold. Paths are relative to it; one row has the modality 'labels' and names the table of true labels. "
        "With --features, your own recordings: a table with path, start, end, text, label and speaker, or a folder.",
    ),
]


@with_limits
def compare(
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Known dataset of predictions: ravdess_posteriors, mosi, cremad_votes or emotiontalk.",
            autocompletion=completion.benchmarks,
        ),
    ] = None,
    data: Data = None,
    manifest: _Manifest = None,
    features: FeatureNames = None,
    columns: Annotated[
        str | None,
        typer.Option(help="With --features columns, the numbers of the table: patterns with commas, such as 'AU*'."),
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="Folds of the dataset, such as 0-3 or 0,2 (default: all there).")
    ] = None,
    split: Split = "dev",
    methods: Methods = None,
    group: Group = None,
    id_column: IdColumn = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds of methods and splits that draw at random.", min=1)] = 3,
    adapt: AdaptPerson = "none",
    report: Annotated[Path | None, typer.Option(help="Folder for comparison.html and its pictures.")] = None,
    as_json: Json = False,
) -> None:
    """Compare every way to fuse: same folds, no group on both sides, intervals, tests, missing modalities."""
    if (dataset is None) == (manifest is None):
        raise ConfigError("give either --dataset or --manifest; for example: affuse compare --dataset mosi --data DIR")
    if features is not None:
        if manifest is None or methods is not None or report is not None or adapt != "none":
            raise ConfigError("--features reads --manifest and takes neither --methods nor --report nor --adapt")
        _compare_features(manifest, features, columns, seeds, as_json)
        return
    from affuse.evaluation.comparison import compare as run

    source: str | Path = dataset if manifest is None else manifest  # type: ignore[assignment]
    with progress_bar("compare") as progress:
        found = run(
            source, data=data, split=split, folds=parse_folds(folds), methods=names_of(methods), group=group,
            id_column=id_column, seeds=seeds, adapt=adapt, progress=progress,
        )  # fmt: skip
    _deliver(found, report, as_json)


def _deliver(found: Comparison, report: Path | None, as_json: bool) -> None:
    """Alarms on standard error, the report, and the measures."""
    for alarm in found.protocol.alarms:
        typer.echo(alarm, err=True)
    facts = found.to_dict()
    if report is not None:
        from affuse.report.comparison import write_comparison

        about = found.protocol
        write_comparison(
            facts, {"name": about.name, "note": about.note, "labels": about.labels, "alarms": about.alarms}, report
        )
    if as_json:
        typer.echo(json.dumps(facts))
        return
    from affuse.cli.comparison_tables import print_comparison

    print_comparison(facts, found.protocol)
    if report is not None:
        typer.echo(f"written: {report / 'comparison.html'} and its pictures")


def _compare_features(manifest: Path, names: str, columns: str | None, seeds: int, as_json: bool) -> None:
    from affuse.cli.comparison_tables import print_features
    from affuse.evaluation.feature_comparison import compare_features
    from affuse.features import FeatureStore

    with progress_bar("compare") as progress:
        found = compare_features(
            manifest, names_of(names) or [], columns=names_of(columns) or (), seeds=seeds, store=FeatureStore(),
            progress=progress,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        print_features(found.to_dict())


def parse_folds(option: str | None) -> list[int] | None:
    """Numbers from "0-3" or "0,2,4"; None means all. Raises ConfigError where it cannot be read."""
    if option is None:
        return None
    numbers: list[int] = []
    for part in option.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if found is None:
            raise ConfigError(f"--folds takes numbers such as 0-3 or 0,2; got {option!r}")
        first, last = int(found[1]), int(found[2] or found[1])
        numbers += range(first, last + 1)
    return sorted(set(numbers))
