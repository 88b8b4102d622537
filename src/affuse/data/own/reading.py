"""From a folder, a table or the name of a corpus to checked samples in splits."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from affuse.data.corpora import names, recognise
from affuse.data.own.checks import copies_of_held_out, label_problems, look_at_files, shared_speakers
from affuse.data.own.corpora import read_corpus
from affuse.data.own.folder import read_folder
from affuse.data.own.labelling import label_space
from affuse.data.own.manifest import TABLE_SUFFIXES, read_manifest
from affuse.data.own.rows import Problem, Rows, complain
from affuse.data.own.samples import MODALITIES, DataOptions, Sample, TrainingData
from affuse.data.own.splits import complete_splits
from affuse.data.splits import find_split
from affuse.errors import ConfigError, DataError
from affuse.labels import LabelSpace

__all__ = ["read"]

_MANIFESTS = ("manifest", "metadata", "labels")
_DEFAULTS = DataOptions()


def read(source: str | Path, modality: str, options: DataOptions = _DEFAULTS) -> TrainingData:
    """Read and check the data of ``source`` for "voice", "face", "text" or "joint" models.

    ``source`` is a folder (a known corpus as it lies, labels in the names of subfolders or files, or a table named
    manifest, metadata or labels), a CSV, TSV or Parquet table, or the name of a corpus in ``options.folder``. Missing
    splits are made. Raises DataError that lists every bad row with its reason, ConfigError for an unknown modality.
    """
    if modality not in MODALITIES:
        raise ConfigError(f"unknown modality {modality!r}; known: {', '.join(MODALITIES)}")
    if options.columns and modality != "joint":
        raise ConfigError(f'columns are read by models of the modality "joint" only; got the modality "{modality}"')
    rows = _rows(source, modality, options)
    if rows.labels is not None and modality == "text":
        options = replace(options, bad_rows="skip")  # some published texts are empty, and nobody can mend them
    _keep_recordings_whole(rows)
    labels, samples = _labelled(rows, modality, options)
    samples = _sound_rows(rows, samples, modality, options)
    samples, notes = complete_splits(samples, options.dev, options.seed)
    samples, more = _without_copies(samples)
    if problems := label_problems(samples, labels):
        raise complain(rows.name, problems, len(samples))
    return TrainingData(rows.name, modality, labels, tuple(samples), rows.column_names, (*rows.notes, *notes, *more))


def _rows(source: str | Path, modality: str, options: DataOptions) -> Rows:
    path = Path(source)
    if path.is_file():
        return read_manifest(path, modality, options)
    if path.is_dir():
        return _rows_of_folder(path, modality, options)
    if str(source) in names():
        if options.folder is None:
            raise ConfigError(f"{source} is the name of a corpus; the folder that holds the corpora is needed")
        return read_corpus(str(source), options.folder, modality)
    near = difflib.get_close_matches(str(source), names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise DataError(f"{source} is no file, no folder and no corpus that affuse knows ({', '.join(names())}){hint}")


def _rows_of_folder(folder: Path, modality: str, options: DataOptions) -> Rows:
    corpus = recognise(folder)
    if corpus is not None:
        return read_corpus(corpus, folder, modality)
    tables = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in TABLE_SUFFIXES]
    listing = next((table for table in tables if table.stem.casefold() in _MANIFESTS), None)
    if listing is not None:
        return read_manifest(listing, modality, options)
    by_split = {split: table for table in tables if (split := find_split(table.stem))}
    if "train" in by_split:
        return _joined(folder, by_split, modality, options)
    return read_folder(folder, modality, options)


def _joined(folder: Path, tables: dict[str, Path], modality: str, options: DataOptions) -> Rows:
    """Tables named train, dev and test as one."""
    rows = Rows(folder.resolve().name)
    for split, table in tables.items():
        part = read_manifest(table, modality, options)
        if rows.samples and (part.vote_words, part.column_names) != (rows.vote_words, rows.column_names):
            raise DataError(f"{table} has other columns of votes or features than the tables beside it")
        rows.vote_words, rows.column_names = part.vote_words, part.column_names
        rows.samples += [replace(sample, split=split) for sample in part.samples]
        rows.words += part.words
        rows.problems += part.problems
        rows.notes += part.notes
    return rows


def _keep_recordings_whole(rows: Rows) -> None:
    """Take moments of one recording for one speaker's where neither speakers nor splits are stated."""
    stated = any(sample.speaker or sample.split for sample in rows.samples)
    if not stated and any(sample.path is not None and sample.start is not None for sample in rows.samples):
        rows.samples = [replace(s, speaker=None if s.path is None else str(s.path)) for s in rows.samples]
        rows.notes.append("no speakers are stated: the moments of one recording are taken for those of one speaker")


