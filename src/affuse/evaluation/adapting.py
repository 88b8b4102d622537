"""A fuser that learns from a few labelled recordings: what ``affuse adapt`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import AffuseError, DataError
from affuse.labels import EKMAN

if TYPE_CHECKING:
    from affuse.analyzer.analyzer import Analyzer
    from affuse.evaluation.manifest import Clip, Manifest
    from affuse.fusion.transfer import Transfer

__all__ = ["Adapted", "adapt_fuser"]


@dataclass(frozen=True)
class Adapted:
    """What came of it, and the clips that could not be analysed, each with the reason."""

    transfer: Transfer
    failures: Sequence[tuple[Clip, str]]

    def to_dict(self) -> dict[str, Any]:
        """Everything that cross-validation said, as plain dicts and numbers."""
        failed = [{"row": clip.where, "reason": reason} for clip, reason in self.failures]
        return {"chosen": self.transfer.chosen, **self.transfer.facts, "failed": failed}


def adapt_fuser(manifest: Manifest, analyzer: Analyzer, progress: Callable[[float], None] | None = None) -> Adapted:
    """Let the analyzer's fuser learn from the labelled recordings of a manifest.

    Parameters
    ----------
    manifest : Manifest
        From `read_manifest`; the columns person and group keep what belongs together on one side of every fold.
    analyzer : Analyzer
        Its experts are asked, and its fuser is where learning starts.
    progress : callable, optional
        Called with the share of clips that are done, 0…1.

    Returns
    -------
    Adapted
        Its ``transfer.fuser.write(folder)`` makes what ``--fuser`` of the other commands reads; the fuser is unchanged
        unless cross-validation says that it answers better.

    Raises
    ------
    DataError
        Where no clip could be analysed, or they show too few emotions.
    """
    from affuse.fusion.transfer import transfer

    rows: list[np.ndarray] = []
    kept: list[Clip] = []
    failures: list[tuple[Clip, str]] = []
    for number, clip in enumerate(manifest.clips, start=1):
        try:
            P = _row(analyzer, clip)
        except AffuseError as error:
            failures.append((clip, str(error)))
        else:
            if np.isnan(P).all():
                failures.append((clip, "no modality has any evidence"))
            else:
                rows.append(P)
                kept.append(clip)
        if progress is not None:
            progress(number / len(manifest.clips))
    if not rows:
        raise DataError(f"{manifest.name}: no row could be analysed; {failures[0][0].where}: {failures[0][1]}")
    found = transfer(
        analyzer.fuser.over_emotions(),
        np.concatenate(rows),
        [EKMAN.index(clip.label) for clip in kept],
        tuple(analyzer.experts),
        _named([clip.person for clip in kept]),
        _named([clip.group for clip in kept]),
    )
    return Adapted(found, failures)


def _row(analyzer: Analyzer, clip: Clip) -> np.ndarray:
    """What the experts say about the whole clip, (1, m, 7), as the summary of an analysis fuses it."""
    from affuse.analyzer.analyzer import mean_of_windows

    P, _ = analyzer.evidence(analyzer.observe(clip.open()).people()[0])
    return mean_of_windows(P)


def _named(names: Sequence[str]) -> list[str] | None:
    """Names where any is given, a row without one counting by itself; None where nobody is named."""
    if not any(names):
        return None
    return [name or f"row {i}" for i, name in enumerate(names)]
