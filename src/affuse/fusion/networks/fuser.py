"""`NetworkFuser`: every joint network as one scikit-learn classifier over X (n, d) and blocks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from affuse.errors import ConfigError, DataError
from affuse.files import write_json
from affuse.fusion.base import Array, Columns, Groups
from affuse.fusion.early.base import BlockClassifier
from affuse.fusion.early.blocks import Blocks, check_features
from affuse.fusion.estimator import check_groups
from affuse.fusion.networks.catalogue import Reads, find, reads
from affuse.fusion.networks.inputs import Scaling, Table, contexts_of, cut, step_counts
from affuse.lazy import needs_extra

if TYPE_CHECKING:
    from types import ModuleType

    from affuse.fusion.networks.training import Recipe, Split, Splits

__all__ = ["NetworkFuser"]

_BATCH = {"row": 4096, "sequence": 1024, "context": 64}  # rows or contexts that are predicted at a time
_CONTEXTS = 8  # groups a batch in fit: a video has dozens of utterances
_FINGERPRINT = "fit.json"


class NetworkFuser(BlockClassifier):
    """A joint network over blocks of features as a scikit-learn classifier.

    All networks are trained by one loop with modality dropout, AdamW and early stopping on a dev split. Features are
    standardised by what `fit` saw. Gaps: a block that is NaN throughout is missing; every network states how it handles
    that, and sees it in training through modality dropout; a row without any block is NaN. With a thousand rows
    networks rarely beat what is linear.

    Parameters
    ----------
    blocks : mapping of str to slice or list of int
        Columns of every modality, such as ``{"text": slice(0, 384), "audio": slice(384, 457)}``.
    network : str
        One of `affuse.fusion.networks.names`; the docstring of its class names the paper.
    hidden, dropout : int, float, optional
        Units and share of units dropped; the network's own default where None.
    modality_dropout : float
        Probability that a modality of a row is hidden in training.
    options : mapping, optional
        Further parameters of the network, such as ``{"rank": 8}``.
    steps : int or mapping of str to int, optional
        For networks over sequences, steps of every block, or of some by name: its columns hold one step after the
        other, and a step that is NaN throughout is missing.
    encoders : mapping of str to torch.nn.Module, optional
        Modules (n_samples, width) to (n_samples, hidden) to train along, by modality; each `fit` trains copies.
    learning_rate, weight_decay : float
        Of AdamW.
    batch_size : int
        Rows a batch. A batch of a contextual network is of eight groups.
    max_epochs : int
        Most epochs.
    patience : int
        Epochs without a smaller dev loss after which training stops; the best epoch's weights are kept.
    validation_share : float
        Share of the rows (whole groups where ``groups`` are given) of the dev split; 0 trains for all epochs.
    checkpoints : str or Path, optional
        Folder of checkpoints, one after every epoch; `fit` with the same data and parameters resumes there.
    logger : object, optional
        "csv", "tensorboard", "wandb" or a logger of Lightning.
    log_folder : str or Path
        Where the named loggers write.
    progress : bool, optional
        Whether to show a progress bar; None does where the output is a terminal.
    precision : str
        Of Lightning's Trainer, such as ``"16-mixed"``.
    trainer : mapping, optional
        Further arguments of Lightning's Trainer, such as ``{"accelerator": "gpu", "devices": 2}``.
    random_state : int or RandomState
        Seed of weights, order, dropout and dev split.

    Attributes
    ----------
    network_ : FusionNetwork
        The trained torch module.
    best_epoch_ : int or None
        Epoch of its weights, counted from 0; None without a dev split, or where other processes trained it
        (``strategy="ddp_spawn"``).
    classes_ : array of shape (n_classes,)
        Labels of the columns.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> X = rng.normal(size=(60, 5)) + y[:, None]
    >>> fuser = NetworkFuser({"face": slice(0, 2), "voice": slice(2, 5)}, "late", max_epochs=2, progress=False)
    >>> X[0, :2] = np.nan  # the first row has no face
    >>> fuser.fit(X, y).predict_proba(X).shape
    (60, 2)
    """

    def __init__(
        self,
        blocks: Blocks,
        network: str = "low_rank",
        *,
        hidden: int | None = None,
        dropout: float | None = None,
        modality_dropout: float = 0.2,
        options: Mapping[str, Any] | None = None,
        steps: int | Mapping[str, int] | None = None,
        encoders: Mapping[str, Any] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        batch_size: int = 64,
        max_epochs: int = 200,
        patience: int = 15,
        validation_share: float = 0.15,
        checkpoints: str | Path | None = None,
        logger: Any = None,
        log_folder: str | Path = "runs",
        progress: bool | None = None,
        precision: str = "32-true",
        trainer: Mapping[str, Any] | None = None,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.network = network
        self.hidden = hidden
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.options = options
        self.steps = steps
        self.encoders = encoders
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_share = validation_share
        self.checkpoints = checkpoints
        self.logger = logger
        self.log_folder = log_folder
        self.progress = progress
        self.precision = precision
        self.trainer = trainer
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, unlabelled: ArrayLike | None = None
    ) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            NaN where a block is missing.
        y : array of shape (n_samples,)
            Any labels.
        groups : array of shape (n_samples,), optional
            Videos or speakers: the dev split splits none. A contextual network reads the rows of each in their order,
            which must be that of time: in files sorted by label the place of a row tells its label.
        unlabelled : array of shape (n_unlabelled, n_features), optional
            Rows that the autoencoder learns to reconstruct as well.

        Returns
        -------
        NetworkFuser
            The estimator itself.

        Raises
        ------
        DataError, ConfigError
            If something does not fit.
        MissingExtraError
            Without torch or Lightning.
        """
        self._check_parameters()
        X, columns, groups = self._start(X, y, groups)
        if self._reads == "context" and groups is None:
            raise ConfigError(f"the network {self.network!r} reads rows in the context of their group; give groups")
        training = _training()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        values = self._cut(X)
        extra = self._unlabelled(unlabelled)
        self.scaling_ = Scaling.of({m: np.concatenate([v, extra[m]]) if extra else v for m, v in values.items()})
        table = self.scaling_.apply(values)
        splits = self._splits(table, columns, groups, seed, training)
        if extra:
            table, columns, splits = _extend(table, columns, splits, self.scaling_.apply(extra), training)
        recipe = self._recipe(seed, training)
        self._claim_checkpoints(X, columns, groups)
        self.network_ = self._build(seed, training)
        best = training.train(self.network_, table, columns, recipe, splits)
        self.best_epoch_ = None if best is None or best.weights is None else best.epoch
        return self

    def predict_proba(self, X: ArrayLike, groups: ArrayLike | None = None) -> Array:
        """Probabilities of the labels.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            NaN where a block is missing.
        groups : array of shape (n_samples,), optional
            A contextual network reads the rows of each group in their order; without groups every row is read by
            itself. Other networks ignore them.

        Returns
        -------
        array of shape (n_samples, n_classes)
            NaN for rows without any block.
        """
        check_is_fitted(self)
        X = check_features(X, self.n_features_in_)
        P = np.full((len(X), len(self.classes_)), np.nan)
        if len(X) == 0:
            return P
        table = self.scaling_.apply(self._cut(X))
        contexts = contexts_of(check_groups(groups, len(X), "X"), len(X)) if self._reads == "context" else None
        logits = _training().predict(self.network_, table, _BATCH[self._reads], contexts)
        some = table.available().any(axis=1)
        P[some] = softmax(logits[some], axis=1)
        return P

    def predict(self, X: ArrayLike, groups: ArrayLike | None = None) -> NDArray[Any]:
        """Most probable labels.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        groups : array of shape (n_samples,), optional
            As in `predict_proba`.

        Returns
        -------
        array of shape (n_samples,)
            The most frequent label of `fit` for rows without any block.
        """
        return self._answers(self.predict_proba(X, groups))

    def reconstruct(self, X: ArrayLike) -> Array:
        """X with missing blocks filled in from those that are present, by the autoencoder.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_features)
            In the units of X; rows without any block stay NaN.

        Raises
        ------
        ConfigError
            For another network.
        """
        check_is_fitted(self)
        if self.network != "autoencoder":
            raise ConfigError(f"only the autoencoder reconstructs missing blocks; this is {self.network!r}")
        filled = check_features(X, self.n_features_in_).copy()
        table = self.scaling_.apply(self._cut(filled))
        some = table.available().any(axis=1)
        decoded = _reconstruct(self.network_, table)
        for name, columns in self._layout().items():
            rows = np.flatnonzero(some & ~table.present[name])
            filled[np.ix_(rows, columns)] = self.scaling_.undo(name, decoded[name][rows])
        return filled

    @property
    def _reads(self) -> Reads:
        return reads(self.network)

    def _check_parameters(self) -> None:
        find(self.network)
        for name in ("modality_dropout", "validation_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1; got {getattr(self, name)}")
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1; got {getattr(self, name)}")

    def _steps(self) -> dict[str, int] | None:
        """Steps of every block for a network over sequences; other networks read vectors."""
        return step_counts(self._layout(), self.steps) if self._reads == "sequence" else None

    def _cut(self, X: Array) -> dict[str, Array]:
        return cut(X, self._layout(), self._steps())

    def _unlabelled(self, X: ArrayLike | None) -> dict[str, Array] | None:
        if X is None:
            return None
        if self.network != "autoencoder":
            raise ConfigError(f"only the autoencoder learns from unlabelled rows; this is {self.network!r}")
        return self._cut(check_features(X, self.n_features_in_))

    def _build(self, seed: int, training: ModuleType) -> Any:
        """An untrained network whose weights are drawn from ``seed``. Raises ConfigError for unknown options."""
        torch = training.torch
        steps = self._steps() or {}
        widths = {name: len(columns) // steps.get(name, 1) for name, columns in self._layout().items()}
        options = dict(self.options or {})
        options |= {k: v for k in ("hidden", "dropout") if (v := getattr(self, k)) is not None}
        if self.encoders is not None:
            options["encoders"] = training.copies(self.encoders)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                return find(self.network)(widths, len(self.classes_), **options)
            except TypeError as error:
                raise ConfigError(f"the network {self.network!r} does not take these options: {error}") from error

    def _recipe(self, seed: int, training: ModuleType) -> Recipe:
        plan = training.LoopConfig(
            max_epochs=self.max_epochs,
            patience=self.patience,
            seed=seed,
            precision=self.precision,
            progress=self.progress,
            checkpoints=None if self.checkpoints is None else Path(self.checkpoints),
            logger=self.logger,
            log_folder=Path(self.log_folder),
            trainer=self.trainer or {},
        )
        recipe: Recipe = training.Recipe(
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            modality_dropout=self.modality_dropout,
            batch_size=_CONTEXTS if self._reads == "context" else self.batch_size,
            loop=plan,
        )
        return recipe

    def _splits(self, table: Table, y: Columns, groups: Groups, seed: int, training: ModuleType) -> Splits:
        """Rows to learn from and to validate on: whole contexts, or rows that have any block."""
        rows = np.arange(len(table)) if self._reads == "context" else np.flatnonzero(table.available().any(axis=1))
        if len(rows) == 0:
            raise DataError("no row of X has any block")
        fit, held_out = _split(y[rows], None if groups is None else groups[rows], self.validation_share, seed)
        splits: Splits = training.Splits(
            self._split_of(rows[fit], groups, training),
            None if held_out is None else self._split_of(rows[held_out], groups, training),
        )
        return splits

    def _split_of(self, rows: NDArray[np.intp], groups: Groups, training: ModuleType) -> Split:
        if self._reads != "context" or groups is None:
            split: Split = training.Split(rows)
            return split
        contexts = [rows[context] for context in contexts_of(groups[rows], len(rows))]
        split = training.Split(rows, contexts)
        return split

    def _claim_checkpoints(self, X: Array, y: Columns, groups: Groups) -> None:
        """Note in the folder of checkpoints whose they are. Raises ConfigError where they are of another fit."""
        if self.checkpoints is None:
            return
        folder = Path(self.checkpoints)
        told = {k: repr(v) for k, v in self.get_params(deep=False).items() if k not in _NOT_DECISIVE}
        order = y if groups is None else np.unique(groups, return_inverse=True)[1]
        data = hashlib.sha256(np.ascontiguousarray(X).tobytes() + y.tobytes() + order.tobytes()).hexdigest()
        claim = {"data": data, "parameters": told}
        path = folder / _FINGERPRINT
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != claim:
            raise ConfigError(f"{folder} holds checkpoints of other data or parameters; name another folder")
        write_json(path, claim, indent=None)


# What may differ between a fit and the one that resumes it.
_NOT_DECISIVE = ("checkpoints", "encoders", "log_folder", "logger", "max_epochs", "progress", "trainer")


def _training() -> ModuleType:
    """The training loop, which loads torch and Lightning."""
    with needs_extra("train"):
        from affuse.fusion.networks import training
    return training


def _split(y: Columns, groups: Groups, share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp] | None]:
    """Rows to learn from and rows to validate on; None where there are too few for the latter."""
    everything = np.arange(len(y))
    n_units = len(y) if groups is None else len(np.unique(groups))
    if share == 0 or n_units < 2:
        return everything, None
    counts = np.bincount(y)
    count = max(1, round(share * n_units))
    if groups is not None:
        splitter: Any = GroupShuffleSplit(1, test_size=count, random_state=seed)
    elif counts[counts > 0].min() > 1 and count >= (counts > 0).sum():
        splitter = StratifiedShuffleSplit(1, test_size=count, random_state=seed)
    else:
        splitter = ShuffleSplit(1, test_size=count, random_state=seed)
    fit, held_out = next(splitter.split(everything, y, groups))
    return fit, held_out


def _extend(
    table: Table, y: Columns, splits: Splits, extra: Table, training: ModuleType
) -> tuple[Table, Columns, Splits]:
    """The table with unlabelled rows behind it, which are learned from and never validated on."""
    features = {m: np.concatenate([v, extra.features[m]]) for m, v in table.features.items()}
    present = {m: np.concatenate([v, extra.present[m]]) for m, v in table.present.items()}
    rows = len(table) + np.flatnonzero(extra.available().any(axis=1))
    targets = np.concatenate([y, np.full(len(extra), training.UNLABELLED)])
    train = training.Split(np.concatenate([splits.train.rows, rows]))
    return Table(features, present), targets, training.Splits(train, splits.dev)


def _reconstruct(network: Any, table: Table) -> dict[str, Array]:
    import torch

    with torch.no_grad():
        features = {m: torch.from_numpy(v) for m, v in table.features.items()}
        present = {m: torch.from_numpy(v) for m, v in table.present.items()}
        decoded = network.eval().reconstruct(features, present)
    return {m: v.double().numpy() for m, v in decoded.items()}