def _labelled(rows: Rows, modality: str, options: DataOptions) -> tuple[LabelSpace, list[Sample]]:
    """The label space and the samples with their labels; what is missing in a row becomes a problem of ``rows``."""
    if rows.labels is not None:
        rows.problems += _incomplete(rows.samples, modality)
        return rows.labels, rows.samples
    words = [word.strip() for word in rows.words]
    labelling = label_space(rows.name, [*words, *rows.vote_words])
    rows.notes += labelling.notes
    vote_columns = [labelling.columns[word.strip()] for word in rows.vote_words]
    samples = []
    for sample, word in zip(rows.samples, words, strict=True):
        votes = _shares(sample.distribution, vote_columns, len(labelling.space))
        label = labelling.columns.get(word)
        if label is None and votes is not None:
            label = int(votes.argmax())
        samples.append(replace(sample, label=label, distribution=votes))
        if word in labelling.misspelt:
            reason = f"unknown label {word!r}; did you mean {labelling.misspelt[word]!r}?"
            rows.problems.append(Problem(sample.where, reason))
        elif label is None and options.unlabelled == "refuse":
            rows.problems.append(Problem(sample.where, "the label is missing"))
    rows.problems += _incomplete(samples, modality)
    return labelling.space, samples


def _shares(votes: np.ndarray | None, columns: Sequence[int], n_labels: int) -> np.ndarray | None:
    if votes is None:
        return None
    shares = np.zeros(n_labels)
    np.add.at(shares, list(columns), votes / votes.sum())
    return shares


def _incomplete(samples: Sequence[Sample], modality: str) -> Iterator[Problem]:
    for sample in samples:
        has_file = sample.path is not None or sample.pixels is not None
        has_text = bool(sample.text and sample.text.strip())
        if modality in ("voice", "face") and not has_file:
            yield Problem(sample.where, "the path is missing")
        elif modality == "text" and not has_text:
            yield Problem(sample.where, "the text is empty")
        elif modality == "joint" and not has_file and not has_text and sample.columns is None:
            yield Problem(sample.where, "the row has neither a path nor a text")


def _sound_rows(rows: Rows, samples: Sequence[Sample], modality: str, options: DataOptions) -> list[Sample]:
    """Samples that can be used. Raises DataError with all problems, unless bad rows are to be skipped."""
    look = look_at_files(samples, modality, options)
    problems = [*rows.problems, *look.problems]
    rows.notes += look.notes
    if rows.labels is None and any(sample.split for sample in samples):
        problems += _wrong_splits(look.samples, {p.where for p in problems})
    order = {sample.where: i for i, sample in enumerate(samples)}
    problems.sort(key=lambda problem: order.get(problem.where, -1))
    bad = {problem.where for problem in problems} - {""}
    if problems and (options.bad_rows == "stop" or "" in {p.where for p in problems} or len(bad) == len(samples)):
        raise complain(rows.name, problems, len(samples))
    if bad:
        rows.notes.append(f"{len(bad)} of {len(samples)} rows were left out, such as {problems[0]}")
    return [sample for sample in look.samples if sample.where not in bad]


def _wrong_splits(samples: Sequence[Sample], bad: set[str]) -> Iterator[Problem]:
    """Where the splits that the data state leave out a row, part a speaker or share a recording."""
    yield from (Problem(s.where, "the split is missing, though other rows state one") for s in samples if not s.split)
    stated = [sample for sample in samples if sample.split]
    yield from shared_speakers(stated)
    files = [sample for sample in stated if sample.path is not None and sample.where not in bad]
    for where, other in copies_of_held_out(files).items():
        yield Problem(where, f"the same content stands in {other.split} ({other.where})")


def _without_copies(samples: list[Sample]) -> tuple[list[Sample], list[str]]:
    """Leave out the rows of train that stand in a held-out part as well."""
    copies = copies_of_held_out(samples)
    kept = [sample for sample in samples if sample.where not in copies]
    if not copies:
        return kept, []
    n = sum(sample.split == "train" for sample in samples)
    return kept, [f"rows of train that stand in a held-out part as well were left out: {len(copies)} of {n}"]
