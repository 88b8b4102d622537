"""A fuser that learns from a few labelled recordings: what ``affuse adapt`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import AffuseError, DataError
from affuse.evaluation.manifest import Clip, Manifest, observe_clips, read_manifest
from affuse.labels import EKMAN
from affuse.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

    from affuse.analyzer import Analyzer, Observation
    from affuse.fusion.named import NamedFuser
    from affuse.fusion.transfer import Transfer

__all__ = ["AdaptedFuser", "adapt"]


@dataclass(frozen=True)
class AdaptedFuser:
    """A fuser that has learned from labelled recordings, and what cross-validation said; `adapt` makes it.

    Parameters
    ----------
    transfer : Transfer
        The fuser that was chosen, and the facts of the choice.
    failures : sequence of (Clip, str)
        Clips that could not be analysed, each with the reason.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.evaluation import Clip, Manifest
    >>> from affuse.testing import FakeExpert
    >>> clips = [Clip(f"row {i}", ("fear", "happiness")[i % 2], text=f"word {i}") for i in range(20)]
    >>> found = adapt(Manifest("mine", clips), Analyzer({"text": FakeExpert("text", {"anger": 0.6})}))
    >>> found.to_dict()["rows"]
    20
    """

    transfer: Transfer
    failures: Sequence[tuple[Clip, str]]

    @property
    def fuser(self) -> NamedFuser:
        """The fuser, whose `write` makes what ``--fuser`` of the commands reads."""
        return self.transfer.fuser

    def to_dict(self) -> dict[str, Any]:
        """Everything that cross-validation said.

        Returns
        -------
        dict
            ``chosen``, ``tried`` by name, ``rows``, ``rows_by_label``, ``folds``, ``gain``, ``per_doubling`` and
            ``failed``.
        """
        failed = [{"row": clip.where, "reason": reason} for clip, reason in self.failures]
        return {"chosen": self.transfer.chosen, **self.transfer.facts, "failed": failed}

    def to_frame(self) -> pd.DataFrame:
        """What every candidate reaches on clips that it did not learn from.

        Returns
        -------
        pandas.DataFrame
            One row a candidate: name, accuracy, log loss, and whether it was chosen.
        """
        import pandas as pd

        tried = self.transfer.facts["tried"]
        return pd.DataFrame(
            [{"fuser": name, **own, "chosen": name == self.transfer.chosen} for name, own in tried.items()]
        )


def adapt(
    rows: Manifest | str | Path, analyzer: Analyzer | None = None, *, progress: Progress | None = None
) -> AdaptedFuser:
    """Let the fuser learn from a few labelled recordings of one's own.

    Parameters
    ----------
    rows : Manifest, str or Path
        Labelled recordings: from `read_manifest`, or what it reads. The columns person and group keep what belongs
        together on one side of every fold.
    analyzer : Analyzer, optional
        Its experts are asked, and its fuser is where learning starts; the shipped ones by default.
    progress : callable, optional
        Called with "clips" and the share of the clips that is done.

    Returns
    -------
    AdaptedFuser
        Its fuser is unchanged unless cross-validation says that another one answers better.

    Raises
    ------
    DataError
        If the manifest does not fit, no clip could be analysed, or they show too few emotions.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.evaluation import Clip, Manifest
    >>> from affuse.testing import FakeExpert
    >>> clips = [Clip(f"row {i}", ("fear", "happiness")[i % 2], text=f"word {i}") for i in range(20)]
    >>> found = adapt(Manifest("mine", clips), Analyzer({"text": FakeExpert("text", {"anger": 0.6})}))
    >>> found.fuser.labels[:2]
    ('anger', 'disgust')
    """
    from affuse.analyzer.analyzer import make_analyzer
    from affuse.fusion.transfer import transfer

    manifest = rows if isinstance(rows, Manifest) else read_manifest(rows)
    analyzer = analyzer or make_analyzer()
    analyzer.check_emotions()
    evidence, kept, failures = _evidence(manifest, analyzer, progress)
    found = transfer(
        analyzer.fuser.over_emotions(),
        evidence,
        [EKMAN.index(clip.label) for clip in kept],
        tuple(analyzer.experts),
        _named([clip.person for clip in kept]),
        _named([clip.group for clip in kept]),
    )
    return AdaptedFuser(found, failures)


def _evidence(
    manifest: Manifest, analyzer: Analyzer, progress: Progress | None
) -> tuple[np.ndarray, list[Clip], list[tuple[Clip, str]]]:
    """What the experts say about the clips (n, m, 7), these clips, and those that failed."""
    rows: list[np.ndarray] = []
    kept: list[Clip] = []
    failures: list[tuple[Clip, str]] = []
    for row, found in observe_clips(manifest, analyzer, progress):
        clip = manifest.clips[row]
        if isinstance(found, AffuseError):
            failures.append((clip, str(found)))
            continue
        P = _row(analyzer, found)
        if np.isnan(P).all():
            failures.append((clip, "no modality has any evidence"))
        else:
            rows.append(P)
            kept.append(clip)
    if not rows:
        raise DataError(f"{manifest.name}: no row could be analysed; {failures[0][0].where}: {failures[0][1]}")
    return np.concatenate(rows), kept, failures


def _row(analyzer: Analyzer, observation: Observation) -> np.ndarray:
    """What the experts say about the whole recording, (1, m, 7), as the summary of an analysis fuses it."""
    from affuse.analyzer.observation import mean_of_windows

    P, _ = analyzer.probabilities(observation.people()[0])
    return mean_of_windows(P)


def _named(names: Sequence[str]) -> list[str] | None:
    """Names where any is given, a row without one counting by itself; None where nobody is named."""
    if not any(names):
        return None
    return [name or f"row {i}" for i, name in enumerate(names)]
