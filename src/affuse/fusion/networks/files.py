"""Trained networks on disk: weights and scales as safetensors, the rest as JSON, nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from affuse.errors import AssetError, OutputError
from affuse.files import replacing
from affuse.fusion.networks import training
from affuse.fusion.networks.fuser import NetworkFuser
from affuse.fusion.networks.inputs import Scaling
from affuse.fusion.schema import LEAST, frequencies, numbers

__all__ = ["load", "save"]

_FACTS, _WEIGHTS = "network.json", "network.safetensors"
_KIND = "affuse network"
# What shapes the network; how it was trained is of no use to a trained one.
_SHAPE = ("network", "hidden", "dropout", "options", "steps")


def save(fuser: NetworkFuser, folder: str | Path) -> None:
    """Write a fitted network to a folder as network.json and network.safetensors, without pickle.

    Parameters
    ----------
    fuser : NetworkFuser
        Fitted.
    folder : str or Path
        Made where it is missing.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    NotFittedError
        Of scikit-learn, before `fit`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> X = rng.normal(size=(60, 5)) + y[:, None]
    >>> fuser = NetworkFuser({"face": slice(0, 2), "voice": slice(2, 5)}, max_epochs=2, progress=False).fit(X, y)
    >>> save(fuser, "my_network")
    >>> bool(np.allclose(load("my_network").predict_proba(X), fuser.predict_proba(X)))
    True
    """
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(fuser)
    folder = Path(folder)
    facts = {
        "kind": _KIND,
        "parameters": {name: getattr(fuser, name) for name in _SHAPE},
        "blocks": {name: columns.tolist() for name, columns in fuser._layout().items()},
        "encoders": sorted(fuser.encoders or {}),
        "n_features": fuser.n_features_in_,
        "seen": sorted(fuser.scaling_.seen),
        "classes": fuser.classes_.tolist(),
        "best_epoch": fuser.best_epoch_,
    }
    tensors = {f"network/{k}": v.contiguous() for k, v in fuser.network_.state_dict().items()}
    tensors["prior"] = torch.from_numpy(fuser.prior_)
    for name in fuser.scaling_.means:
        tensors[f"mean/{name}"] = torch.from_numpy(fuser.scaling_.means[name])
        tensors[f"scale/{name}"] = torch.from_numpy(fuser.scaling_.scales[name])
    try:
        with replacing(folder / _WEIGHTS, folder / _FACTS) as (weights, card):
            save_file(tensors, weights)
            card.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except SafetensorError as error:
        raise OutputError(f"{folder} cannot be written: {error}") from error


def load(folder: str | Path, encoders: Mapping[str, Any] | None = None) -> NetworkFuser:
    """Read a network that `save` wrote, ready to predict.

    Parameters
    ----------
    folder : str or Path
    encoders : mapping of str to torch.nn.Module, optional
        Modules of the same shape as those given to the fuser, where it had any.

    Returns
    -------
    NetworkFuser

    Raises
    ------
    AssetError
        If the folder does not hold a whole network.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> X = rng.normal(size=(60, 5)) + y[:, None]
    >>> save(NetworkFuser({"face": slice(0, 2), "voice": slice(2, 5)}, max_epochs=2, progress=False).fit(X, y), "mine")
    >>> load("mine").predict(X).shape
    (60,)
    """
    folder = Path(folder)
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        tensors = load_file(folder / _WEIGHTS)
        if facts["kind"] != _KIND:
            raise ValueError(f"{_FACTS} is of the kind {facts['kind']!r}")
        fuser = _rebuilt(facts, tensors, encoders)
        _check(fuser)
    except Exception as error:  # whatever torch, safetensors and the network itself trip over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise AssetError(f"{folder} does not hold a network saved by affuse: {reason}") from error
    return fuser


def _check(fuser: NetworkFuser) -> None:
    """Raise ValueError where what was read has other shapes than the network, or gives no probabilities."""
    k = len(fuser.classes_)
    if fuser.classes_.ndim != 1 or len(set(fuser.classes_.tolist())) < k:
        raise ValueError("its classes are not different labels")
    frequencies(k)(fuser.prior_)
    for name, values in fuser._cut(np.zeros((1, fuser.n_features_in_))).items():
        width = values.shape[-1]
        numbers(width)(fuser.scaling_.means[name])
        numbers(width, low=LEAST)(fuser.scaling_.scales[name])
    answers = fuser.predict_proba(np.zeros((2, fuser.n_features_in_)))
    if answers.shape != (2, k) or not np.allclose(answers.sum(axis=1), 1.0):
        raise ValueError(f"its answers do not sum to 1, or are not {k} a row")


def _rebuilt(
    facts: dict[str, Any], tensors: dict[str, torch.Tensor], encoders: Mapping[str, Any] | None
) -> NetworkFuser:
    if sorted(encoders or {}) != facts["encoders"]:
        raise ValueError(f"it needs encoders for {', '.join(facts['encoders']) or 'no modality'}")
    fuser = NetworkFuser(facts["blocks"], encoders=encoders, **facts["parameters"])
    fuser.n_features_in_ = facts["n_features"]
    fuser.classes_ = np.array(facts["classes"])
    fuser.prior_ = tensors["prior"].numpy()
    fuser.best_epoch_ = facts["best_epoch"]
    scales = {
        kind: {name: tensors[f"{kind}/{name}"].numpy() for name in sorted(facts["blocks"])}
        for kind in ("mean", "scale")
    }
    fuser.scaling_ = Scaling(scales["mean"], scales["scale"], frozenset(facts["seen"]))
    fuser.network_ = fuser._build(0, training)
    fuser.network_.load_state_dict(
        {key.removeprefix("network/"): value for key, value in tensors.items() if key.startswith("network/")}
    )
    fuser.network_.eval()
    return fuser
