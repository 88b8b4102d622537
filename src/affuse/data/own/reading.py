"""From a folder, a table or the name of a corpus to checked samples in splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from affuse.data.corpora import names, recognise
from affuse.data.own.checks import check_files, copies_of_held_out, label_problems, shared_speakers
from affuse.data.own.corpora import read_corpus
from affuse.data.own.folder import read_folder
from affuse.data.own.labelling import label_space
from affuse.data.own.manifest import read_manifest
from affuse.data.own.samples import MODALITIES, DataOptions, Sample, TrainingData
from affuse.data.own.splits import complete_splits
from affuse.data.own.unchecked import RowProblem, UncheckedData, data_error
from affuse.data.splits import find_split
from affuse.errors import ConfigError, DataError
from affuse.labels import LabelSpace
from affuse.registry import suggestion
from affuse.tables import TABLE_SUFFIXES

__all__ = ["read"]

_MANIFESTS = ("manifest", "metadata", "labels")
_DEFAULTS = DataOptions()


def read(source: str | Path, modality: str, options: DataOptions = _DEFAULTS) -> TrainingData:
    """Read and check labelled data for models of one modality.

    A dev split is made where the data state none, of speakers who are not in train.

    Parameters
    ----------
    source : str or Path
        A CSV, TSV, Parquet or Excel table, the name of a corpus in ``options.folder``, or a folder: a known corpus as
        it was published, one with a table named manifest, metadata or labels, or one whose subfolders or files are
        named by their labels.
    modality : {"voice", "face", "text", "joint"}
        What the models read.
    options : DataOptions, optional
        How the data are read.

    Returns
    -------
    TrainingData

    Raises
    ------
    DataError
        If rows cannot be used; the message lists them with their reasons.
    ConfigError
        If the modality is unknown, or an option does not suit it.

    Examples
    --------
    >>> rows = [f"Such a {word} day {i},{word}" for i in range(5) for word in ("happy", "sad")]
    >>> _ = Path("days.csv").write_text("\\n".join(["text,label", *rows]))
    >>> data = read("days.csv", "text")
    >>> data.labels.labels, len(data.split("train")), len(data.split("dev"))
    (('happiness', 'sadness'), 8, 2)
    """
    if modality not in MODALITIES:
        raise ConfigError(f"unknown modality {modality!r}; known: {', '.join(MODALITIES)}")
    if options.columns and modality != "joint":
        raise ConfigError(f'columns are read by models of the modality "joint" only; got the modality "{modality}"')
    data = _unchecked(source, modality, options)
    if data.labels is not None and modality == "text":
        options = replace(options, bad_rows="skip")  # some published texts are empty
    _keep_recordings_whole(data)
    labels, samples = _labelled(data, modality, options)
    samples = _usable_samples(data, samples, modality, options)
    samples, notes = complete_splits(samples, options.dev, options.seed)
    samples, more = _without_copies(samples)
    if problems := label_problems(samples, labels):
        raise data_error(data.name, problems, len(samples))
    return TrainingData(data.name, modality, labels, tuple(samples), data.column_names, (*data.notes, *notes, *more))


def _unchecked(source: str | Path, modality: str, options: DataOptions) -> UncheckedData:
    path = Path(source)
    if path.is_file():
        return read_manifest(path, modality, options)
    if path.is_dir():
        return _unchecked_folder(path, modality, options)
    if str(source) in names():
        if options.folder is None:
            raise ConfigError(f"{source} is the name of a corpus; the folder that holds the corpora is needed")
        return read_corpus(str(source), options.folder, modality)
    hint = suggestion(str(source), names())
    raise DataError(f"{source} is no file, no folder and no known corpus{hint}; known: {', '.join(names())}")


def _unchecked_folder(folder: Path, modality: str, options: DataOptions) -> UncheckedData:
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


def _joined(folder: Path, tables: dict[str, Path], modality: str, options: DataOptions) -> UncheckedData:
    """Tables named train, dev and test as one."""
    data = UncheckedData(folder.resolve().name)
    for split, table in tables.items():
        part = read_manifest(table, modality, options)
        if data.samples and (part.vote_words, part.column_names) != (data.vote_words, data.column_names):
            raise DataError(f"{table} has other columns of votes or features than the tables beside it")
        data.vote_words, data.column_names = part.vote_words, part.column_names
        data.samples += [replace(sample, split=split) for sample in part.samples]
        data.words += part.words
        data.problems += part.problems
        data.notes += part.notes
    return data


def _keep_recordings_whole(data: UncheckedData) -> None:
    """Take moments of one recording for one speaker's where neither speakers nor splits are stated."""
    stated = any(sample.speaker or sample.split for sample in data.samples)
    if not stated and any(sample.path is not None and sample.start is not None for sample in data.samples):
        data.samples = [replace(s, speaker=None if s.path is None else str(s.path)) for s in data.samples]
        data.notes.append("no speakers are stated: the moments of one recording are taken for those of one speaker")


