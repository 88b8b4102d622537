"""Made-up predictions and tables, for examples and tests that need no models."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from affuse.data.predictions import Predictions

__all__ = ["predictions", "write_predictions"]

_SKILLS = {"face": 0.8, "voice": 0.6}
_LABELS = ("anger", "happiness", "sadness")


def predictions(n: int = 60, n_groups: int = 6, seed: int = 0) -> Predictions:
    """Predictions of a face expert that is right on 80 % of the rows and a voice expert that is right on 60 %.

    Parameters
    ----------
    n : int
        Number of rows.
    n_groups : int
        Number of speakers.
    seed : int
        Seed of what the experts say.

    Returns
    -------
    Predictions
        Over three emotions, with true labels.

    Examples
    --------
    >>> made = predictions(12)
    >>> made.P.shape, made.modalities
    ((12, 2, 3), ('face', 'voice'))
    """
    rng = np.random.default_rng(seed)
    k = len(_LABELS)
    y = rng.integers(k, size=n)
    P = np.empty((n, len(_SKILLS), k))
    for j, skill in enumerate(_SKILLS.values()):
        said = np.where(rng.random(n) < skill, y, (y + rng.integers(1, k, size=n)) % k)
        P[:, j] = (1 - skill) / (k - 1)
        P[np.arange(n), j, said] = skill
    ids = tuple(f"r{i}" for i in range(n))
    groups = np.array([f"s{i % n_groups}" for i in range(n)])
    return Predictions(ids, tuple(_SKILLS), _LABELS, P, y, groups)


def write_predictions(folder: Path, n: int = 60) -> dict[str, Path]:
    """The same predictions as files: a table a modality, and one of the true labels with the column speaker.

    Parameters
    ----------
    folder : Path
        Where; it must be there.
    n : int
        Number of rows.

    Returns
    -------
    dict of str to Path
        ``face``, ``voice`` and ``labels``.

    Examples
    --------
    >>> sorted(path.name for path in write_predictions(Path()).values())
    ['face.csv', 'labels.csv', 'voice.csv']
    """
    made = predictions(n)
    paths = {name: folder / f"{name}.csv" for name in (*made.modalities, "labels")}
    for j, name in enumerate(made.modalities):
        lines = [",".join([i, *map(str, row)]) for i, row in zip(made.ids, made.P[:, j], strict=True)]
        paths[name].write_text("\n".join([",".join(["id", *made.labels]), *lines]) + "\n", encoding="utf-8")
    truth = [f"{i},{made.labels[y]},{g}" for i, y, g in zip(made.ids, made.targets, made.groups, strict=True)]
    paths["labels"].write_text("\n".join(["id,label,speaker", *truth]) + "\n", encoding="utf-8")
    return paths
