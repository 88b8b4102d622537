"""Words counted: bag of words and TF-IDF over words or characters, by scikit-learn."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.utils.validation import check_is_fitted

from affuse.errors import DataError
from affuse.features.base import Extractor
from affuse.features.items import Array, Item, NoEvidenceError

__all__ = ["BagOfWords", "TfIdf", "TfIdfCharacters", "text_of"]

# scikit-learn's words of two characters or more; a Chinese character is a word by itself, for none stands between them.
_TOKENS = r"(?u)[\u3400-\u4dbf\u4e00-\u9fff]|\b[^\W\u3400-\u4dbf\u4e00-\u9fff]{2,}\b"


def text_of(item: Item) -> str:
    """The words of an item. Raises DataError where it is none, NoEvidenceError where there are no words in it."""
    if not isinstance(item, str):
        raise DataError(f"text is needed; got {type(item).__name__}")
    if not item.strip():
        raise NoEvidenceError("no words")
    return item


class _Vectorizer(Extractor):
    """Base of vocabularies, which `fit` learns; a text without any known word is a row of zeros, no gap."""

    modality: ClassVar[str] = "text"
    learns: ClassVar[bool] = True
    kept: ClassVar[bool] = False

    ngrams: tuple[int, int]
    max_features: int | None
    min_documents: int

    def look(self, item: Item) -> str:
        """The text itself."""
        return text_of(item)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """The words or n-grams (d,), in alphabetical order."""
        check_is_fitted(self)
        return np.asarray(self.vectorizer_.get_feature_names_out())

    def _learn(self, values: list[Any]) -> None:
        settings = {
            "ngram_range": tuple(self.ngrams),
            "max_features": self.max_features,
            "min_df": min(self.min_documents, len(values)),
        }
        try:
            self.vectorizer_ = self._vectorizer(settings).fit(values)
        except ValueError as error:
            raise DataError(f"{self.name} cannot learn a vocabulary from {len(values)} texts: {error}") from error

    def _vectorizer(self, settings: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _rows(self, values: list[Any]) -> Array:
        return np.asarray(self.vectorizer_.transform(values).toarray(), dtype=float)


class BagOfWords(_Vectorizer):
    """How often every word of the vocabulary occurs in a text: counts (n, d).

    Parameters
    ----------
    ngrams: least and greatest number of neighbouring words that count as one feature.
    max_features: size of the vocabulary, the most frequent first; no limit where None.
    min_documents: number of texts in which a word must occur.
    """

    name: ClassVar[str] = "bag-of-words"
    unit: ClassVar[str] = "count"

    def __init__(
        self, ngrams: tuple[int, int] = (1, 1), max_features: int | None = 5000, min_documents: int = 1
    ) -> None:
        self.ngrams = ngrams
        self.max_features = max_features
        self.min_documents = min_documents

    def _vectorizer(self, settings: dict[str, Any]) -> Any:
        return CountVectorizer(token_pattern=_TOKENS, **settings)


class TfIdf(BagOfWords):
    """Words weighted by how rare they are, rows of length 1 (Sparck Jones 1972, doi:10.1108/eb026526): (n, d).

    ``tf · (ln((1 + n) / (1 + df)) + 1)``, as in `sklearn.feature_extraction.text.TfidfVectorizer`. Parameters as in
    `BagOfWords`, and ``sublinear``: 1 + ln tf in place of tf.
    """

    name: ClassVar[str] = "tf-idf"
    unit: ClassVar[str] = "share of a unit vector"

    def __init__(
        self,
        ngrams: tuple[int, int] = (1, 2),
        max_features: int | None = 5000,
        min_documents: int = 1,
        sublinear: bool = False,
    ) -> None:
        super().__init__(ngrams, max_features, min_documents)
        self.sublinear = sublinear

    def _vectorizer(self, settings: dict[str, Any]) -> Any:
        return TfidfVectorizer(token_pattern=_TOKENS, sublinear_tf=self.sublinear, **settings)


class TfIdfCharacters(TfIdf):
    """TF-IDF over n-grams of characters within words: forgiving of typos, and for languages without spaces: (n, d).

    Parameters as in `TfIdf`.
    """

    name: ClassVar[str] = "tf-idf-char"

    def __init__(
        self,
        ngrams: tuple[int, int] = (1, 4),
        max_features: int | None = 5000,
        min_documents: int = 1,
        sublinear: bool = False,
    ) -> None:
        super().__init__(ngrams, max_features, min_documents, sublinear)

    def _vectorizer(self, settings: dict[str, Any]) -> Any:
        return TfidfVectorizer(analyzer="char_wb", sublinear_tf=self.sublinear, **settings)
