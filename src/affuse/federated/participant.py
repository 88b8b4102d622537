"""A client's side: what it answers to each message of the server. Needs no network and no Flower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from affuse import weights
from affuse.errors import ConfigError, DataError
from affuse.federated.data import Rows, Table, aligned
from affuse.federated.head import Noise, scores, train_head
from affuse.federated.plan import Plan
from affuse.federated.privacy import Ledger, Spent, noise_for, steps_of

__all__ = ["TEMPERATURES", "Common", "Participant", "Reply", "label_weights", "spread_of", "standardised"]

TEMPERATURES = np.geomspace(0.25, 8.0, 41)
"""Temperatures of which the clients' held-out rows choose one."""

_SMALLEST = 1e-6  # a spread below it is that of a constant


@dataclass(frozen=True, eq=False)
class Common:
    """What all clients share in a round.

    Parameters
    ----------
    prior : array of shape (k,)
        Share of every label over the rows of all clients.
    centre, scale : array of shape (d,)
        Mean and standard deviation of the inputs over the rows of all clients.
    head : list of array
        The network.

    Examples
    --------
    >>> common = Common(np.array([0.5, 0.5]), np.zeros(1), np.ones(1), [np.zeros((1, 2)), np.zeros(2)])
    >>> len(common.arrays)
    5
    """

    prior: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    head: list[np.ndarray]

    @property
    def arrays(self) -> list[np.ndarray]:
        """As they are sent."""
        return [self.prior, self.centre, self.scale, *self.head]

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray]) -> Common:
        """From what was sent.

        Parameters
        ----------
        arrays : sequence of array

        Returns
        -------
        Common
        """
        return cls(arrays[0], arrays[1], arrays[2], list(arrays[3:]))


@dataclass(frozen=True, eq=False)
class Reply:
    """What a client sends back.

    Parameters
    ----------
    arrays : list of array
        Averaged over the clients by ``weight``.
    weight : int
        Rows that they come from.
    told : mapping
        Numbers for the record of the run; empty with secure aggregation.

    Examples
    --------
    >>> Reply([np.zeros(2)], 10).weight
    10
    """

    arrays: list[np.ndarray]
    weight: int
    told: dict[str, float] = field(default_factory=dict)


class Participant:
    """A client with its rows.

    Parameters
    ----------
    name : str
        How the record of the run calls it.
    rows : Rows
        Its own rows.
    ledger : Path, optional
        File of what its rows have spent of a privacy budget; needed where the plan has one, but in a simulation.
    most_epsilon : float, optional
        Budget above which it does not go, whatever the server asks for; it then takes part in no run without one.
    secure : bool
        Whether it takes part in runs with secure aggregation only.
    simulated : bool
        Whether a ledger in memory will do.

    Attributes
    ----------
    result : tuple of Plan, Common and float, or None
        What was learned together, with its temperature, once the server has sent it.

    Examples
    --------
    >>> table = Table(np.array([[-1.0], [1.0]]), np.eye(2))
    >>> client = Participant("one", Rows("voice", ("a", "b"), table, table))
    >>> client.answer("statistics", Plan("voice", labels=("a", "b")), 0, []).arrays[0]  # shares of the labels
    array([0.5, 0.5])
    """

    def __init__(
        self,
        name: str,
        rows: Rows,
        ledger: Path | None = None,
        most_epsilon: float | None = None,
        secure: bool = False,
        simulated: bool = False,
    ) -> None:
        self.name, self.rows = name, rows
        self.most_epsilon, self.secure = most_epsilon, secure
        self.result: tuple[Plan, Common, float] | None = None
        self._ledger = ledger
        self._simulated = simulated
        self._account: Ledger | None = None

    def facts(self) -> dict[str, Any]:
        """What the server compares between clients before anything is learned: no numbers of rows.

        Returns
        -------
        dict
        """
        encoder = "" if self.rows.kind == "fuser" else weights.digest("voice")
        return {
            "kind": self.rows.kind,
            "labels": list(self.rows.labels),
            "columns": list(self.rows.columns),
            "modalities": list(self.rows.modalities),
            "encoder": encoder,
        }

    def answer(self, phase: str, plan: Plan, number: int, arrays: Sequence[np.ndarray], extra: float = 1.0) -> Reply:
        """Answer one message.

        Parameters
        ----------
        phase : {"statistics", "train", "calibrate", "finished"}
            What is asked for.
        plan : Plan
        number : int
            Of the round.
        arrays : sequence of array
            Of `Common`; none for "statistics".
        extra : float
            The temperature, with "finished".

        Returns
        -------
        Reply

        Raises
        ------
        DataError
            If plan and rows do not fit together, or the arrays do not.
        ConfigError
            If the plan asks for more of the budget than the client allows.
        """
        rows = self._own(plan)
        if phase == "statistics":
            return self._statistics(plan, rows)
        common = Common.of(arrays)
        if phase == "train":
            return self._train(plan, rows, common, number)
        if phase == "calibrate":
            return self._calibrate(plan, rows, common)
        if phase == "finished":
            self.result = (plan, common, extra)
            return Reply([np.zeros(1)], 1)
        raise DataError(f"the server asks for {phase!r}, which this affuse does not know")

    def _own(self, plan: Plan) -> Rows:
        if self.secure and not plan.secure:
            raise ConfigError("the server's plan has no secure aggregation, which this client asks for by --secure")
        if self.most_epsilon is not None and not plan.epsilon:
            raise ConfigError("the server's plan has no privacy budget, which this client limits by --most-epsilon")
        if (plan.kind, plan.columns, plan.modalities) != (self.rows.kind, self.rows.columns, self.rows.modalities):
            raise DataError(f"the plan is for {_described(plan)}; these data are for {_described(self.rows)}")
        return aligned(self.rows, plan.labels)

    def _statistics(self, plan: Plan, rows: Rows) -> Reply:
        """Shares of the labels; and of every input the share of rows that hold it, and its moments.

        The moments are means over all rows, 0 where the input is missing, so that they add up over clients.
        """
        if plan.epsilon:
            raise ConfigError("the server asks for statistics of the rows, which the privacy budget does not cover")
        table = rows.train
        filled = np.nan_to_num(table.X)
        moments = [(~np.isnan(table.X)).mean(axis=0), filled.mean(axis=0), (filled**2).mean(axis=0)]
        return Reply([table.Y.mean(axis=0), *moments], len(table))

    def _train(self, plan: Plan, rows: Rows, common: Common, number: int) -> Reply:
        table = rows.train
        X = standardised(plan, common, table.X)
        noise, told = self._spend(plan, X, table)
        own = label_weights(common.prior)
        head = train_head(common.head, X, table.Y, table.Y @ own, plan, number, noise)
        return Reply(head, len(table), told)

    def _spend(self, plan: Plan, X: np.ndarray, table: Table) -> tuple[Noise | None, dict[str, float]]:
        """Noise of a round, entered in the ledger before anything leaves; None without a budget."""
        if not plan.epsilon:
            return None, {}
        if self._account is None:
            if self._ledger is None and not self._simulated:
                raise ConfigError("the plan has a privacy budget: name the file of its account by --ledger")
            self._account = Ledger(self._ledger, Ledger.fingerprint(X, table.Y))
            self._noise = noise_for(plan, len(table))
        one = steps_of(plan, len(table))
        spent = Spent(one.share, self._noise, one.steps)
        after = self._account.after(spent, plan.delta)
        most = plan.epsilon if self.most_epsilon is None else self.most_epsilon
        if after > most * (1 + 1e-6):
            raise ConfigError(
                f"another round would spend epsilon {after:.2f} of these rows, and {most:.2f} are allowed"
            )
        self._account.add(spent)
        return Noise(self._noise), {"epsilon": after, "noise": self._noise}

    def _calibrate(self, plan: Plan, rows: Rows, common: Common) -> Reply:
        """Mean loss of held-out rows at every temperature, and their accuracy."""
        if plan.epsilon:
            raise ConfigError("the server asks about held-out rows, which the privacy budget does not cover")
        table = rows.held_out
        if len(table) == 0:
            return Reply([np.zeros(len(TEMPERATURES)), np.zeros(1)], 0)
        logits = scores(common.head, standardised(plan, common, table.X))
        losses = [-(table.Y * log_softmax(logits / t, axis=1)).sum(axis=1).mean() for t in TEMPERATURES]
        hits = logits.argmax(axis=1) == table.Y.argmax(axis=1)
        return Reply([np.array(losses), np.array([hits.mean()])], len(table))


