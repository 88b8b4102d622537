"""Features of files or of the rows of a table, one row an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.errors import ConfigError, DataError
from affuse.progress import Progress
from affuse.registry import one_or_more

if TYPE_CHECKING:
    import pandas as pd

    from affuse.data.own import Sample
    from affuse.features import Extractor, FeatureStore
    from affuse.features.items import Item

__all__ = [
    "ExtractedFeatures",
    "FeatureRows",
    "chosen",
    "extract_features",
    "feature_table",
    "item_of",
    "rows_of_files",
    "rows_of_table",
]

_TEXTS = (".txt", ".srt", ".vtt", ".json")


def chosen(names: str | Sequence[str], options: Mapping[str, Any] | None = None) -> list[Extractor]:
    """Extractors by names, with options by dotted name such as {"mfcc.coefficients": 20}. Raises ConfigError."""
    from affuse.features import make, registry

    if not names:
        raise ConfigError(f"name the features, with commas; known: {', '.join(registry.names())}")
    known = list(dict.fromkeys(registry.canonical(name) for name in one_or_more(names)))
    settings: dict[str, dict[str, Any]] = {name: {} for name in known}
    for target, value in (options or {}).items():
        owner, _, key = target.partition(".")
        if not (owner and key) or registry.canonical(owner) not in settings:
            raise ConfigError(f"--set takes NAME.OPTION=VALUE of features that are asked for; got {target!r}")
        settings[registry.canonical(owner)][key] = value
    return [make(name, **settings[name]) for name in known]


@dataclass(frozen=True)
class ExtractedFeatures:
    """Features of recordings, a row each; `extract_features` makes it.

    Parameters
    ----------
    table : pandas.DataFrame
        What each row is, the values of every extractor, and the reason where there are none.
    missing : mapping of str to int
        Number of rows without values, by feature.

    Examples
    --------
    >>> _ = Path("note.txt").write_text("What a good day. A good end.")
    >>> found = extract_features([Path("note.txt")], ["bag-of-words"])
    >>> found.to_frame()["bag-of-words__good"].tolist()
    [2.0]
    """

    table: pd.DataFrame
    missing: Mapping[str, int]

    def to_frame(self) -> pd.DataFrame:
        """The table.

        Returns
        -------
        pandas.DataFrame
        """
        return self.table

    def to_dict(self) -> dict[str, Any]:
        """How many rows and columns there are, and how many rows lack values.

        Returns
        -------
        dict
            ``rows``, ``columns`` and ``missing`` by feature.
        """
        return {"rows": len(self.table), "columns": self.table.shape[1], "missing": dict(self.missing)}


def extract_features(
    sources: str | Path | Sequence[str | Path],
    features: str | Sequence[str],
    *,
    options: Mapping[str, Any] | None = None,
    store: FeatureStore | None = None,
    progress: Progress | None = None,
) -> ExtractedFeatures:
    """Measure features by name, a row each recording, picture or text.

    A vocabulary is learned from the rows of the split "train" where a table states splits, else from all rows.

    Parameters
    ----------
    sources : str or Path, or sequence of str or Path
        One path is a folder, or a table with path, start, end, text, label, speaker and split; a sequence holds files
        and folders.
    features : str or sequence of str
        Names of features (`affuse.features.names`).
    options : mapping, optional
        Options by dotted name, such as ``{"mfcc.coefficients": 20}``.
    store : FeatureStore, optional
        Where measured features are kept.
    progress : callable, optional
        Called with the name of a feature and the share of the rows that is done.

    Returns
    -------
    ExtractedFeatures
        Its ``to_frame`` has a row an item.

    Raises
    ------
    ConfigError
        If a feature or option is unknown.
    DataError
        If the table does not fit, or a folder holds nothing to measure.

    Examples
    --------
    >>> _ = Path("mine.csv").write_text("text,label,split\\ngood day,joy,train\\nunseen day,joy,test\\n")
    >>> found = extract_features("mine.csv", ["bag-of-words"])
    >>> [name for name in found.to_frame() if name.startswith("bag-of-words__")]
    ['bag-of-words__day', 'bag-of-words__good']
    """
    extractors = chosen(features, options)
    if isinstance(sources, str | Path) and not Path(sources).is_dir():
        rows = rows_of_table(Path(sources), extractors)
    else:
        rows = rows_of_files([Path(source) for source in one_or_more(sources)], extractors)
    table = feature_table(rows, extractors, store, progress)
    return ExtractedFeatures(table, {e.name: int((table[f"{e.name} reason"] != "").sum()) for e in extractors})


@dataclass(frozen=True)
class FeatureRows:
    """What to measure: facts by column (n), the items of every extractor by name, and the rows to learn from."""

    facts: dict[str, list[Any]]
    items: dict[str, list[Item | None]]
    learned_from: list[int]
    inputs: list[Path]


def rows_of_files(sources: Sequence[Path], extractors: Sequence[Extractor]) -> FeatureRows:
    """Items of files and of the files in folders. Raises DataError for a folder without any."""
    paths = [path for source in sources for path in (_files_in(source, extractors) if source.is_dir() else [source])]
    items: dict[str, list[Item | None]] = {
        e.name: [_text_in(path) if e.modality == "text" else path for path in paths] for e in extractors
    }
    return FeatureRows({"path": [str(path) for path in paths]}, items, list(range(len(paths))), paths)


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


def rows_of_table(manifest: Path, extractors: Sequence[Extractor]) -> FeatureRows:
    """Items of the rows of a table. Raises DataError where a row does not fit or there is none."""
    from affuse.data.own import DataOptions
    from affuse.data.own.manifest import read_manifest
    from affuse.data.own.unchecked import data_error

    modalities = {extractor.modality for extractor in extractors}
    asked = modalities.pop() if len(modalities) == 1 else "joint"
    rows = read_manifest(manifest, asked, DataOptions(unlabelled="keep"))
    if rows.problems:
        raise data_error(manifest.name, rows.problems, len(rows.samples))
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
    return FeatureRows(
        facts, items, train or list(range(len(samples))), [manifest, *(s.path for s in samples if s.path)]
    )


def item_of(sample: Sample, modality: str) -> Item | None:
    """What an extractor of ``modality`` reads of a sample; None where the sample does not have it."""
    from affuse.features import Clip

    if modality == "text":
        return sample.text
    if modality == "face" and sample.pixels is not None:
        return sample.pixels
    return None if sample.path is None else Clip(sample.path, sample.start, sample.end)


def feature_table(
    rows: FeatureRows,
    extractors: Sequence[Extractor],
    store: FeatureStore | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row an item: its facts, the values of every extractor, and the reason where there are none.

    ``progress`` is called with the name of an extractor and the share of the items that is done.
    """
    import pandas as pd

    parts = [pd.DataFrame(rows.facts)]
    for extractor in extractors:
        found = extractor.measure(rows.items[extractor.name], progress, store)
        extractor.learn([found[i] for i in rows.learned_from])
        # A vocabulary may hold any word, "path" and "label" among them.
        prefix = f"{extractor.name}__" if extractor.modality == "text" else ""
        names = [f"{prefix}{column}" for column in extractor.get_feature_names_out()]
        parts.append(pd.DataFrame(extractor.rows(found), columns=names))
        parts.append(pd.DataFrame({f"{extractor.name} reason": [m.reason for m in found]}))
    return pd.concat(parts, axis=1)
