"""Blocks on common axes: element-wise sum and product after projection."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import RidgeCV

from affuse.errors import ConfigError
from affuse.fusion.base import Array, Columns, Groups, Mask
from affuse.fusion.early.base import EarlyFuser
from affuse.fusion.early.blocks import Blocks

__all__ = ["ProductFusion", "SumFusion"]

_PENALTIES = np.logspace(0, 5, 11)  # of the ridge regression, in squared units of standardised features


class _ProjectedFuser(EarlyFuser):
    """Projects every block onto the same number of axes and standardises what comes of it."""

    projection: Any

    def learn(self, parts: dict[str, Array], here: Mask, y: Columns, groups: Groups) -> None:
        # Fit one projection a block, on the rows that have it, and the scale of the result
        targets = np.eye(len(self.classes_))[y]
        self.projections_: dict[str, Any] = {}
        for name, part, rows in zip(parts, parts.values(), here.T, strict=True):
            if not rows.any():
                continue
            model = RidgeCV(alphas=_PENALTIES) if self.projection is None else clone(self.projection)
            self.projections_[name] = model.fit(part[rows], targets[rows] if self.projection is None else y[rows])
        joined = self._combined(parts)
        self.centre_ = joined.mean(axis=0)
        deviations = joined.std(axis=0)
        self.spread_ = np.where(deviations > 0, deviations, 1.0)

    def join(self, parts: dict[str, Array]) -> Array:
        # Combined projections (n, q), standardised over the rows of `fit`
        return (self._combined(parts) - self.centre_) / self.spread_

    def project(self, parts: dict[str, Array]) -> dict[str, Array]:
        """Every block on the common axes.

        Parameters
        ----------
        parts : dict of str to array of shape (n_samples, n_block_features)

        Returns
        -------
        dict of str to array of shape (n_samples, n_axes)

        Raises
        ------
        ConfigError
            If the numbers of axes differ.
        """
        projected = {name: _apply(model, parts[name]) for name, model in self.projections_.items()}
        widths = {name: part.shape[1] for name, part in projected.items()}
        if len(set(widths.values())) > 1:
            listed = ", ".join(f"{name} {width}" for name, width in widths.items())
            raise ConfigError(f"projection must give every block the same number of axes; got {listed}")
        return projected

    def _combined(self, parts: dict[str, Array]) -> Array:
        raise NotImplementedError


def _apply(model: Any, part: Array) -> Array:
    answer = model.transform(part) if hasattr(model, "transform") else model.predict(part)
    return np.asarray(answer).reshape(len(part), -1)


class SumFusion(_ProjectedFuser):
    """Element-wise sum of the blocks' projections: ``x = Σ_m f_m(x_m)``.

    By default a block is projected by ridge regression onto the indicators of the labels, one axis a label, with a
    penalty chosen by leave-one-out (`sklearn.linear_model.RidgeCV`): axes with the same meaning in every block can be
    added. Gaps: the projection of the training mean, which with the default is the label's frequency, and an indicator.

    Parameters
    ----------
    blocks : mapping of str to slice or list of int
        Columns of every modality, such as ``{"text": slice(0, 384), "audio": slice(384, 457)}``.
    projection : scikit-learn transformer, optional
        Cloned for every block; must give all blocks the same number of axes, such as ``PCA(16)``. Ridge regression onto
        the indicators of the labels where None.
    classifier : scikit-learn classifier, optional
        Multinomial logistic regression where None. One without probabilities, such as a support vector machine, is
        calibrated by group-wise cross-validation (Platt's sigmoid).

    Attributes
    ----------
    classifier_ : scikit-learn classifier
        The fitted classifier.
    projections_ : dict of str to scikit-learn estimator
        Fitted projection of every block.

    References
    ----------
    Atrey et al. (2010), Multimodal fusion for multimedia analysis: a survey. doi:10.1007/s00530-010-0182-0

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> X = rng.normal(size=(60, 5)) + 2 * y[:, None]
    >>> X[0, :2] = np.nan  # the first row has no face
    >>> fuser = SumFusion({"face": slice(0, 2), "voice": slice(2, 5)}).fit(X, y)
    >>> fuser.predict_proba(X).shape
    (60, 2)
    """

    def __init__(self, blocks: Blocks, projection: Any = None, classifier: Any = None) -> None:
        self.blocks = blocks
        self.projection = projection
        self.classifier = classifier

    def _combined(self, parts: dict[str, Array]) -> Array:
        return np.asarray(sum(self.project(parts).values()))


class ProductFusion(_ProjectedFuser):
    """Element-wise product of the blocks' projections (low-rank bilinear pooling): ``x = Π_m f_m(x_m)``.

    The projections are those of `SumFusion`. Gaps: the projection of the training mean, which with the default is the
    label's frequency, and an indicator.

    Parameters
    ----------
    blocks : mapping of str to slice or list of int
        Columns of every modality, such as ``{"text": slice(0, 384), "audio": slice(384, 457)}``.
    projection : scikit-learn transformer, optional
        Cloned for every block; must give all blocks the same number of axes, such as ``PCA(16)``. Ridge regression onto
        the indicators of the labels where None.
    classifier : scikit-learn classifier, optional
        Multinomial logistic regression where None. One without probabilities, such as a support vector machine, is
        calibrated by group-wise cross-validation (Platt's sigmoid).

    Attributes
    ----------
    classifier_ : scikit-learn classifier
        The fitted classifier.
    projections_ : dict of str to scikit-learn estimator
        Fitted projection of every block.

    References
    ----------
    Kim et al. (2017), Hadamard product for low-rank bilinear pooling. arXiv:1610.04325

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> X = rng.normal(size=(60, 5)) + 2 * y[:, None]
    >>> X[0, :2] = np.nan  # the first row has no face
    >>> fuser = ProductFusion({"face": slice(0, 2), "voice": slice(2, 5)}).fit(X, y)
    >>> fuser.predict_proba(X).shape
    (60, 2)
    """

    def __init__(self, blocks: Blocks, projection: Any = None, classifier: Any = None) -> None:
        self.blocks = blocks
        self.projection = projection
        self.classifier = classifier

    def _combined(self, parts: dict[str, Array]) -> Array:
        return np.asarray(reduce(np.multiply, self.project(parts).values()))