def _labelled(data: UncheckedData, modality: str, options: DataOptions) -> tuple[LabelSpace, list[Sample]]:
    """The label space and the samples with their labels; what is missing in a row becomes a problem of ``data``."""
    if data.labels is not None:
        data.problems += _incomplete(data.samples, modality)
        return data.labels, data.samples
    words = [word.strip() for word in data.words]
    labelling = label_space(data.name, [*words, *data.vote_words])
    data.notes += labelling.notes
    vote_columns = [labelling.columns[word.strip()] for word in data.vote_words]
    samples = []
    for sample, word in zip(data.samples, words, strict=True):
        votes = _shares(sample.distribution, vote_columns, len(labelling.space))
        label = labelling.columns.get(word)
        if label is None and votes is not None:
            label = int(votes.argmax())
        samples.append(replace(sample, label=label, distribution=votes))
        if word in labelling.misspelt:
            reason = f"unknown label {word!r}; did you mean {labelling.misspelt[word]!r}?"
            data.problems.append(RowProblem(sample.where, reason))
        elif label is None and options.unlabelled == "refuse":
            data.problems.append(RowProblem(sample.where, "the label is missing"))
    data.problems += _incomplete(samples, modality)
    return labelling.space, samples


def _shares(votes: np.ndarray | None, columns: Sequence[int], n_labels: int) -> np.ndarray | None:
    if votes is None:
        return None
    shares = np.zeros(n_labels)
    np.add.at(shares, list(columns), votes / votes.sum())
    return shares


def _incomplete(samples: Sequence[Sample], modality: str) -> Iterator[RowProblem]:
    for sample in samples:
        has_file = sample.path is not None or sample.pixels is not None
        has_text = bool(sample.text and sample.text.strip())
        if modality in ("voice", "face") and not has_file:
            yield RowProblem(sample.where, "the path is missing")
        elif modality == "text" and not has_text:
            yield RowProblem(sample.where, "the text is empty")
        elif modality == "joint" and not has_file and not has_text and sample.columns is None:
            yield RowProblem(sample.where, "the row has neither a path nor a text")


def _usable_samples(
    data: UncheckedData, samples: Sequence[Sample], modality: str, options: DataOptions
) -> list[Sample]:
    """Samples that can be used. Raises DataError with all problems, unless bad rows are to be skipped."""
    report = check_files(samples, modality, options)
    problems = [*data.problems, *report.problems]
    data.notes += report.notes
    if data.labels is None and any(sample.split for sample in samples):
        problems += _wrong_splits(report.samples, {p.where for p in problems})
    order = {sample.where: i for i, sample in enumerate(samples)}
    problems.sort(key=lambda problem: order.get(problem.where, -1))
    bad = {problem.where for problem in problems} - {""}
    if problems and (options.bad_rows == "stop" or "" in {p.where for p in problems} or len(bad) == len(samples)):
        raise data_error(data.name, problems, len(samples))
    if bad:
        data.notes.append(f"{len(bad)} of {len(samples)} rows were left out, such as {problems[0]}")
    return [sample for sample in report.samples if sample.where not in bad]


def _wrong_splits(samples: Sequence[Sample], bad: set[str]) -> Iterator[RowProblem]:
    """Where the splits that the data state leave out a row, part a speaker or share a recording."""
    yield from (
        RowProblem(s.where, "the split is missing, though other rows state one") for s in samples if not s.split
    )
    stated = [sample for sample in samples if sample.split]
    yield from shared_speakers(stated)
    files = [sample for sample in stated if sample.path is not None and sample.where not in bad]
    for where, other in copies_of_held_out(files).items():
        yield RowProblem(where, f"the same content is in {other.split} ({other.where})")


def _without_copies(samples: list[Sample]) -> tuple[list[Sample], list[str]]:
    """Leave out the rows of train that are in dev or test as well."""
    copies = copies_of_held_out(samples)
    kept = [sample for sample in samples if sample.where not in copies]
    if not copies:
        return kept, []
    n = sum(sample.split == "train" for sample in samples)
    return kept, [f"rows of train that are in dev or test as well were left out: {len(copies)} of {n}"]
