"""What all who train together agree on: one frozen table, which the server sends with every message."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from affuse.errors import ConfigError, DataError
from affuse.files import write_json

__all__ = ["KINDS", "PRIVATE", "ROBUST", "SETTINGS", "STRATEGIES", "Plan"]

KINDS = ("voice", "joint", "fuser")
"""What can be learned together: an expert for the voice, a joint expert with columns of numbers, or a fuser."""

ROBUST = ("median", "trimmed-mean", "krum", "multi-krum", "bulyan")
"""Strategies that hold off some clients who send what they like."""

STRATEGIES = ("fedavg", "fedprox", *ROBUST)
"""How the clients' networks become one."""

SETTINGS = (
    "epochs",
    "hidden",
    "learning_rate",
    "batch_size",
    "penalty",
    "seed",
    "proximal",
    "malicious",
    "most_rows",
    "delta",
    "clip",
)
"""Values that ``--set`` may change."""

PRIVATE = {"batch_size": 64, "learning_rate": 0.3}
"""Settings that suit a privacy budget: short steps over many rows, whose noise is small beside the sum."""

_FEWEST_SECURE = 3  # with two, each learns what the other sent from the sum


@dataclass(frozen=True)
class Plan:
    """Everything that server and clients have to agree on.

    Parameters
    ----------
    kind : {"voice", "joint", "fuser"}
        What is learned.
    labels : tuple of str
        Labels in the order of the columns; empty until the server has seen that all clients have the same.
    rounds : int
        How often the clients' networks are averaged.
    epochs : int
        Passes over its rows that a client makes in a round.
    hidden : int
        Units of the hidden layer; 0 for none. A fuser has none. Averages of networks without one, whose loss has a
        single minimum, come nearer to what one network would learn.
    learning_rate : float
        Length of a step of gradient descent.
    batch_size : int
        Rows a step; with differential privacy the expected number, since rows are drawn by chance.
    penalty : float
        Half of it times the squared weights is added to the loss of a row.
    seed : int
        Of the first weights and the order of rows.
    strategy : str
        One of `STRATEGIES`.
    proximal : float
        For "fedprox" (arXiv:1812.06127): half of it times the squared distance to the common network is added to the
        loss.
    malicious : int
        Clients that the robust strategies expect to send what they like.
    secure : bool
        Whether the server gets nothing but sums (SecAgg+, arXiv:2009.11248).
    most_rows : int
        Most rows that a client counts with, so that nobody outweighs all others.
    epsilon : float
        Budget of differential privacy for a row of a client over all rounds; 0 for none.
    delta : float
        Probability with which the budget may not hold; a good deal below 1 / rows.
    clip : float
        With ``epsilon``, largest norm of a row's gradient.
    modalities : tuple of str
        Of a fuser, in the order of its inputs.
    columns : tuple of str
        Of a joint expert: names of the numbers beside the voice.

    Raises
    ------
    ConfigError
        If a value is out of range, or two do not go together.

    Examples
    --------
    >>> plan = Plan(kind="voice", labels=("anger", "sadness"))
    >>> Plan.from_json(plan.to_json()) == plan
    True
    """

    kind: str
    labels: tuple[str, ...] = ()
    rounds: int = 50
    epochs: int = 1
    hidden: int = 0
    learning_rate: float = 1.0
    batch_size: int = 32
    penalty: float = 1e-3
    seed: int = 0
    strategy: str = "fedavg"
    proximal: float = 0.01
    malicious: int = 1
    secure: bool = False
    most_rows: int = 10_000
    epsilon: float = 0.0
    delta: float = 1e-5
    clip: float = 1.0
    modalities: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("labels", "modalities", "columns"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for value, name, known in ((self.kind, "kind", KINDS), (self.strategy, "strategy", STRATEGIES)):
            if value not in known:
                raise ConfigError(f"unknown {name} {value!r}; known: {', '.join(known)}")
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise ConfigError(f"{name} must be at least {least}; got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0; got {getattr(self, name)}")
        if not 0 < self.delta < 1:
            raise ConfigError(f"delta must be above 0 and below 1; got {self.delta}")
        if self.kind == "fuser" and self.hidden:
            raise ConfigError(f"a fuser has no hidden layer; got hidden {self.hidden}")
        if self.secure and self.strategy in ROBUST:
            raise ConfigError(
                f"{self.strategy} compares the clients' networks, which secure aggregation hides from the server; "
                "choose one of the two"
            )

    @property
    def fewest(self) -> int:
        """Clients without which the strategy cannot do what it promises."""
        if self.secure:
            return _FEWEST_SECURE
        f = self.malicious
        return {"krum": 2 * f + 3, "multi-krum": 2 * f + 3, "bulyan": 4 * f + 3}.get(self.strategy, self._majority)

    @property
    def _majority(self) -> int:
        return 2 * self.malicious + 1 if self.strategy in ROBUST else 1

    def to_json(self) -> str:
        """The plan as text.

        Returns
        -------
        str
        """
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str

        Returns
        -------
        Plan

        Raises
        ------
        DataError
            If the text is no plan, such as one of another version.
        """
        try:
            return cls.of(json.loads(text))
        except (TypeError, ValueError, AttributeError) as error:
            raise DataError(f"the server's plan is not one that this affuse reads: {error}") from error

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Plan:
        """A plan of values whose types are not known yet.

        Parameters
        ----------
        values : mapping
            By the names of the parameters.

        Returns
        -------
        Plan

        Raises
        ------
        ConfigError
            If a name is unknown, or a value is of another type or out of range.

        Examples
        --------
        >>> Plan.of({"kind": "voice", "rounds": "many"})
        Traceback (most recent call last):
        ...
        affuse.errors.ConfigError: rounds cannot be 'many'; it is of the type int
        """
        types = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        for name, value in values.items():
            if name not in types:
                raise ConfigError(f"a plan has no {name!r}; known: {', '.join(types)}")
            fits = isinstance(value, _TYPES[types[name]]) and isinstance(value, bool) == (types[name] == "bool")
            if not fits or (isinstance(value, list) and not all(isinstance(part, str) for part in value)):
                raise ConfigError(f"{name} cannot be {value!r}; it is of the type {types[name]}")
        return cls(**values)

    def write(self, path: Any) -> None:
        """Write the plan as a JSON file.

        Parameters
        ----------
        path : Path
            The file.
        """
        write_json(path, dataclasses.asdict(self))


_LEAST = {
    "rounds": 1,
    "epochs": 1,
    "hidden": 0,
    "batch_size": 1,
    "penalty": 0.0,
    "seed": 0,
    "proximal": 0.0,
    "malicious": 0,
    "most_rows": 1,
    "epsilon": 0.0,
}


_TYPES: dict[str, Any] = {"str": str, "int": int, "bool": bool, "float": (int, float), "tuple[str, ...]": list}
