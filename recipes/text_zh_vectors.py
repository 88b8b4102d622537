"""Vectors of Chinese characters from plain text: where the networks of the Chinese recipe start.

Characters of like meaning have like neighbours: 怒 stands near the same characters as 愤, 恼 and 恨. Counts of
neighbours become positive pointwise mutual information, of which a singular value decomposition keeps the largest
directions (Levy & Goldberg 2014, "Neural Word Embedding as Implicit Matrix Factorization"; Levy et al. 2015,
doi:10.1162/tacl_a_00134).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

__all__ = ["co_occurrence", "neighbour_vectors"]

_UNKNOWN = 1  # id of characters outside the alphabet; 0 is padding
_SMOOTHING = 0.75  # power of the contexts' frequencies, so that rare ones do not count too much
_CHUNK = 8000  # texts that are counted at once, which bounds memory


def co_occurrence(encoded: Sequence[np.ndarray], n_characters: int, window: int = 5) -> sparse.csr_matrix:
    """How often characters stand near others (n_characters, n_characters).

    ``encoded`` holds ids of the characters of every text, as `Alphabet.encode` gives them. A neighbour at distance d,
    up to ``window``, counts 1 / d. Unknown characters and padding count nowhere.
    """
    total = sparse.csr_matrix((n_characters, n_characters), dtype=np.float32)
    # As much padding as the window is wide keeps texts apart.
    gap = np.zeros(window, dtype=np.int64)
    for start in range(0, len(encoded), _CHUNK):
        ids = np.concatenate([part for text in encoded[start : start + _CHUNK] for part in (text, gap)])
        for d in range(1, window + 1):
            here, there = ids[:-d], ids[d:]
            known = (here > _UNKNOWN) & (there > _UNKNOWN)
            weights = np.full(int(known.sum()), 1 / d, dtype=np.float32)
            following = sparse.csr_matrix((weights, (here[known], there[known])), shape=total.shape)
            total = total + following + following.T
    return total


def neighbour_vectors(counts: sparse.csr_matrix, width: int, spread: float = 0.1) -> np.ndarray:
    """Vectors (n, width) of the rows of ``counts`` (n, c), scaled to a standard deviation of ``spread``.

    Rows without any neighbour are NaN; directions beyond c are 0.
    """
    from sklearn.utils.extmath import randomized_svd

    entries = counts.tocoo()
    rows = np.asarray(counts.sum(axis=1)).ravel()
    columns = np.asarray(counts.sum(axis=0)).ravel() ** _SMOOTHING
    information = np.log(entries.data * columns.sum() / (rows[entries.row] * columns[entries.col]))
    told = information > 0
    places = (entries.row[told], entries.col[told])
    positive = sparse.csr_matrix((information[told], places), shape=counts.shape)
    rank = min(width, *counts.shape)
    U, s, _ = randomized_svd(positive, rank, n_iter=3, random_state=0)
    vectors = np.zeros((counts.shape[0], width))
    vectors[:, :rank] = U * np.sqrt(s)
    seen = np.diff(positive.indptr) > 0
    vectors *= spread / vectors[seen, :rank].std()
    vectors[~seen] = np.nan
    return vectors
