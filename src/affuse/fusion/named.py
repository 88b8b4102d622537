"""A fitted fuser together with the names of its modalities and labels, as a folder on disk holds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affuse.errors import AssetError, ConfigError, DataError
from affuse.fusion import persistence
from affuse.fusion.base import Array, Columns, Mask, present
from affuse.fusion.estimator import Fuser, prior_of
from affuse.fusion.explain import shares_of
from affuse.fusion.priors import Prior, reweight
from affuse.fusion.relabel import Relabelled, Widened, partial_answer
from affuse.fusion.trial import try_out
from affuse.labels import EKMAN, LabelSpace, recognise, to_emotions

__all__ = ["NamedFuser"]


@dataclass(frozen=True, eq=False)
class NamedFuser:
    """A fitted fuser with the names of its modalities and labels; a folder on disk holds one.

    Parameters
    ----------
    fuser : Fuser
        Fitted, over P of shape (n_samples, n_modalities, n_classes); a scikit-learn pipeline around one works too.
    modalities : tuple of str
        In the order of P.
    labels : tuple of str
        In the order of the columns of P.
    method : str
        Name of the method.
    notes : mapping
        Values that JSON can hold. "prior" is the prior of an answer where nobody chooses one: a name that
        `affuse.fusion.priors.Prior.named` knows, or {"name", "frequencies"}; "priors" the label frequencies under which
        each modality was calibrated, by modality.
    sha256 : str
        Checksum of the card in the folder that it was read from, "" before.

    Raises
    ------
    ConfigError
        If the names do not fit the fuser.

    Examples
    --------
    >>> from affuse.fusion import ProductRule
    >>> P = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.2, 0.8], [0.5, 0.5]]])
    >>> named = NamedFuser(ProductRule().fit(P, [0, 1]), ("face", "voice"), ("frustrated", "engaged"))
    >>> named.fuse(P[:, :1], ["face"]).round(2)  # the voice is missing, not zero
    array([[0.9, 0.1],
           [0.2, 0.8]])
    """

    fuser: Any
    modalities: tuple[str, ...]
    labels: tuple[str, ...]
    method: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    def __post_init__(self) -> None:
        for what, names in (("modalities", self.modalities), ("labels", self.labels)):
            wrong = [name for name in names if not isinstance(name, str) or not name]
            if wrong or not names or len(set(names)) < len(names):
                raise ConfigError(f"the {what} of a fuser need different names; got {', '.join(map(str, names))}")
        m = getattr(self.fuser, "n_modalities_", len(self.modalities))
        k = len(getattr(self.fuser, "classes_", self.labels))
        if (m, k) != (len(self.modalities), len(self.labels)):
            raise ConfigError(
                f"the fuser was fitted on {m} modalities and {k} labels; named are {', '.join(self.modalities)} "
                f"and {', '.join(self.labels)}"
            )

    @classmethod
    def read(cls, folder: str | Path, trusted: Sequence[str] = ()) -> NamedFuser:
        """Read a folder that `write`, ``affuse fuse --save``, ``affuse tune --save`` or a recipe wrote.

        The fuser.json of a system that affuse 0.1 exported is read as well.

        Parameters
        ----------
        folder : str or Path
        trusted : sequence of str
            Types that may be built, as in `affuse.fusion.load`.

        Returns
        -------
        NamedFuser

        Raises
        ------
        AssetError
            If a file is missing, was changed, holds types that are not trusted, or does not name modalities and labels.
        """
        folder = Path(folder)
        if folder.is_file():
            return _read_pool(folder)
        notes = persistence.read_notes(folder)
        missing = [name for name in ("modalities", "labels") if not isinstance(notes.get(name), list)]
        if missing:
            raise AssetError(
                f"{folder} holds a fuser without its {missing[0]}; save it with affuse fuse --save, or with NamedFuser"
            )
        fuser = persistence.load(folder, trusted)
        rest = {name: value for name, value in notes.items() if name not in ("method", "modalities", "labels")}
        sha256 = hashlib.sha256((folder / persistence.CARD).read_bytes()).hexdigest()
        try:
            names = tuple(notes["modalities"]), tuple(notes["labels"])
            named = cls(fuser, *names, str(notes.get("method") or type(fuser).__name__), rest, sha256)
            named._check_read()
        except (AssetError, ConfigError, TypeError) as error:
            raise AssetError(f"{folder / persistence.CARD} does not hold together: {error}") from error
        return named

    def _check_read(self) -> None:
        """Raise ConfigError or AssetError where names and notes from disk are not those of a fuser that answers."""
        if not callable(getattr(type(self.fuser), "predict_proba", None)):
            raise ConfigError(f"a {type(self.fuser).__name__} gives no probabilities")
        if not isinstance(self.fuser, Fuser):  # a pipeline does not say how many modalities it has
            try:
                try_out(self.fuser, len(self.modalities), len(self.labels))
            except Exception as error:  # of scikit-learn, whatever it trips over
                raise ConfigError(f"its {type(self.fuser).__name__} does not answer ({error})") from error
        if not isinstance(self.notes.get("priors", {}), Mapping):
            raise ConfigError("the note 'priors' must hold frequencies by modality")
        if not isinstance(self.notes.get("prior"), str):  # a name is looked up where it is used
            _ = self.default_prior
        for modality in self.modalities:
            self.prior_of(modality)

    def write(self, folder: str | Path) -> None:
        """Write a folder that `read` reads.

        Parameters
        ----------
        folder : str or Path
            Made where it is missing.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        names = {"method": self.method, "modalities": list(self.modalities), "labels": list(self.labels)}
        persistence.save(self.fuser, folder, {**names, **self.notes})

    # --- answers ---------------------------------------------------------------------------------------------------

    @property
    def prior(self) -> Array:
        """Label frequencies (n_classes,) under which the fuser answers; even ones where it does not say."""
        return prior_of(self.fuser, len(self.labels))

    @property
    def default_prior(self) -> Prior:
        """The prior of an answer where nobody chooses one: that of the notes, or else the fuser's own.

        Raises AssetError where the notes hold something else.
        """
        wanted = self.notes.get("prior")
        try:
            if wanted is None:
                return Prior(self.labels, self.prior, "that of the fuser")
            if isinstance(wanted, str):
                return Prior.named(wanted, self.labels)
            return Prior(self.labels, np.asarray(wanted["frequencies"], dtype=float), str(wanted["name"]))
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise AssetError(f"the fuser's note of its prior does not hold together: {error}") from error

    def place(self, P: ArrayLike, modalities: Sequence[str]) -> Array:
        """P of some modalities, in any order, as P of the fuser's modalities.

        Parameters
        ----------
        P : array of shape (n_samples, n_given, n_classes)
        modalities : sequence of str
            Names of the given modalities.

        Returns
        -------
        array of shape (n_samples, n_modalities, n_classes)
            NaN for modalities that are not given.

        Raises
        ------
        DataError
            If the fuser does not know a modality, or shapes do not fit.
        """
        P = np.asarray(P, dtype=float)
        unknown = [name for name in modalities if name not in self.modalities]
        if unknown:
            raise DataError(f"the fuser knows {', '.join(self.modalities)}; got {', '.join(unknown)}")
        if P.ndim != 3 or P.shape[1:] != (len(modalities), len(self.labels)):
            raise DataError(
                f"expected P of shape (n, {len(modalities)} modalities, {len(self.labels)} labels); got {P.shape}"
            )
        placed = np.full((len(P), len(self.modalities), len(self.labels)), np.nan)
        placed[:, self._columns(modalities)] = P
        return placed

    def fuse(self, P: ArrayLike, modalities: Sequence[str], prior: ArrayLike | None = None) -> Array:
        """Fused probabilities.

        Parameters
        ----------
        P : array of shape (n_samples, n_given, n_classes)
            Class probabilities; NaN where a modality is missing.
        modalities : sequence of str
            Names of the given modalities, in any order.
        prior : array of shape (n_classes,) or (n_samples, n_classes), optional
            Label frequencies of the answer; the fuser's own where None.

        Returns
        -------
        array of shape (n_samples, n_classes)
            NaN for rows without any modality.
        """
        return self._moved(self.fuser.predict_proba(self.place(P, modalities)), prior)

    def partial(
        self, P: ArrayLike, modalities: Sequence[str], keep: ArrayLike, prior: ArrayLike | None = None
    ) -> Array:
        """Fused probabilities when only some modalities are used, by the model that answers the whole row.

        Parameters
        ----------
        P : array of shape (n_samples, n_given, n_classes)
        modalities : sequence of str
            Names of the given modalities.
        keep : array of bool of shape (n_given,)
            Which of them are used.
        prior : array of shape (n_classes,) or (n_samples, n_classes), optional
            As in `fuse`.

        Returns
        -------
        array of shape (n_samples, n_classes)
        """
        placed = self.place(P, modalities)
        kept = np.zeros(len(self.modalities), dtype=bool)
        kept[self._columns(modalities)] = np.asarray(keep, dtype=bool)
        return self._moved(partial_answer(self.fuser, placed, kept), prior)

    def alone(self, P: ArrayLike, modalities: Sequence[str], prior: ArrayLike | None = None) -> Array:
        """The answer to each modality by itself.

        Parameters
        ----------
        P : array of shape (n_samples, n_given, n_classes)
        modalities : sequence of str
            Names of the given modalities.
        prior : array of shape (n_classes,) or (n_samples, n_classes), optional
            As in `fuse`.

        Returns
        -------
        array of shape (n_samples, n_given, n_classes)
        """
        P = np.asarray(P, dtype=float)
        answers = [self.fuse(P[:, [j]], [name], prior) for j, name in enumerate(modalities)]
        return np.stack(answers, axis=1)

    def shares(
        self, P: ArrayLike, modalities: Sequence[str], answers: Columns, prior: ArrayLike | None = None
    ) -> Array:
        """Exact Shapley shares of the modalities in the log-odds of given labels; see `shapley_shares`.

        Parameters
        ----------
        P : array of shape (n_samples, n_given, n_classes)
        modalities : sequence of str
            Names of the given modalities.
        answers : array of int of shape (n_samples,)
            Columns of the labels that are explained.
        prior : array of shape (n_classes,) or (n_samples, n_classes), optional
            As in `fuse`.

        Returns
        -------
        array of shape (n_samples, n_given)
            NaN for missing modalities.
        """
        P = np.asarray(P, dtype=float)

        def partial(keep: Mask) -> Array:
            return self.partial(P, modalities, keep, prior)

        empty = self.prior if prior is None else np.asarray(prior, dtype=float)
        return shares_of(partial, present(P), empty, answers)

    # --- persons and collections -----------------------------------------------------------------------------------

    @property
    def adapts(self) -> bool:
        """Whether `adapt` can make a fuser for one person or collection."""
        return isinstance(self.fuser, Fuser) and self.fuser.adapts

    @property
    def adapted(self) -> Mapping[str, Any]:
        """What `adapt` found: "n" rows, "trust" and "known" (0 to 1); empty before."""
        return dict(getattr(self.fuser, "adapted_", {}))

    def adapt(
        self, P: ArrayLike, modalities: Sequence[str], weights: ArrayLike | None = None, of: str = "person"
    ) -> NamedFuser:
        """The fuser for one person or collection, from rows without labels.

        Parameters
        ----------
        P : array of shape (n_samples, n_given, n_classes)
        modalities : sequence of str
            Names of the given modalities.
        weights : array of shape (n_samples,), optional
            How many independent rows each counts for; 1 where None.
        of : {"person", "member", "collection"}
            What the rows are of, see `RandomEffectsFusion.adapt`.

        Returns
        -------
        NamedFuser

        Raises
        ------
        ConfigError
            If the fuser does not adapt.
        """
        if not self.adapts:
            raise ConfigError(
                f"the fuser {self.method or type(self.fuser).__name__!r} does not adapt; fit one that does with "
                "affuse fuse --adapt person --save, or use the shipped one"
            )
        return replace(self, fuser=self.fuser.adapt(self.place(P, modalities), weights, of))

    def _columns(self, modalities: Sequence[str]) -> NDArray[np.intp]:
        return np.array([self.modalities.index(name) for name in modalities], dtype=np.intp)

    def _moved(self, P: Array, prior: ArrayLike | None) -> Array:
        return P if prior is None else reweight(P, self.prior, prior)

    # --- other labels, other modalities ----------------------------------------------------------------------------

    def over_emotions(self) -> NamedFuser:
        """The same fuser over the seven labels of `affuse.EKMAN`, in that order.

        Its own labels may stand in another order, be fewer, or be finer or other words for the seven (joy, calm); finer
        ones share the probability of their emotion by how frequent they are. A label that the fuser lacks is never
        answered.

        Returns
        -------
        NamedFuser

        Raises
        ------
        ConfigError
            If a label has no place among the seven.
        """
        if self.labels == EKMAN.labels:
            return self
        goals = [_place_among_emotions(label) for label in self.labels]
        foreign = [label for label, goal in zip(self.labels, goals, strict=True) if goal is None]
        if foreign:
            raise ConfigError(
                f"the fuser's labels {', '.join(foreign)} have no place among {', '.join(EKMAN.labels)}; an analysis "
                "needs a fuser of emotions"
            )
        transfer = np.zeros((len(goals), len(EKMAN)))
        transfer[np.arange(len(goals)), [goal for goal in goals if goal is not None]] = 1.0
        notes = dict(self.notes)
        if isinstance(notes.get("prior"), Mapping):
            notes["prior"] = {**notes["prior"], "frequencies": _summed(notes["prior"].get("frequencies"), transfer)}
        if isinstance(notes.get("priors"), Mapping):
            notes["priors"] = {name: _summed(values, transfer) for name, values in notes["priors"].items()}
        fuser = Relabelled(self.fuser, len(self.modalities), transfer, self.prior)
        return replace(self, fuser=fuser, labels=EKMAN.labels, notes=notes)

    def with_modality(self, name: str) -> NamedFuser:
        """The fuser with one more modality, assumed to be independent of the others given the label (Bayes' rule).

        The probabilities of the new modality must be calibrated under the fuser's `prior`; the fuser's answer counts as
        one more expert.

        Parameters
        ----------
        name : str
            Name of the modality.

        Returns
        -------
        NamedFuser
        """
        if name in self.modalities:
            return self
        fuser = Widened(self.fuser, len(self.modalities), self.prior)
        priors = {**self.notes.get("priors", {}), name: self.prior.tolist()}
        notes = {**self.notes, "priors": priors}
        return replace(self, fuser=fuser, modalities=(*self.modalities, name), notes=notes)

    def prior_of(self, modality: str) -> Array | None:
        """Label frequencies under which the fuser assumes a modality to be calibrated.

        Parameters
        ----------
        modality : str

        Returns
        -------
        array of shape (n_classes,) or None
            None where it is not noted.

        Raises
        ------
        AssetError
            If the notes hold something else.
        """
        noted = self.notes.get("priors")
        if modality not in self.modalities or noted is None:
            return None
        try:
            frequencies = noted[modality] if isinstance(noted, Mapping) and modality in noted else None
            if frequencies is None:
                return None
            values = np.asarray(frequencies, dtype=float)
            if values.shape != (len(self.labels),) or not (values >= 0).all() or not 0 < values.sum() < np.inf:
                raise ValueError(f"expected {len(self.labels)} frequencies; got {frequencies}")
            return np.asarray(values / values.sum())
        except (TypeError, ValueError) as error:
            raise AssetError(f"the fuser's note of the prior of {modality} does not hold together: {error}") from error


