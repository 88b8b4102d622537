"""All clients in one process, for a rehearsal: the same messages, strategies and secure aggregation, no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from affuse.errors import DataError
from affuse.federated.coordinator import Outcome, claim, coordinate
from affuse.federated.flower import FlowerClient, FlowerFederation, Needs, Pool, local_proxy
from affuse.federated.participant import Participant
from affuse.federated.plan import Plan

__all__ = ["simulate"]


def simulate(
    plan: Plan, participants: Sequence[Participant], out: Path, tell: Callable[[str], None] = lambda line: None
) -> Outcome:
    """Let clients learn together in this process.

    Parameters
    ----------
    plan : Plan
    participants : sequence of Participant
        With different names.
    out : Path
        Folder of the run, new or empty.
    tell : callable
        Takes a line about how far it is.

    Returns
    -------
    Outcome

    Raises
    ------
    DataError
        If the clients' data do not go together, or two have the same name.
    ConfigError
        If there are too few of them for the plan.
    OutputError
        If ``out`` is not free.
    """
    names = [participant.name for participant in participants]
    if len(set(names)) < len(names) or not names:
        raise DataError(f"a simulation needs clients of different names; got {', '.join(names) or 'none'}")
    claim(out)
    pool = Pool(None)
    for participant in participants:
        pool.register(local_proxy(FlowerClient(participant)))
    return coordinate(plan, FlowerFederation(pool, Needs(len(names), len(names), 0.0, 60.0)), out, tell)
