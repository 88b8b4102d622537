"""The server's side: what it asks the clients for, and what it makes of the answers. Needs no network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import affuse
from affuse import weights
from affuse.errors import DataError, OutputError
from affuse.evaluation.formatting import ResultTable
from affuse.federated.data import voice_width
from affuse.federated.head import first_weights
from affuse.federated.participant import TEMPERATURES, Common, spread_of
from affuse.federated.plan import Plan
from affuse.federated.result import write_result
from affuse.files import write_json, write_text

_SCALE = 3.0  # of log-probabilities, where a privacy budget forbids to ask for it

__all__ = ["Collected", "Federation", "Outcome", "agreed", "claim", "coordinate", "refusal"]


@dataclass(frozen=True, eq=False)
class Collected:
    """What came of asking all clients.

    Parameters
    ----------
    arrays : list of array, or None
        Aggregated by the strategy; None where no client had anything to say.
    told : mapping of str to mapping
        What each client told beside the arrays, by its name.
    lost : tuple of str
        Clients who did not answer, or whose answer was of no use, with the reason.

    Examples
    --------
    >>> Collected([np.zeros(2)], {"one": {}}).lost
    ()
    """

    arrays: list[np.ndarray] | None
    told: Mapping[str, Mapping[str, float]]
    lost: tuple[str, ...] = ()


class Federation(Protocol):
    """The clients, as the server sees them."""

    def facts(self) -> dict[str, Mapping[str, Any]]:
        """What every client says of its data, by name, once enough are there."""

    def settle(self, plan: Plan) -> None:
        """Tell what all agree on; clients who come later are held to it."""

    def refuse(self, reason: str) -> None:
        """End the run for all clients, with a reason."""

    def ask(
        self, phase: str, plan: Plan, number: int, arrays: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]]
    ) -> Collected:
        """Ask all clients, and aggregate answers of these shapes."""

    def finish(self, plan: Plan, arrays: Sequence[np.ndarray], temperature: float) -> None:
        """Give all clients what was learned."""


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes
    ----------
    folder : Path
        Where it lies.
    result : Path
        The package, or the fuser's folder.
    facts : mapping
        What ``federated.json`` holds.

    Examples
    --------
    >>> Outcome(Path("runs/all"), Path("runs/all/package"), {"accuracy": 0.7}).facts["accuracy"]
    0.7
    """

    folder: Path
    result: Path
    facts: Mapping[str, Any] = field(default_factory=dict)


def coordinate(
    plan: Plan, federation: Federation, out: Path, tell: Callable[[str], None] = lambda line: None
) -> Outcome:
    """Learn together with all clients, and write what came out.

    Parameters
    ----------
    plan : Plan
        Its labels may be empty: then all clients must have the same.
    federation : Federation
        The clients.
    out : Path
        Folder of the run, which `claim` found free.
    tell : callable
        Takes a line about how far it is.

    Returns
    -------
    Outcome

    Raises
    ------
    DataError
        If the clients' data do not go together.
    AffuseError
        If too few clients are left.
    """
    facts = federation.facts()
    try:
        plan = agreed(plan, facts)
    except DataError as error:
        federation.refuse(str(error))
        raise
    federation.settle(plan)
    tell(f"{len(facts)} clients: {', '.join(sorted(facts))}; labels: {', '.join(plan.labels)}")
    common = _begin(plan, federation)
    rounds = []
    spent: dict[str, float] = {}
    for number in range(1, plan.rounds + 1):
        found = federation.ask("train", plan, number, common.arrays, [part.shape for part in common.head])
        assert found.arrays is not None
        common = dataclasses.replace(common, head=found.arrays)
        rounds.append({"round": number, "clients": sorted(found.told), "lost": list(found.lost)})
        spent |= {name: told["epsilon"] for name, told in found.told.items() if "epsilon" in told}
        tell(
            f"round {number} of {plan.rounds}: {len(found.told)} clients" + "".join(f"; {line}" for line in found.lost)
        )
    temperature, accuracy = _calibrated(plan, federation, common)
    outcome = _written(plan, common, temperature, accuracy, rounds, spent, out)
    federation.finish(plan, common.arrays, temperature)
    return outcome


def agreed(plan: Plan, facts: Mapping[str, Mapping[str, Any]]) -> Plan:
    """The plan with what the clients' data decide: labels, where it names none, columns and modalities.

    Parameters
    ----------
    plan : Plan
    facts : mapping of str to mapping
        `Participant.facts` by the client's name.

    Returns
    -------
    Plan

    Raises
    ------
    DataError
        If two clients differ, or one does not fit the plan.

    Examples
    --------
    >>> facts = {"kind": "fuser", "labels": ["sad", "happy"], "columns": [], "modalities": ["face"], "encoder": ""}
    >>> agreed(Plan("fuser"), {"one": facts, "two": facts}).modalities
    ('face',)
    >>> agreed(Plan("fuser"), {"one": facts, "two": {**facts, "labels": ["sad", "angry"]}})
    Traceback (most recent call last):
    ...
    affuse.errors.DataError: the clients have different labels (one: sad, happy; two: sad, angry); state all by --labels
    """
    told = next(iter(facts.values()))
    if not plan.labels:
        plan = dataclasses.replace(plan, labels=_common_labels(facts))
    plan = dataclasses.replace(plan, columns=tuple(told["columns"]), modalities=tuple(told["modalities"]))
    for name, other in facts.items():
        reason = refusal(plan, other)
        if reason:
            raise DataError(f"{name} cannot take part: {reason}")
    if plan.kind == "joint" and plan.epsilon:
        raise DataError("numbers beside the voice are standardised over all clients, which no privacy budget covers")
    return plan


