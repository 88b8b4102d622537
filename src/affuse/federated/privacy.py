"""The budget of differential privacy: how much noise a plan needs, and how much of the budget is spent.

What is protected is one row (recording) of a client: adding or removing it changes the odds of anything that leaves
the client by at most the factor e^epsilon, but for the probability delta. The accountant is Google's dp-accounting
(Rényi differential privacy of the Gaussian mechanism with Poisson sampling, arXiv:1908.10530).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affuse.errors import ConfigError, DataError
from affuse.federated.plan import Plan
from affuse.files import write_json
from affuse.lazy import needs_extra

__all__ = ["Ledger", "Spent", "epsilon_of", "noise_for", "steps_of"]

_MOST_NOISE = 1e4
# Whole orders only: those between are slow to compute, and every choice of orders gives a valid bound.
_ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512)


@dataclass(frozen=True)
class Spent:
    """Steps that were taken on a client's rows.

    Parameters
    ----------
    share : float
        Probability with which a row was drawn in a step.
    noise : float
        Standard deviation of the noise in units of the largest norm.
    steps : int
        How many.

    Examples
    --------
    >>> Spent(share=0.1, noise=1.0, steps=20).steps
    20
    """

    share: float
    noise: float
    steps: int


def steps_of(plan: Plan, rows: int) -> Spent:
    """Steps of one round on so many rows, without noise yet.

    Parameters
    ----------
    plan : Plan
    rows : int
        Rows of the client.

    Returns
    -------
    Spent

    Examples
    --------
    >>> steps_of(Plan("voice", batch_size=25, epochs=2), 100)
    Spent(share=0.25, noise=0.0, steps=8)
    """
    size = min(plan.batch_size, rows)
    return Spent(size / rows, 0.0, plan.epochs * round(rows / size))


def epsilon_of(spent: Sequence[Spent], delta: float) -> float:
    """Budget that steps have spent together.

    Parameters
    ----------
    spent : sequence of Spent
    delta : float

    Returns
    -------
    float
        Infinite where a step had no noise.

    Raises
    ------
    MissingExtraError
        Without dp-accounting.

    Examples
    --------
    A single step over all rows with noise 1 (Balle & Wang 2018 give 4.38 as the least; the accountant's bound is near):

    >>> 4.38 < epsilon_of([Spent(1.0, 1.0, 1)], 1e-5) < 5.0
    True
    """
    if not spent:
        return 0.0
    with needs_extra("federated"):
        from dp_accounting import dp_event
        from dp_accounting.rdp import RdpAccountant
    accountant = RdpAccountant(_ORDERS)
    for part in spent:
        step = dp_event.PoissonSampledDpEvent(part.share, dp_event.GaussianDpEvent(part.noise))
        accountant.compose(dp_event.SelfComposedDpEvent(step, part.steps))
    return float(accountant.get_epsilon(delta))


def noise_for(plan: Plan, rows: int) -> float:
    """Least noise with which all rounds of a plan stay within its budget for a client with so many rows.

    Parameters
    ----------
    plan : Plan
    rows : int

    Returns
    -------
    float
        Standard deviation in units of the largest norm; 0 where the plan has no budget.

    Raises
    ------
    ConfigError
        If no noise keeps within it.
    MissingExtraError
        Without dp-accounting.

    Examples
    --------
    >>> plan = Plan("voice", epsilon=8.0, rounds=5)
    >>> one = steps_of(plan, 200)
    >>> spent = epsilon_of([Spent(one.share, noise_for(plan, 200), 5 * one.steps)], plan.delta)
    >>> 7.9 < spent <= 8.0
    True
    """
    if not plan.epsilon:
        return 0.0
    one = steps_of(plan, rows)
    low, high = 0.0, 0.5
    while epsilon_of([Spent(one.share, high, one.steps * plan.rounds)], plan.delta) > plan.epsilon:
        low, high = high, 2 * high
        if high > _MOST_NOISE:
            raise ConfigError(f"no noise keeps {plan.rounds} rounds within epsilon {plan.epsilon:g}")
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        within = epsilon_of([Spent(one.share, middle, one.steps * plan.rounds)], plan.delta) <= plan.epsilon
        low, high = (low, middle) if within else (middle, high)
    return high


class Ledger:
    """What a client's rows have spent so far, on disk, so that a restart does not begin anew.

    The budget belongs to the rows, not to a run: whatever is learned from them later is added.

    Parameters
    ----------
    path : Path or None
        The file; None keeps the account in memory, for a simulation.
    rows : str
        Fingerprint of the rows, see `Ledger.fingerprint`.

    Raises
    ------
    DataError
        If the file is of other rows, or broken.

    Examples
    --------
    >>> ledger = Ledger(Path("ledger.json"), Ledger.fingerprint(np.ones((2, 2)), np.eye(2)))
    >>> ledger.add(Spent(0.5, 1.0, 10))
    >>> Ledger(Path("ledger.json"), ledger.rows).spent
    [Spent(share=0.5, noise=1.0, steps=10)]
    """

    def __init__(self, path: Path | None, rows: str) -> None:
        self.path, self.rows = path, rows
        self.spent: list[Spent] = []
        if path is None or not path.exists():
            return
        try:
            found: Any = json.loads(path.read_text(encoding="utf-8"))
            self.spent = [Spent(float(s["share"]), float(s["noise"]), int(s["steps"])) for s in found["spent"]]
            known = str(found["rows"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no ledger of a privacy budget: {error}") from error
        if known != rows:
            raise DataError(f"{path} is the ledger of other rows; name one ledger for each set of rows")

    @staticmethod
    def fingerprint(X: np.ndarray, Y: np.ndarray) -> str:
        """A name for rows, which changes with any of them.

        Parameters
        ----------
        X : array of shape (n, d)
        Y : array of shape (n, k)

        Returns
        -------
        str
        """
        return hashlib.sha256(np.ascontiguousarray(X).tobytes() + np.ascontiguousarray(Y).tobytes()).hexdigest()

    def add(self, spent: Spent) -> None:
        """Enter steps, before anything that they gave leaves the client.

        Parameters
        ----------
        spent : Spent
        """
        last = self.spent[-1] if self.spent else None
        if last is not None and (last.share, last.noise) == (spent.share, spent.noise):
            self.spent[-1] = Spent(last.share, last.noise, last.steps + spent.steps)
        else:
            self.spent.append(spent)
        if self.path is not None:
            write_json(self.path, {"rows": self.rows, "spent": [asdict(part) for part in self.spent]})

    def after(self, spent: Spent, delta: float) -> float:
        """The budget that is spent once further steps are taken.

        Parameters
        ----------
        spent : Spent
        delta : float

        Returns
        -------
        float
        """
        return epsilon_of([*self.spent, spent], delta)
