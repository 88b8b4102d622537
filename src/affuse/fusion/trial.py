"""Questions that a fuser is asked when it is read from disk, before anybody relies on its answers."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from affuse.fusion.base import Array, Mask
from affuse.fusion.estimator import Fuser
from affuse.fusion.relabel import partial_answer

__all__ = ["try_out"]

_ALL_SETS_UP_TO = 5  # modalities whose sets are all asked; of more, those of one, of all, and where one is missing
_MOST = 16  # modalities that are asked by themselves


def try_out(fuser: Any, m: int | None = None, k: int | None = None) -> None:
    """Ask what a saved estimator can be asked: rows of every set of modalities, certain, uncertain and contradictory.

    Parameters
    ----------
    fuser : estimator
        Just read.
    m, k : int, optional
        Numbers of modalities and classes where the estimator does not say, as a pipeline does not.

    Raises
    ------
    ValueError
        If an answer is no distribution over the classes; and whatever the estimator raises itself.
    """
    m = getattr(getattr(fuser, "fuser_", fuser), "n_modalities_", m)
    k = len(fuser.classes_) if hasattr(fuser, "classes_") else k
    with np.errstate(all="ignore"):  # what becomes of the numbers is looked at below
        if hasattr(fuser, "n_features_in_") and not isinstance(fuser, Fuser):
            _try_features(fuser)
        elif m is not None and k is not None:
            _try_fuser(fuser, m, k)


def _try_features(classifier: Any) -> None:
    """A classifier of features gives rows of as many numbers as it has labels."""
    answers = classifier.predict_proba(np.zeros((2, classifier.n_features_in_)))
    _check(answers, 2, len(classifier.classes_))


def _try_fuser(fuser: Any, m: int, k: int) -> None:
    P = _questions(m, k)
    if not hasattr(fuser, "predict_proba"):
        if np.shape(fuser.predict_set(P)) != (len(P), k):
            raise ValueError(f"its sets are not of {k} labels")
        return
    # Those sure of a class that the fuser never answers may say nothing to it.
    _check(fuser.predict_proba(P), len(P), k, gaps=(P == 1.0).any(axis=(1, 2)))
    if np.shape(fuser.predict(P)) != (len(P),):
        raise ValueError("it does not give a label a row")
    if not isinstance(fuser, Fuser):
        return
    for keep in np.eye(min(m, _MOST), m, dtype=bool):
        _check(partial_answer(fuser, P, keep), len(P), k, gaps=np.ones(len(P), dtype=bool))
    names = [str(j) for j in range(m)]
    if not isinstance(fuser.describe_choice(names), str | None):
        raise ValueError("it does not say what it has chosen")
    if fuser.adapts:
        rows = P[(P < 1.0).all(axis=(1, 2))]
        _check(getattr(fuser, "adapt")(rows).predict_proba(rows), len(rows), k)  # noqa: B009 - not of every Fuser


def _questions(m: int, k: int) -> Array:
    """P (n, m, k): even rows, rows sure of one class, and rows whose modalities are sure of different ones."""
    classes = np.arange(min(k, _MOST))
    sure = np.full((len(classes), k), 0.0)
    sure[classes, classes] = 1.0
    alike = np.repeat(sure[:, None], m, axis=1)
    apart = sure[np.add.outer(classes, np.arange(m)) % len(classes)]
    leaning = (alike + 1) / (1 + k)
    rows = np.concatenate([np.full((1, m, k), 1 / k), leaning, alike, apart])
    return np.concatenate([np.where(members[:, None], rows, np.nan) for members in _sets(m)])


def _sets(m: int) -> Mask:
    if m <= _ALL_SETS_UP_TO:
        sets: Mask = np.array(list(product([False, True], repeat=m)))[1:]
        return sets
    single = np.eye(min(m, _MOST), m, dtype=bool)
    return np.concatenate([np.ones((1, m), dtype=bool), single, ~single])


def _check(answers: Any, n: int, k: int, gaps: Mask | None = None) -> None:
    """Raise ValueError for what is not n distributions over k classes; in ``gaps`` a row may be NaN throughout."""
    found = np.asarray(answers, dtype=float)
    if found.shape != (n, k):
        raise ValueError(f"its answers are of shape {found.shape}, not {(n, k)}")
    said = found if gaps is None else found[~(gaps & np.isnan(found).all(axis=1))]
    if not ((said >= 0).all() and np.allclose(said.sum(axis=1), 1.0)):  # false for NaN as well
        raise ValueError(f"its answers do not sum to 1, or are not {k} a row")