def refusal(plan: Plan, facts: Mapping[str, Any]) -> str:
    """Why a client's data do not fit a plan; empty where they do.

    Parameters
    ----------
    plan : Plan
    facts : mapping
        `Participant.facts`.

    Returns
    -------
    str
    """
    if facts["kind"] != plan.kind:
        return f"its data are for the kind {facts['kind']}, and the plan is for {plan.kind}"
    for what, own in (("columns", plan.columns), ("modalities", plan.modalities)):
        if tuple(facts[what]) != own:
            return f"its {what} are {', '.join(facts[what]) or 'none'}, and the others' {', '.join(own) or 'none'}"
    if facts["encoder"] != ("" if plan.kind == "fuser" else weights.digest("voice")):
        return "its voice network is another than the server's; install the same version of affuse"
    unknown = [label for label in facts["labels"] if label not in plan.labels]
    if unknown:
        return f"it has the label {', '.join(unknown)}, which the plan lacks; its labels: {', '.join(plan.labels)}"
    return ""


def claim(out: Path) -> None:
    """Raise OutputError where a folder for a run is not free.

    Parameters
    ----------
    out : Path
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is there and not empty; name another folder by --out")


def _common_labels(facts: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    sets = {frozenset(told["labels"]) for told in facts.values()}
    if len(sets) > 1:
        each = "; ".join(f"{name}: {', '.join(told['labels'])}" for name, told in facts.items())
        raise DataError(f"the clients have different labels ({each}); state all by --labels")
    return tuple(next(iter(facts.values()))["labels"])


def _begin(plan: Plan, federation: Federation) -> Common:
    """First weights, and statistics over all clients where they may be asked for."""
    k = len(plan.labels)
    d = _inputs(plan)
    even = Common(np.full(k, 1 / k), np.zeros(d), np.full(d, _SCALE if plan.kind == "fuser" else 1.0), [])
    if not plan.epsilon:
        found = federation.ask("statistics", plan, 0, [], [(k,), (d,), (d,), (d,)])
        assert found.arrays is not None
        prior = np.clip(found.arrays[0], 0.0, 1.0)
        if not prior.sum() > 0:
            raise DataError("the clients' label frequencies are all 0")
        even = Common(prior / prior.sum(), *spread_of(*found.arrays[1:]), [])
    flags = 2 if plan.kind == "joint" else 0
    return dataclasses.replace(even, head=first_weights(d + flags, k, plan))


def _inputs(plan: Plan) -> int:
    if plan.kind == "fuser":
        return len(plan.modalities) * (len(plan.labels) + 1)
    return voice_width() + len(plan.columns)


def _calibrated(plan: Plan, federation: Federation, common: Common) -> tuple[float, float | None]:
    """Temperature and accuracy by the clients' held-out rows; 1 and None where they may not be asked."""
    if plan.epsilon:
        return 1.0, None
    shapes: list[tuple[int, ...]] = [(len(TEMPERATURES),), (1,)]
    found = federation.ask("calibrate", plan, plan.rounds + 1, common.arrays, shapes)
    if found.arrays is None:
        return 1.0, None
    losses, accuracy = found.arrays
    return float(TEMPERATURES[int(losses.argmin())]), float(accuracy[0])


def _written(
    plan: Plan,
    common: Common,
    temperature: float,
    accuracy: float | None,
    rounds: Sequence[Mapping[str, Any]],
    spent: Mapping[str, float],
    out: Path,
) -> Outcome:
    facts: dict[str, Any] = {
        "affuse": affuse.__version__,
        "plan": dataclasses.asdict(plan),
        "temperature": temperature,
        "accuracy": accuracy,
        "epsilon": max(spent.values(), default=plan.epsilon or None),  # with secure aggregation, at most the plan's
        "delta": plan.delta if plan.epsilon else None,
        "spent": dict(spent),
        "rounds": list(rounds),
    }
    measured = {} if accuracy is None else {"held_out": {"accuracy": accuracy}}
    card = _card(facts)
    result = write_result(out, plan, common, temperature, measured, card)
    write_json(out / "federated.json", facts)
    write_text(out / "card.md", card)
    return Outcome(out, result, facts)


def _card(facts: Mapping[str, Any]) -> str:
    plan = facts["plan"]
    names = sorted({name for part in facts["rounds"] for name in part["clients"]})
    table = ResultTable(("what", "value"))
    table.add("learned", f"{plan['kind']}: {', '.join(plan['labels'])}")
    table.add("clients", str(len(names)))
    table.add("rounds", str(plan["rounds"]))
    table.add("strategy", plan["strategy"] + (", secure aggregation" if plan["secure"] else ""))
    if facts["epsilon"] is not None:
        table.add("privacy of a row", f"epsilon {facts['epsilon']:.2f}, delta {facts['delta']:g} (dp-accounting)")
    if facts["accuracy"] is not None:
        table.add("accuracy on the clients' held-out rows", f"{100 * facts['accuracy']:.1f} %")
    return "\n".join(
        [
            f"# federated-{plan['kind']}",
            "",
            f"Learned by `affuse federate` {facts['affuse']} from recordings that stayed with their owners.",
            "",
            table.markdown(),
            "",
            "It judges what is expressed, not what somebody feels. The accuracy is what the clients say of rows that",
            "nobody else has seen.",
            "",
        ]
    )
