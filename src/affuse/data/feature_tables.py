"""Features of files or of the rows of a table, one row an item."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from affuse.data.own import Sample
    from affuse.features import Extractor, FeatureStore
    from affuse.features.items import Item

__all__ = ["FeatureRows", "chosen", "feature_table", "item_of", "rows_of_files", "rows_of_table"]

_TEXTS = (".txt", ".srt", ".vtt", ".json")


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
    progress: Callable[[str, int, int], None] | None = None,
) -> pd.DataFrame:
    """One row an item: its facts, the values of every extractor, and the reason where there are none.

    ``progress`` is called with the name of an extractor, the number of items done and of all items.
    """
    import pandas as pd

    parts = [pd.DataFrame(rows.facts)]
    for extractor in extractors:
        step = None if progress is None else (lambda name, share: progress(name, round(share * 1000), 1000))
        found = extractor.measure(rows.items[extractor.name], step, store)
        extractor.learn([found[i] for i in rows.learned_from])
        # A vocabulary may hold any word, "path" and "label" among them.
        prefix = f"{extractor.name}__" if extractor.modality == "text" else ""
        names = [f"{prefix}{column}" for column in extractor.get_feature_names_out()]
        parts.append(pd.DataFrame(extractor.rows(found), columns=names))
        parts.append(pd.DataFrame({f"{extractor.name} reason": [m.reason for m in found]}))
    return pd.concat(parts, axis=1)
