"""Gradients of faces: HOG, and SIFT as a bag of visual words, by OpenCV."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils.validation import check_is_fitted

from affuse.features.faces import Face, FaceExtractor, faces_of
from affuse.features.items import Array, Item, NoEvidenceError

__all__ = ["Hog", "Sift", "hog"]

_CELL, _BINS = 8, 9
_HOG_SIDE = 48

_SIFT_SIDE = 96  # pixels: crops are doubled, so that the smallest patches still hold a few pixels a cell
_SIFT_STEP = 8
_SIFT_PATCHES = (16.0, 32.0)  # pixels: sides of the patches
_SIDE_TO_SIZE = 1 / 6  # OpenCV's size of a key point is that of the blob; its patch is four cells of 1.5 blobs
_HALVES = 2  # quarters of the face have histograms of their own
_MOST_PATCHES = 100_000  # that a vocabulary is learned from


def hog(crop: NDArray[np.uint8]) -> Array:
    """Histograms of oriented gradients (900,) of a grey face (48, 48) (Dalal & Triggs 2005, doi:10.1109/CVPR.2005.177).

    25 blocks of 2 x 2 cells of 8 pixels, column by column; 9 unsigned orientations a cell; L2-Hys normalised blocks.
    """
    side = (_HOG_SIDE, _HOG_SIDE)
    describe = cv2.HOGDescriptor(side, (2 * _CELL, 2 * _CELL), (_CELL, _CELL), (_CELL, _CELL), _BINS)
    return np.asarray(describe.compute(_resized(crop, _HOG_SIDE)), dtype=float).ravel()


def _resized(crop: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if crop.shape == (side, side):
        return crop
    shrink = cv2.INTER_AREA if crop.shape[0] > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(crop, (side, side), interpolation=shrink), dtype=np.uint8)


class Hog(FaceExtractor):
    """Histograms of oriented gradients of the aligned face: (n, 900); see `hog`."""

    name: ClassVar[str] = "hog"
    unit: ClassVar[str] = "share of a unit vector"

    def describe(self, face: Face) -> Array:
        """Histograms (900,)."""
        return hog(face.crop())

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names by block and place in it."""
        return np.array([f"hog_{block}_{i}" for block in range(25) for i in range(4 * _BINS)])


class Sift(FaceExtractor):
    """Bag of visual words of dense SIFT patches: histograms over a vocabulary that `fit` learns.

    Patches of two sizes every 8 of 96 pixels (Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94) as RootSIFT
    (Arandjelovic & Zisserman 2012, doi:10.1109/CVPR.2012.6248018); words by k-means (Csurka et al. 2004); one histogram
    of the whole face and one of every quarter (Lazebnik et al. 2006, doi:10.1109/CVPR.2006.68), each the square root of
    shares, so that it has length 1.

    Parameters
    ----------
    words: size of the vocabulary.
    random_state: seed of k-means and of the patches that it learns from.
    """

    name: ClassVar[str] = "sift"
    unit: ClassVar[str] = "square root of a share"
    learns: ClassVar[bool] = True

    def __init__(self, words: int = 256, random_state: int = 0) -> None:
        self.words = words
        self.random_state = random_state

    def look(self, item: Item) -> Any:
        """SIFT descriptors (frames, patches, 128) of the faces of an item, as OpenCV gives them: 0…255."""
        seen = [_patches(face.crop()) for face in faces_of(item)]
        if not seen:
            raise NoEvidenceError("no face")
        return np.stack(seen)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names by part of the face and word."""
        parts = ["face", *(f"quarter_{i}" for i in range(_HALVES**2))]
        return np.array([f"sift_{part}_{word}" for part in parts for word in range(self.words)])

    def _learn(self, values: list[Any]) -> None:
        rng = np.random.default_rng(self.random_state)
        share = max(1, _MOST_PATCHES // len(values))
        patches = [_root(v.reshape(-1, v.shape[-1])) for v in values]
        drawn = np.concatenate([p if len(p) <= share else p[rng.choice(len(p), share, replace=False)] for p in patches])
        count = min(self.words, len(np.unique(drawn, axis=0)))
        self.vocabulary_ = MiniBatchKMeans(count, n_init=1, batch_size=4096, random_state=self.random_state).fit(drawn)

    def _rows(self, values: list[Any]) -> Array:
        check_is_fitted(self)
        return np.stack([self._histograms(v) for v in values])

    def _histograms(self, patches: NDArray[np.uint8]) -> Array:
        words = self.vocabulary_.predict(_root(patches.reshape(-1, patches.shape[-1])))
        quarter = np.tile(_quarters(), len(patches))
        parts = [words, *(words[quarter == q] for q in range(_HALVES**2))]
        return np.concatenate([np.sqrt(np.bincount(part, minlength=self.words) / len(part)) for part in parts])


def _grid() -> list[cv2.KeyPoint]:
    places = np.arange(_SIFT_STEP, _SIFT_SIDE, _SIFT_STEP, dtype=float)
    # An angle is given, for patches must not turn with their content: faces are level already.
    return [cv2.KeyPoint(x, y, side * _SIDE_TO_SIZE, 0.0) for side in _SIFT_PATCHES for y in places for x in places]


def _patches(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _, found = cv2.SIFT.create().compute(_resized(crop, _SIFT_SIDE), _grid())
    return np.asarray(found, dtype=np.uint8)


def _quarters() -> NDArray[np.intp]:
    middle = _SIFT_SIDE / _HALVES
    return np.array([int(p.pt[1] // middle) * _HALVES + int(p.pt[0] // middle) for p in _grid()])


def _root(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    shares = patches.astype(np.float32)
    return np.asarray(np.sqrt(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1.0)))
