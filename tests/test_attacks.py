"""Attacks of the study on robustness: they keep their bounds, and find what there is to find."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from research import attacks


def test_the_examples_hold() -> None:
    assert doctest.testmod(attacks) == (0, doctest.testmod(attacks).attempted)
    assert doctest.testmod(attacks).attempted >= 5


@pytest.mark.parametrize("shape", [(6, 8, 8), (4, 100)])
def test_a_linear_model_falls_as_far_as_the_bound_lets_it(shape: tuple[int, ...]) -> None:
    """Within a change of at most s, the score w · x of a linear model moves by at most s times the sum of |w|."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=shape[1:])

    def ask(x: np.ndarray) -> np.ndarray:
        score = (x * w).reshape(len(x), -1).sum(axis=1)
        return np.stack([score, -score], axis=1)

    x = np.zeros(shape) + 0.01 * np.sign(w)
    y = np.zeros(len(x), dtype=int)
    assert (attacks._margin(ask(x), y) > 0).all()
    for size, falls in ((0.005, False), (0.05, True)):
        changed = attacks.square_attack(ask, x, y, size, (-1.0, 1.0), 400)
        assert np.abs(changed - x).max() <= size + 1e-12
        assert bool((attacks._margin(ask(changed), y) < 0).all()) is falls
    clipped = attacks.square_attack(ask, x, y, 0.05, (0.0, 1.0), 20)
    assert clipped.min() >= 0.0


def test_a_lie_is_sure_wrong_and_in_one_modality_alone() -> None:
    rng = np.random.default_rng(0)
    P, y = rng.dirichlet(np.ones(4), size=(50, 3)), rng.integers(0, 4, 50)
    changed, rows = attacks.poisoned(P, y, 1, 0.4)
    assert rows.sum() == 20
    np.testing.assert_allclose(changed.sum(axis=2), 1.0)
    assert (changed[rows, 1].argmax(axis=1) != y[rows]).all()
    np.testing.assert_allclose(changed[rows, 1].max(axis=1), 0.9)
    changed[rows, 1] = P[rows, 1]
    np.testing.assert_array_equal(changed, P)
