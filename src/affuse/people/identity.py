"""Whether two faces and voices are of one person: evidence of each, fused by affuse's own pool, and "unknown".

Likelihood ratios are calibrated by logistic regression on pairs (Brümmer & du Preez 2006,
doi:10.1016/j.csl.2005.08.001) of people whom no test meets; ``bench/identity.py`` learns and measures them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from affuse.errors import AssetError, ConfigError, DataError
from affuse.fusion.pooling import log_pool

__all__ = [
    "MODALITIES",
    "UNKNOWN",
    "Identity",
    "IdentityModel",
    "Match",
    "distances",
    "join_tracks",
    "mean_identity",
    "shipped_identity",
]

MODALITIES = ("face", "voice")
"""Order of the rows of evidence."""

UNKNOWN = "unknown"
"""Name of somebody who is nobody of the gallery."""

_EVEN = np.full((len(MODALITIES), 2), 0.5)
_SURE_DIFFERENT = 1e6  # distance of two tracks that are seen at the same time
# Strangers that a join may take for one person: stricter rates lose right joins, and this one has joined no strangers
# among actors whom the calibration had not met.
_JOIN_RATE = 5e-3


@dataclass(frozen=True, eq=False)
class Identity:
    """What a person looks and sounds like.

    Parameters
    ----------
    face : array of shape (128,), optional
        Mean of embeddings by `affuse.people.faces.FaceEncoder`.
    voice : array of shape (256,), optional
        Embedding by `affuse.people.voices.VoiceEncoder`.

    Raises
    ------
    DataError
        If an embedding is not one row of finite numbers.

    Examples
    --------
    >>> Identity(face=np.zeros(128)).voice is None
    True
    """

    face: np.ndarray | None = None
    voice: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in MODALITIES:
            own = self.part(name)
            if own is not None and (own.ndim != 1 or not np.isfinite(own).all()):
                raise DataError(f"the {name} of a person is one row of finite numbers; got shape {own.shape}")

    def part(self, modality: str) -> np.ndarray | None:
        """The embedding of one modality.

        Parameters
        ----------
        modality : str
            One of `MODALITIES`.

        Returns
        -------
        array or None

        Examples
        --------
        >>> Identity().part("face") is None
        True
        """
        return self.face if modality == "face" else self.voice


@dataclass(frozen=True)
class Match:
    """Whom somebody was taken for.

    Parameters
    ----------
    name : str
        Of the gallery, or "unknown".
    probability : float
        That this is right, 0…1.
    evidence : float
        Natural logarithm of the likelihood ratio of the likeliest name, whether or not it was accepted.

    Examples
    --------
    >>> Match("Anna", 0.98, 7.2).name
    'Anna'
    """

    name: str
    probability: float
    evidence: float


@dataclass(frozen=True, eq=False)
class IdentityModel:
    """Turns distances of faces and voices into the probability that they are of one person.

    Parameters
    ----------
    slopes, offsets : array of shape (2,)
        Of each of `MODALITIES`: the log-likelihood ratio is ``offset - slope * distance``.
    weights : array of shape (2,)
        Of each of them in the pool.
    thresholds : mapping of str to array of shape (r, 2)
        By "face", "voice" and "face+voice": false-accept rates, falling, and the log-likelihood ratio that strangers
        exceed so often.

    Raises
    ------
    ConfigError
        If the shapes do not fit.

    Examples
    --------
    >>> rates = {name: np.array([[0.1, 1.0], [0.01, 3.0]]) for name in ("face", "voice", "face+voice")}
    >>> model = IdentityModel(np.array([20.0, 8.0]), np.array([9.0, 3.0]), np.ones(2), rates)
    >>> a = Identity(face=np.zeros(128))
    >>> round(model.probability(a, a), 4)
    0.9999
    """

    slopes: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    thresholds: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        wanted = (len(MODALITIES),)
        if any(np.shape(own) != wanted for own in (self.slopes, self.offsets, self.weights)):
            raise ConfigError(f"slopes, offsets and weights need one value for each of {', '.join(MODALITIES)}")
        missing = {"face", "voice", "face+voice"} - set(self.thresholds)
        if missing:
            raise ConfigError(f"thresholds are missing for {', '.join(sorted(missing))}")

    @classmethod
    def read(cls, path: Path) -> IdentityModel:
        """Read a model that `write` wrote.

        Parameters
        ----------
        path : Path
            JSON file.

        Returns
        -------
        IdentityModel

        Raises
        ------
        AssetError
            If the file is missing or no such model.

        Examples
        --------
        >>> IdentityModel.read(Path("absent.json"))
        Traceback (most recent call last):
        ...
        affuse.errors.AssetError: absent.json is no calibration of identities: ...
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            rates = {name: np.array(rows, dtype=float) for name, rows in value["thresholds"].items()}
            slopes, offsets, pool = (np.array(value[name], dtype=float) for name in ("slopes", "offsets", "weights"))
            return cls(slopes, offsets, pool, rates)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AssetError(f"{path} is no calibration of identities: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The model as values that JSON can hold, as `read` takes them.

        Returns
        -------
        dict of str to object

        Examples
        --------
        >>> sorted(shipped_identity().to_dict())
        ['offsets', 'slopes', 'thresholds', 'weights']
        """
        own = {name: getattr(self, name).tolist() for name in ("slopes", "offsets", "weights")}
        return own | {"thresholds": {name: rows.tolist() for name, rows in self.thresholds.items()}}

    def ratios(self, d: np.ndarray) -> np.ndarray:
        """Log-likelihood ratios of distances, fused over the modalities that are there.

        Each modality's probability of "same" and "different" goes through `affuse.fusion.pooling.log_pool`; a modality
        that is missing is NaN, never a distance of zero.

        Parameters
        ----------
        d : array of shape (n, 2)
            Distances by modality, as `distances` gives them.

        Returns
        -------
        array of shape (n,)
            Above 0 for the same person; NaN where both are missing.

        Examples
        --------
        >>> near, far = shipped_identity().ratios(np.array([[0.2, np.nan], [0.8, np.nan]]))
        >>> bool(near > 0 > far)
        True
        """
        same = expit(self.offsets - self.slopes * np.asarray(d, dtype=float))
        fused = log_pool(np.stack([same, 1 - same], axis=2), self.weights, _EVEN, _EVEN[0])
        return np.asarray(logit(fused[:, 0]))

    def probability(self, a: Identity, b: Identity, prior: float = 0.5) -> float:
        """Probability that two identities are of one person.

        Parameters
        ----------
        a, b : Identity
        prior : float
            Probability before anything is seen or heard, above 0 and below 1.

        Returns
        -------
        float
            NaN where they share no modality.

        Raises
        ------
        ConfigError
            If the prior is out of range.

        Examples
        --------
        >>> bool(np.isnan(shipped_identity().probability(Identity(), Identity())))
        True
        """
        if not 0 < prior < 1:
            raise ConfigError(f"a prior lies above 0 and below 1; got {prior:g}")
        return float(expit(self.ratios(distances([a], [b])[:, 0])[0] + logit(prior)))

    def threshold(self, false_accept_rate: float, modalities: Sequence[str] = MODALITIES) -> float:
        """Log-likelihood ratio that strangers reach as often as is stated.

        Beyond the rates that were measured, the ratio grows by the logarithm of the rate, as those of calibrated
        ratios do.

        Parameters
        ----------
        false_accept_rate : float
            Above 0 and below 1.
        modalities : sequence of str
            Those that are compared.

        Returns
        -------
        float

        Raises
        ------
        ConfigError
            If the rate is out of range or no modality is named.

        Examples
        --------
        >>> model = shipped_identity()
        >>> bool(model.threshold(0.001) > model.threshold(0.01))
        True
        """
        if not 0 < false_accept_rate < 1:
            raise ConfigError(f"a false-accept rate lies above 0 and below 1; got {false_accept_rate:g}")
        name = "+".join(m for m in MODALITIES if m in modalities)
        if name not in self.thresholds:
            raise ConfigError(f"a comparison needs {' or '.join(MODALITIES)}; got {', '.join(modalities) or 'none'}")
        rates, ratios = self.thresholds[name].T
        order = np.argsort(rates)
        found = float(np.interp(np.log(false_accept_rate), np.log(rates[order]), ratios[order]))
        return found + max(0.0, float(np.log(rates.min() / false_accept_rate)))

    def identify(self, person: Identity, known: Mapping[str, Identity], false_accept_rate: float = 0.01) -> Match:
        """Whom of those that are known a person is, or "unknown".

        Parameters
        ----------
        person : Identity
            Somebody in a recording.
        known : mapping of str to Identity
            By name.
        false_accept_rate : float
            How often, at most, a stranger is taken for anybody of ``known``; each name gets its share.

        Returns
        -------
        Match
            Before anything is seen or heard, a stranger is as likely as somebody who is known.

        Examples
        --------
        >>> shipped_identity().identify(Identity(), {})
        Match(name='unknown', probability=1.0, evidence=-inf)
        """
        names = [name for name in known if shared(person, known[name])]
        if not names:
            return Match(UNKNOWN, 1.0, -np.inf)
        L = self.ratios(distances([person], [known[name] for name in names])[0])
        best = int(L.argmax())
        total = np.logaddexp.reduce(np.append(L - np.log(len(L)), 0.0))
        needed = self.threshold(false_accept_rate / len(names), shared(person, known[names[best]]))
        if L[best] >= needed:
            return Match(names[best], float(np.exp(L[best] - np.log(len(L)) - total)), float(L[best]))
        return Match(UNKNOWN, float(np.exp(-total)), float(L[best]))


def shared(a: Identity, b: Identity) -> tuple[str, ...]:
    """Modalities that both have."""
    return tuple(m for m in MODALITIES if a.part(m) is not None and b.part(m) is not None)


def distances(rows: Sequence[Identity], columns: Sequence[Identity]) -> np.ndarray:
    """Distances between faces and between voices: Euclidean, of embeddings that are brought to length 1.

    Parameters
    ----------
    rows : sequence of n Identity
    columns : sequence of m Identity

    Returns
    -------
    array of shape (n, m, 2)
        By `MODALITIES`; NaN where one of them lacks the modality.

    Examples
    --------
    >>> distances([Identity(face=np.array([1.0, 0.0]))], [Identity(face=np.array([0.0, 2.0]))]).round(3)
    array([[[1.414,   nan]]])
    """
    D = np.full((len(rows), len(columns), len(MODALITIES)), np.nan)
    for i, a in enumerate(rows):
        for j, b in enumerate(columns):
            for m in shared(a, b):
                D[i, j, MODALITIES.index(m)] = np.linalg.norm(_unit(a.part(m)) - _unit(b.part(m)))
    return D


def _unit(embedding: np.ndarray | None) -> np.ndarray:
    """An embedding at length 1: the mean of many pictures is shorter than a single one."""
    assert embedding is not None
    return embedding / max(float(np.linalg.norm(embedding)), 1e-9)


def mean_identity(parts: Sequence[Identity]) -> Identity:
    """One person out of several looks and several stretches of speech.

    Parameters
    ----------
    parts : sequence of Identity

    Returns
    -------
    Identity
        Means of the faces and of the voices that are there.

    Examples
    --------
    >>> mean_identity([Identity(face=np.zeros(128)), Identity(face=np.ones(128))]).face[:2]
    array([0.5, 0.5])
    """
    found = {m: [own for part in parts if (own := part.part(m)) is not None] for m in MODALITIES}
    return Identity(**{m: np.mean(own, axis=0) for m, own in found.items() if own})


def join_tracks(
    tracks: Sequence[Identity],
    times: Sequence[np.ndarray],
    model: IdentityModel | None = None,
    false_join_rate: float = _JOIN_RATE,
) -> list[int]:
    """Which tracks of one recording are of one person.

    Agglomerative clustering with average linkage of the log-likelihood ratios; two tracks that are seen in one picture
    are never joined. It stops where strangers would be joined more often than is stated. Voices are compared where a
    face is missing.

    Parameters
    ----------
    tracks : sequence of n Identity
        Mean face of every track, and its voice where it is known.
    times : sequence of n arrays
        Times in seconds of the pictures in which each track is seen.
    model : IdentityModel, optional
        The shipped one where None.
    false_join_rate : float
        How often two strangers may be taken for one person.

    Returns
    -------
    list of int
        The person of every track, numbered from 0 in the order of the tracks.

    Raises
    ------
    DataError
        If tracks and times differ in number.

    Examples
    --------
    >>> a, b = Identity(face=np.zeros(128)), Identity(face=np.full(128, 0.1))
    >>> join_tracks([a, b, a], [np.array([0.0]), np.array([1.0]), np.array([2.0])])
    [0, 1, 0]
    >>> join_tracks([a, a], [np.array([0.0]), np.array([0.0])])  # in one picture: twins
    [0, 1]
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(tracks) != len(times):
        raise DataError(f"every track needs its times; got {len(tracks)} tracks and {len(times)} times")
    n = len(tracks)
    if n < 2:
        return [0] * n
    gaps = _gaps(tracks, times, model or shipped_identity(), false_join_rate)
    clusters = fcluster(linkage(gaps, "average"), 1.0, "distance")
    first: dict[int, int] = {}
    return [first.setdefault(int(cluster), len(first)) for cluster in clusters]


def _gaps(tracks: Sequence[Identity], times: Sequence[np.ndarray], model: IdentityModel, rate: float) -> np.ndarray:
    """Distances of pairs (n (n - 1) / 2,): 1 at the threshold of their modalities, growing by nats of evidence."""
    D, found = distances(tracks, tracks), []
    for i, a in enumerate(tracks):
        for j in range(i + 1, len(tracks)):
            # Voices change with the emotion more than faces do: where both faces are there, they lose right joins.
            modalities = ("face",) if "face" in shared(a, tracks[j]) else shared(a, tracks[j])
            if not modalities or len(np.intersect1d(times[i], times[j])):
                found.append(_SURE_DIFFERENT)
                continue
            d = np.where([m in modalities for m in MODALITIES], D[i, j], np.nan)
            short = model.threshold(rate, modalities) - float(model.ratios(d[None])[0])
            found.append(max(0.0, 1.0 + short / 100))  # evidence ends at 28 nats, so this stays above 0
    return np.array(found)


@cache
def shipped_identity() -> IdentityModel:
    """The calibration that comes with affuse.

    Returns
    -------
    IdentityModel

    Examples
    --------
    >>> shipped_identity().weights.shape
    (2,)
    """
    return IdentityModel.read(Path(str(files("affuse.people"))) / "identity.json")
