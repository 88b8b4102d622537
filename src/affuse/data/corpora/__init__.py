"""Readers of the field's corpora: one file a corpus, splits that never share a speaker, subject or dialogue."""

from affuse.data.corpora import chinese, emodb, ferplus, goemotions, javanese, meld, mosi, ravdess, sst2, urdu
from affuse.data.corpora.base import SPLITS, Dataset, load, names, register

__all__ = ["SPLITS", "Dataset", "load", "names", "register"]

# Importing a reader registers it; naming them here keeps the list of corpora in one place.
_BUILT_IN = (chinese, emodb, ferplus, goemotions, javanese, meld, mosi, ravdess, sst2, urdu)
