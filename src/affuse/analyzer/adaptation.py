"""Analyzers for persons and collections: what shifts the experts' answers is estimated without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from affuse.analyzer.observation import Observation, mean_of_windows
from affuse.errors import ConfigError

if TYPE_CHECKING:
    from affuse.analyzer.analyzer import Analyzer

__all__ = ["ADAPTATIONS", "STRETCH", "adapted_analyzers", "check_adaptation", "rows_of"]

ADAPTATIONS = ("none", "person", "collection")
"""What answers can be adapted to without labels; "collection", whose emotions must be mixed, means its persons too."""

STRETCH = 10.0
"""Seconds of one recording that count as one independent row: windows overlap, and an emotion lasts some seconds."""


def check_adaptation(adapt: str) -> None:
    """Refuse an adaptation that is none of `ADAPTATIONS`.

    Parameters
    ----------
    adapt : str
        What was asked for.

    Raises
    ------
    ConfigError
        If it is not known.

    Examples
    --------
    >>> check_adaptation("person")
    """
    if adapt not in ADAPTATIONS:
        raise ConfigError(f"unknown adaptation {adapt!r}; known: {', '.join(ADAPTATIONS)}")


def adapted_analyzers(
    analyzer: Analyzer, observations: Sequence[Observation], persons: Sequence[str], adapt: str
) -> list[Analyzer]:
    """An analyzer for each of some recordings, adapted to who is in it.

    Parameters
    ----------
    analyzer : Analyzer
        Its experts made the observations.
    observations : sequence of Observation
        What the experts found, from `Analyzer.observe`.
    persons : sequence of str
        Who each recording is about; an empty name is a person of its own.
    adapt : str
        One of `ADAPTATIONS`.

    Returns
    -------
    list of Analyzer
        One a recording. With too few rows, or rows that cannot tell a shift from an emotion that lasts, the answers
        stay as they were.

    Raises
    ------
    ConfigError
        Where ``adapt`` is unknown or the analyzer's fuser does not adapt.

    Examples
    --------
    >>> from affuse import Analyzer, Recording
    >>> from affuse.testing import FakeExpert
    >>> analyzer = Analyzer({"voice": FakeExpert("voice", {"anger": 0.4})})
    >>> found = analyzer.observe(Recording.from_text("Hello."))
    >>> (own,) = adapted_analyzers(analyzer, [found], ["Ann"], "person")
    >>> own.answer(found).settings["adaptation"][0]["to"]
    'Ann'
    """
    from affuse.fusion.adaptive import design_effect

    check_adaptation(adapt)
    if adapt == "none":
        return [analyzer] * len(observations)
    rows = [rows_of(analyzer, observation) for observation in observations]
    names = np.array([name or f"recording {i + 1}" for i, name in enumerate(persons)])
    if adapt == "collection":
        owners = np.repeat(names, [len(part) for part in rows])
        analyzer = analyzer.adapted(
            np.concatenate(rows),
            design_effect(owners),
            of="collection",
            to=f"collection of {len(rows)} recording{'s' * (len(rows) != 1)}",
        )
    member = "member" if adapt == "collection" else "person"
    own = {
        name: analyzer.adapted(
            np.concatenate([rows[i] for i in np.flatnonzero(names == name)]), of=member, to=str(name)
        )
        for name in dict.fromkeys(names.tolist())
    }
    return [own[name] for name in names.tolist()]


def rows_of(analyzer: Analyzer, observation: Observation) -> np.ndarray:
    """What the experts say about the person seen most, a row for every `STRETCH` of the recording: (n, m, 7)."""
    P, _ = analyzer.probabilities(observation.people()[0])
    starts = observation.timeline.starts
    stretch = ((starts - starts[0]) // STRETCH).astype(int)
    return np.concatenate([mean_of_windows(P[stretch == number]) for number in np.unique(stretch)])
