"""``affuse compare``: every way to fuse, on the same rows, with intervals and tests."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.data.splits import split_name
from affuse.errors import ConfigError
from affuse.evaluation.fused_tables import AUTO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from affuse.evaluation.benchmarks import Measurement
    from affuse.evaluation.protocol import Protocol

__all__ = ["compare", "parse_folds"]

_SPLITS = ("dev", "test")
_ADAPT = ("none", "person")
_MOST_SUBSETS = 14  # columns that a table can hold
_WIDTH = 140  # characters, where there is no terminal to ask


def compare(
    dataset: Annotated[str | None, typer.Option(help="ravdess_posteriors, mosi, cremad_votes or emotiontalk.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that holds the data sets.", envvar="AFFUSE_DATA")] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Your own predictions: a CSV with the columns modality and path, and fold where experts were trained "
            "by fold. Paths are relative to it; one row has the modality 'labels' and names the table of true labels. "
            "With --features, your own data: a table with path, start, end, text, label and speaker, or a folder."
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Compare early and late fusion of features of --manifest, with commas, such as tfidf,mfcc,hog; "
            "'columns' are the numbers that the table itself gives. See: affuse features list."
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="With --features columns: patterns of columns, with commas, such as 'AU*'.")
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="Folds of the data set, such as 0-3 or 0,2 (default: all there).")
    ] = None,
    split: Annotated[str, typer.Option(help="What to report on where the data set has splits: dev or test.")] = "dev",
    methods: Annotated[str | None, typer.Option(help="Methods to compare, with commas (default: all).")] = None,
    group: Annotated[
        str | None, typer.Option(help="Column of the labels of --manifest that must not be split.")
    ] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="Column that names the rows of --manifest.")] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds of methods and splits that draw at random.", min=1)] = 3,
    adapt: Annotated[
        str, typer.Option(help="none, or person: groups are persons, and each one's shift is taken out without labels.")
    ] = "none",
    report: Annotated[Path | None, typer.Option(help="Folder for comparison.html and its pictures.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Compare every way to fuse: same folds, no group on both sides, intervals, tests, missing modalities."""
    if (dataset is None) == (manifest is None):
        raise ConfigError("give either --dataset or --manifest; for example: affuse compare --dataset mosi --data DIR")
    split = split_name(split)
    if split not in _SPLITS:
        raise ConfigError(f"unknown split {split!r}; known: {', '.join(_SPLITS)}")
    if adapt not in _ADAPT:
        raise ConfigError(f"unknown --adapt {adapt!r}; known: {', '.join(_ADAPT)}")
    if features is not None:
        if manifest is None or methods is not None or report is not None or adapt != "none":
            raise ConfigError("--features reads --manifest and takes neither --methods nor --report nor --adapt")
        _compare_features(manifest, features, columns, range(seeds), as_json)
        return
    measurement = _measurement(dataset, data, manifest, parse_folds(folds), split, id_column, group, range(seeds))
    for alarm in measurement.alarms:
        typer.echo(alarm, err=True)
    facts = measure(measurement.protocol, methods, range(seeds), adapt == "person")
    if report is not None:
        from affuse.report.comparison import write_comparison

        protocol = measurement.protocol
        about = {"name": protocol.name, "note": protocol.note, "labels": protocol.labels, "alarms": measurement.alarms}
        write_comparison(facts, about, report)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    print_tables(facts, measurement.protocol)
    if report is not None:
        typer.echo(f"written: {report / 'comparison.html'} and its pictures")
    sys.stdout.flush()


def _compare_features(manifest: Path, names: str, columns: str | None, seeds: Sequence[int], as_json: bool) -> None:
    from affuse.evaluation.feature_comparison import compare_features, print_features, read_features
    from affuse.features import FeatureStore

    patterns = [part.strip() for part in columns.split(",")] if columns else []
    data = read_features(manifest, names, patterns, FeatureStore())
    with _line_of_progress() as progress:
        facts = compare_features(data, seeds, progress)
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        print_features(facts)
    sys.stdout.flush()