def standardised(plan: Plan, common: Common, X: np.ndarray) -> np.ndarray:
    """Inputs of the network.

    Standardised by what all clients have in common, 0 where something is missing. With a privacy budget nothing of the
    rows may be asked for, so that what a voice network hears is standardised by its own mean and spread in each row. A
    joint expert has two inputs more, 1 where the voice and where the numbers are there.

    Parameters
    ----------
    plan : Plan
    common : Common
    X : array of shape (n, d)

    Returns
    -------
    array of shape (n, d) or (n, d + 2)

    Examples
    --------
    >>> common = Common(np.array([0.5, 0.5]), np.ones(2), np.full(2, 2.0), [])
    >>> standardised(Plan("voice"), common, np.array([[3.0, np.nan]]))
    array([[1., 0.]])
    """
    if plan.epsilon and plan.kind == "voice":
        spread = X.std(axis=1, keepdims=True)
        return np.asarray((X - X.mean(axis=1, keepdims=True)) / np.sqrt(spread**2 + 1e-5))
    scaled = np.nan_to_num((X - common.centre) / common.scale)
    if plan.kind != "joint":
        return np.asarray(scaled)
    width = X.shape[1] - len(plan.columns)
    there = [~np.isnan(part).all(axis=1, keepdims=True) for part in (X[:, :width], X[:, width:])]
    return np.concatenate([scaled, *there], axis=1)


def label_weights(prior: np.ndarray) -> np.ndarray:
    """Weights of labels in the loss, by the root of their rarity, as ``affuse train`` weighs them; 0 for no rows.

    Parameters
    ----------
    prior : array of shape (k,)
        Share of every label.

    Returns
    -------
    array of shape (k,)
        Their mean over the rows is 1.

    Examples
    --------
    >>> label_weights(np.array([0.5, 0.5, 0.0]))
    array([1., 1., 0.])
    """
    own = np.divide(1.0, np.sqrt(prior), out=np.zeros_like(prior), where=prior > 0)
    return np.asarray(own / (own * prior).sum())


def spread_of(share: np.ndarray, mean: np.ndarray, square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation from moments in which missing inputs count as 0.

    Parameters
    ----------
    share, mean, square : array of shape (d,)
        Share of rows that hold the input; mean of it and of its square over all rows.

    Returns
    -------
    tuple of two arrays of shape (d,)
        A constant has the standard deviation 1.

    Examples
    --------
    Half of the rows hold the values 1 and 3:

    >>> spread_of(np.array([0.5]), np.array([1.0]), np.array([2.5]))
    (array([2.]), array([1.]))
    """
    held = np.maximum(share, _SMALLEST)
    centre = mean / held
    variance = square / held - centre**2
    return centre, np.where(variance > _SMALLEST, np.sqrt(np.maximum(variance, _SMALLEST)), 1.0)


def _described(what: Any) -> str:
    more = [*what.columns, *what.modalities]
    return what.kind + (f" with {', '.join(more)}" if more else "")
