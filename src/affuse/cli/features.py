"""``affuse features``: which features there are, and their values for files or the rows of a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.cli.progress import progress_bar
from affuse.errors import ConfigError, DataError, OutputError

if TYPE_CHECKING:
    import pandas as pd

    from affuse.features import Extractor, FeatureStore, Measured
    from affuse.features.base import Item
    from affuse.training.data import Sample

__all__ = ["app", "chosen", "item_of", "measured"]

app = typer.Typer(help="List and extract features of voices, faces and words.", no_args_is_help=True)

_SUFFIXES = (".csv", ".tsv", ".parquet")
_TEXTS = (".txt", ".srt", ".vtt", ".json")


@app.command("list")
def list_features(
    modality: Annotated[str | None, typer.Option(help="Only those that read text, voice or face.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a page.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List features by name, with what they read, how many columns there are, their unit and what they need."""
    from affuse.features import names

    if modality not in (None, "text", "voice", "face"):
        raise ConfigError(f"unknown modality {modality!r}; known: text, voice, face")
    rows = [_facts(name) for name in names(modality)]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif markdown:
        heads = list(rows[0])
        typer.echo(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for row in rows:
            typer.echo(f"| {' | '.join(row.values())} |")
    else:
        _print_table(rows)


def _facts(name: str) -> dict[str, str]:
    from sklearn.exceptions import NotFittedError

    from affuse.errors import AssetError
    from affuse.features import make

    extractor = make(name)
    try:
        columns = str(len(extractor.get_feature_names_out()))
    except NotFittedError:
        columns = "vocabulary"
    except AssetError:
        columns = "of the network"
    return {
        "name": name,
        "reads": extractor.modality,
        "columns": columns,
        "unit": extractor.unit,
        "needs": f"affuse[{extractor.extra}]" if extractor.extra else "",
        "what": (type(extractor).__doc__ or "").splitlines()[0].partition(": (n")[0].rstrip("."),
    }


def _print_table(rows: Sequence[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


@app.command()
def extract(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Recordings, pictures or texts, or folders of them.")
    ] = None,
    name: Annotated[str, typer.Option(help="Names of features, with commas; see: affuse features list.")] = "",
    out: Annotated[Path | None, typer.Option(help="Table to write: .csv, .tsv or .parquet.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Table with path, start, end, text, label, speaker, split (CSV, TSV, Parquet).")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--option", help="Option of the features, as mfcc.coefficients=20.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Measure all anew and keep nothing.")] = False,
) -> None:
    """Write one row of features an item: what it is, the values, and the reason where there are none.

    A vocabulary is learned from the rows of the split "train" where the table states splits, else from all rows.
    """
    from affuse.features import FeatureStore

    if out is None or out.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"give the table to write with --out; it must end in {', '.join(_SUFFIXES)}")
    if (manifest is None) == (not sources):
        raise ConfigError("give either files and folders or --manifest; for example: affuse features extract x.wav …")
    extractors = chosen(name, options or [])
    rows = _rows_of_files(sources or [], extractors) if manifest is None else _rows_of_table(manifest, extractors)
    if out.exists() and any(path.exists() and path.samefile(out) for path in rows.inputs):
        raise OutputError(f"{out} is one of the inputs; choose another place for the output")
    store = None if no_cache else FeatureStore()
    table = _table(rows, extractors, store)

    from affuse.cli.fuse import write_table

    write_table(table, out)
    gaps = [f"{e.name} {int((table[f'{e.name} reason'] != '').sum())}" for e in extractors]
    typer.echo(f"written: {out}, {len(table)} rows, {table.shape[1]} columns; rows without values: {', '.join(gaps)}")
    sys.stdout.flush()


def chosen(names: str, options: Sequence[str] = ()) -> list[Extractor]:
    """Extractors by names with commas and options such as "mfcc.coefficients=20". Raises ConfigError."""
    from affuse.features import make, registry

    asked = [part.strip() for part in names.split(",") if part.strip()]
    if not asked:
        raise ConfigError(f"name the features, with commas; known: {', '.join(registry.names())}")
    known = list(dict.fromkeys(registry.canonical(part) for part in asked))
    settings: dict[str, dict[str, Any]] = {part: {} for part in known}
    for option in options:
        target, _, value = option.partition("=")
        owner, _, key = target.partition(".")
        if not (owner and key and value) or registry.canonical(owner) not in settings:
            raise ConfigError(f"--option takes NAME.OPTION=VALUE of features that are asked for; got {option!r}")
        settings[registry.canonical(owner)][key] = _value(value)
    return [make(part, **settings[part]) for part in known]


def _value(text: str) -> Any:
    """A value as JSON writes it, lists as tuples; anything else is a word."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class _Rows:
    """What to measure: facts by column (n), the items of every extractor by name, and the rows to learn from."""

    facts: dict[str, list[Any]]
    items: dict[str, list[Item | None]]
    learned_from: list[int]
    inputs: list[Path]


def _rows_of_files(sources: Sequence[Path], extractors: Sequence[Extractor]) -> _Rows:
    paths = [path for source in sources for path in (_files_in(source, extractors) if source.is_dir() else [source])]
    items: dict[str, list[Item | None]] = {
        e.name: [_text_in(path) if e.modality == "text" else path for path in paths] for e in extractors
    }
    return _Rows({"path": [str(path) for path in paths]}, items, list(range(len(paths))), paths)


def _files_in(folder: Path, extractors: Sequence[Extractor]) -> list[Path]:
    """Files below a folder, sorted, that the extractors may read: texts for words, all others for voices and faces."""
    texts = {extractor.modality == "text" for extractor in extractors}
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    kept = [p for p in found if (p.suffix.lower() in _TEXTS) in texts]
    if not kept:
        raise DataError(f"{folder} holds no files to measure")
    return kept


def _text_in(path: Path) -> str:
    from affuse.media import Recording

    return " ".join(cue.text for cue in Recording.open(path).cues)


def _rows_of_table(manifest: Path, extractors: Sequence[Extractor]) -> _Rows:
    from affuse.training.data import DataOptions
    from affuse.training.data.manifest import read_manifest
    from affuse.training.data.rows import complain

    modalities = {extractor.modality for extractor in extractors}
    asked = modalities.pop() if len(modalities) == 1 else "joint"
    rows = read_manifest(manifest, asked, DataOptions(unlabelled="keep"))
    if rows.problems:
        raise complain(manifest.name, rows.problems, len(rows.samples))
    if not rows.samples:
        raise DataError(f"{manifest} holds no rows")
    samples = rows.samples
    facts: dict[str, list[Any]] = {
        "path": [str(s.path or "") for s in samples],
        "start": [s.start for s in samples],
        "end": [s.end for s in samples],
        "text": [s.text or "" for s in samples],
        "label": rows.words,
        "speaker": [s.speaker or "" for s in samples],
        "split": [s.split for s in samples],
    }
    facts = {key: values for key, values in facts.items() if any(value not in ("", None) for value in values)}
    train = [i for i, s in enumerate(samples) if s.split == "train"]
    items = {e.name: [item_of(s, e.modality) for s in samples] for e in extractors}
    return _Rows(facts, items, train or list(range(len(samples))), [manifest, *(s.path for s in samples if s.path)])


def item_of(sample: Sample, modality: str) -> Item | None:
    """What an extractor of ``modality`` reads of a sample; None where the sample does not have it."""
    from affuse.features import Clip

    if modality == "text":
        return sample.text
    if modality == "face" and sample.pixels is not None:
        return sample.pixels
    return None if sample.path is None else Clip(sample.path, sample.start, sample.end)


def measured(extractor: Extractor, items: Sequence[Item | None], store: FeatureStore | None) -> list[Measured]:
    """What an extractor measures in ``items``, with progress on a terminal."""
    with progress_bar(extractor.name) as move:
        step = None if move is None else (lambda done, n: move(extractor.name, done / n))
        return extractor.measure(items, step, store)


def _table(rows: _Rows, extractors: Sequence[Extractor], store: FeatureStore | None) -> pd.DataFrame:
    import pandas as pd

    parts = [pd.DataFrame(rows.facts)]
    for extractor in extractors:
        found = measured(extractor, rows.items[extractor.name], store)
        extractor.learn([found[i] for i in rows.learned_from])
        # A vocabulary may hold any word, "path" and "label" among them.
        prefix = f"{extractor.name}__" if extractor.modality == "text" else ""
        names = [f"{prefix}{column}" for column in extractor.get_feature_names_out()]
        parts.append(pd.DataFrame(extractor.rows(found), columns=names))
        parts.append(pd.DataFrame({f"{extractor.name} reason": [m.reason for m in found]}))
    return pd.concat(parts, axis=1)