@contextmanager
def _line_of_progress() -> Iterator[Callable[[str], None] | None]:
    """A function that shows where the command is on one line of a terminal, or None where there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda name: print(f"\r\033[K{name} …", end="", file=sys.stderr, flush=True)
    finally:
        print("\r\033[K", end="", file=sys.stderr)


def _measurement(
    dataset: str | None,
    data: Path | None,
    manifest: Path | None,
    folds: Sequence[int] | None,
    split: str,
    id_column: str | None,
    group: str | None,
    seeds: Sequence[int],
) -> Measurement:
    from affuse.evaluation.benchmarks import from_dataset, from_manifest

    if manifest is not None:
        return from_manifest(manifest, id_column, group, seeds)
    if data is None:
        raise ConfigError("--dataset needs --data, the folder that holds the data sets (or the variable AFFUSE_DATA)")
    return from_dataset(str(dataset), data, folds, split, seeds)


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


def measure(protocol: Protocol, methods: str | None, seeds: Sequence[int], adapt: bool = False) -> dict[str, Any]:
    """All measures of the ``methods`` (names with commas, None for all) and of the automatic choice."""
    from affuse.evaluation.comparison import compare_fusers as run
    from affuse.evaluation.fused_tables import make, method_names

    names = [name.strip() for name in methods.split(",")] if methods else method_names()
    fusers = {name: make(name) for name in dict.fromkeys([*names, AUTO])}
    with _line_of_progress() as progress:
        return run(protocol, fusers, AUTO, seeds, progress, adapt).to_dict()


def print_tables(facts: Mapping[str, Any], protocol: Protocol) -> None:
    """Accuracy with intervals and tests, robustness, and subsets of modalities, best method first."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print(
        f"{protocol.name}: {protocol.n_rows} rows asked about, {len(protocol.labels)} labels; {protocol.note}.",
        soft_wrap=True,
    )
    ranked = sorted(facts["methods"].items(), key=lambda item: -item[1]["accuracy"])
    singles = sorted(facts["single"].items(), key=lambda item: -item[1]["accuracy"])
    console.print("Accuracy: mean over folds; intervals and p by drawing or swapping whole groups")
    console.print(_accuracy_table(ranked, singles))
    console.print(
        "Accuracy with modalities missing (mean over which; half of all at random) or with noise on log-probabilities;"
    )
    console.print("mean change of the confidence when a modality is removed, and share of rows in which it rises")
    console.print(_robustness_table(ranked, singles))
    if 0 < len(ranked[0][1]["subsets"]) <= _MOST_SUBSETS:
        legend = ", ".join(f"{letter} = {name}" for name, letter in _letters(protocol.modalities).items())
        console.print(f"Accuracy when only these modalities are there: {legend}")
        console.print(_subset_table(ranked, facts["single"], protocol.modalities))
    console.print(_verdict(facts), soft_wrap=True)


def _verdict(facts: Mapping[str, Any]) -> str:
    auto, found = facts["auto"], facts["methods"][AUTO]
    low, high = found["difference_ci95"]
    text = (
        f"The automatic choice was {auto['method']}: accuracy {auto['accuracy']:.4f}, {found['difference']:+.4f} "
        f"({low:+.4f} to {high:+.4f}) to {found['best_single']}, the best single modality."
    )
    gaps = found["below_best_remaining"]
    if not gaps:
        return text + " Whatever is missing, it is not below the best modality that remains."
    listed = ", ".join(f"{name.replace('+', ' and ')} ({gap:.4f})" for name, gap in gaps.items())
    return f"{text} It is below the best modality that remains for {listed}."


def _letters(modalities: Sequence[str]) -> dict[str, str]:
    return {name: chr(ord("A") + i) for i, name in enumerate(modalities)}


def _accuracy_table(ranked: Sequence[tuple[str, Any]], singles: Sequence[tuple[str, Any]]) -> Table:
    heads = ("accuracy", "95 % interval", "to best single", "p", "p (Holm)", "macro F1", "ECE", "fit s", "ms/1000 rows")
    table = _table(heads)
    for name, facts in ranked:
        table.add_row(
            name,
            f"{facts['accuracy']:.4f}",
            _interval(facts),
            f"{facts['difference']:+.4f}",
            f"{facts['p']:.4f}",
            f"{facts['p_holm']:.4f}",
            f"{facts['macro_f1']:.4f}",
            f"{facts['ece']:.3f}",
            f"{facts['fit_seconds']:.2f}",
            f"{1000 * facts['predict_seconds_per_1000']:.1f}",
        )
    table.add_section()
    for name, facts in singles:
        figures = (
            f"{facts['accuracy']:.4f}",
            _interval(facts),
            "",
            "",
            "",
            f"{facts['macro_f1']:.4f}",
            f"{facts['ece']:.3f}",
        )
        table.add_row(f"only {name}", *figures)
    return table


def _table(heads: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _interval(facts: Mapping[str, Any]) -> str:
    low, high = facts["ci95"]
    return f"{low:.3f} to {high:.3f}"


def _robustness_table(ranked: Sequence[tuple[str, Any]], singles: Sequence[tuple[str, Any]]) -> Table:
    counts = [count for count in ranked[0][1]["missing"] if count != "0"]
    levels = list(ranked[0][1]["noise"])
    heads = [f"{count} missing" for count in counts] + ["half"] + [f"noise {level}" for level in levels]
    table = _table([*heads, "confidence", "rises in"])
    for name, facts in ranked:
        rise = facts["confidence_rise"]
        table.add_row(
            name,
            *(f"{facts['missing'][count]:.3f}" for count in counts),
            f"{facts['random_half']:.3f}",
            *(f"{facts['noise'][level]:.3f}" for level in levels),
            f"{rise['mean']:+.3f}" if rise else "",
            f"{rise['share']:.1%}" if rise else "",
        )
    table.add_section()
    for name, facts in singles:
        table.add_row(
            f"only {name}", *([""] * (len(counts) + 1)), *(f"{facts['noise'][level]:.3f}" for level in levels)
        )
    return table


def _subset_table(ranked: Sequence[tuple[str, Any]], single: Mapping[str, Any], modalities: Sequence[str]) -> Table:
    letters = _letters(modalities)
    subsets = list(ranked[0][1]["subsets"])
    heads = ["".join(letters[m] for m in subset.split("+")) for subset in subsets]
    table = _table(heads)
    table.add_row("best single of these", *(f"{max(single[m]['accuracy'] for m in s.split('+')):.3f}" for s in subsets))
    table.add_section()
    for name, facts in ranked:
        table.add_row(name, *(f"{facts['subsets'][subset]:.3f}" for subset in subsets))
    return table