def _read_pool(path: Path) -> NamedFuser:
    """The pool of a system that was exported when a fuser was a single file of numbers."""
    from affuse.fusion.causes import CommonCausePool

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        own = values["pool"]
        pool = CommonCausePool.of(
            own["temperatures"], own["weights"], own["priors"], own["prior"], float(own["separate"])
        )
        notes = {
            "priors": dict(zip(own["modalities"], own["priors"], strict=True)),
            "prior": {"name": "dialogue", "frequencies": own["prior"]},
        }
        names = tuple(own["modalities"]), tuple(own["labels"])
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return NamedFuser(pool, *names, "common_cause", notes, sha256)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise AssetError(f"{path} does not hold what a fuser has learned ({error})") from error


def _place_among_emotions(label: str) -> int | None:
    """Column of `EKMAN` that a label, or a word for one, belongs to."""
    known = label if label in EKMAN.labels else recognise(label)
    if known is None:
        return None
    try:
        return int(to_emotions(np.ones(1), LabelSpace("one", (known,))).argmax())
    except DataError:
        return None


def _summed(frequencies: Any, transfer: Array) -> list[float] | Any:
    """Frequencies of own labels as frequencies of the seven; whatever else was noted stays, to be refused later."""
    try:
        return (np.asarray(frequencies, dtype=float) @ transfer).tolist()
    except (TypeError, ValueError):
        return frequencies
