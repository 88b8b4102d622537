"""Pseudo-labels: what a package is sure of becomes something to learn from.

``python -m affuse.training.low_resource.pseudo --package runs/x/package --data SOURCE --modality voice --out more.csv``

A label is taken where its probability passes a threshold (Lee 2013; Sohn et al. 2020, arXiv:2001.07685), and of every
label only so many rows, the surest first, so that the frequent ones do not crowd out the rest (Zou et al. 2018,
arXiv:1810.07911). The manifest that is written says which rows were labelled by whom.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from affuse.data.own import DataOptions, Sample, read
from affuse.errors import AffuseError, ConfigError, DataError
from affuse.labels import LabelSpace
from affuse.packages import Package, read_package
from affuse.tables import write_table
from affuse.training.low_resource.inference import predict

__all__ = ["PseudoLabel", "PseudoOptions", "confident_rows", "in_rounds", "main", "pseudo_label", "write_manifest"]


@dataclass(frozen=True)
class PseudoOptions:
    """Which answers become labels.

    Parameters
    ----------
    threshold: probability that the label must reach. quota: rows of one label at most; None takes as many of each as
    the rarest label that passes has, times ``ratio``. ratio: how much more of one label than of the rarest is fine.
    """

    threshold: float = 0.9
    quota: int | None = None
    ratio: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold takes a probability above 0 and at most 1; got {self.threshold:g}")
        if self.quota is not None and self.quota < 1:
            raise ConfigError(f"quota takes at least 1 row of a label; got {self.quota}")
        if self.ratio < 1:
            raise ConfigError(f"ratio takes at least 1; got {self.ratio:g}")


@dataclass(frozen=True, eq=False)
class PseudoLabel:
    """A sample with the label that a network gave it, in split "train", and the probability of that label."""

    sample: Sample
    confidence: float


def confident_rows(P: np.ndarray, options: PseudoOptions) -> np.ndarray:
    """Rows of probabilities (n, k), in order, whose likeliest column becomes their label; rows of NaN never do."""
    known = np.isfinite(P).all(axis=1)
    confidence = np.where(known, np.where(known[:, None], P, 0).max(axis=1), 0)
    sure = known & (confidence >= options.threshold)
    labels = np.where(known[:, None], P, 0).argmax(axis=1)
    counts = np.bincount(labels[sure], minlength=P.shape[1])
    if not counts.any():
        return np.empty(0, dtype=int)
    quota = options.quota if options.quota is not None else int(options.ratio * counts[counts > 0].min())
    taken = [
        rows[np.argsort(-confidence[rows], kind="stable")[:quota]]
        for rows in (np.flatnonzero(sure & (labels == label)) for label in range(P.shape[1]))
    ]
    return np.sort(np.concatenate(taken))


def pseudo_label(
    package: Package, samples: Sequence[Sample], options: PseudoOptions | None = None, labels: LabelSpace | None = None
) -> list[PseudoLabel]:
    """Those of ``samples`` that a package is sure of, with its labels as columns of ``labels`` (its own, unless given).

    Raises DataError where ``labels`` lacks one of the package's, or where there are no samples.
    """
    own = package.description.labels
    columns = [(labels or own).index(label) for label in own.labels]
    P = predict(package, samples).probabilities
    return [
        PseudoLabel(
            replace(samples[row], label=columns[int(P[row].argmax())], distribution=None, split="train"),
            float(P[row].max()),
        )
        for row in confident_rows(P, options or PseudoOptions())
    ]


def in_rounds(
    train: Callable[[Sequence[Sample]], Package],
    labelled: Sequence[Sample],
    unlabelled: Sequence[Sample],
    rounds: int,
    options: PseudoOptions | None = None,
    labels: LabelSpace | None = None,
) -> tuple[Package, list[PseudoLabel]]:
    """Train, label, and train anew on both, ``rounds`` times; every round labels from scratch, so errors can heal.

    ``train`` makes a package of samples. Returns the last package and the pseudo-labels that it learned from.
    """
    package, found = train(labelled), list[PseudoLabel]()
    for _ in range(rounds):
        found = pseudo_label(package, unlabelled, options, labels)
        package = train([*labelled, *(label.sample for label in found)])
    return package, found


def write_manifest(path: Path, given: Sequence[Sample], found: Sequence[PseudoLabel], labels: LabelSpace) -> None:
    """Write a CSV manifest that ``affuse train`` reads: labelled samples as they are, and pseudo-labels.

    The column "origin" says "given" or "pseudo", "confidence" how sure the network was. Paths are relative to the
    table. Raises DataError for a sample with neither file nor text, OutputError where the table cannot be written.
    """
    rows = [(sample, "given", "") for sample in given]
    rows += [(label.sample, "pseudo", f"{label.confidence:.4f}") for label in found]
    if not rows:
        raise DataError("no row is left for a manifest")
    columns = ["path", "start", "end", "text", "label", "speaker", "split", "origin", "confidence"]
    told = []
    for sample, origin, confidence in rows:
        if sample.path is None and sample.text is None:
            raise DataError(f"{sample.where} has neither a file nor a text that a table could name")
        place = "" if sample.path is None else os.path.relpath(sample.path.resolve(), path.parent.resolve())
        label = "" if sample.label is None else labels.labels[sample.label]
        times = ("" if time is None else f"{time:g}" for time in (sample.start, sample.end))
        told.append([place, *times, sample.text or "", label, sample.speaker or "", sample.split, origin, confidence])
    import pandas as pd

    write_table(pd.DataFrame(told, columns=columns), path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Label what a package is sure of; exits with 2 and a sentence where something does not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="package of the expert that labels")
    parser.add_argument("--data", required=True, help="folder or manifest; its rows without a label are asked about")
    parser.add_argument("--modality", required=True, choices=("voice", "face", "text"))
    parser.add_argument("--out", type=Path, required=True, help="manifest to write")
    parser.add_argument(
        "--threshold", type=float, default=PseudoOptions.threshold, help="least probability of a label (%(default)s)"
    )
    parser.add_argument("--quota", type=int, help="rows of one label at most")
    options = parser.parse_args(arguments)
    try:
        chosen = PseudoOptions(threshold=options.threshold, quota=options.quota)
        data = read(options.data, options.modality, DataOptions(unlabelled="keep"))
        given = [sample for sample in data.samples if sample.label is not None]
        asked = [sample for sample in data.split("train") if sample.label is None]
        found = pseudo_label(read_package(options.package), asked, chosen, data.labels)
        write_manifest(options.out, given, found, data.labels)
    except AffuseError as error:
        parser.exit(2, f"affuse: {error}\n")
    print(
        f"{len(found)} of {len(asked)} rows without a label got one; {options.out} holds {len(given) + len(found)} rows"
    )


if __name__ == "__main__":
    main()
