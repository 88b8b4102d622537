"""Readers of the field's corpora: one file a corpus, splits that never share a speaker, subject or dialogue."""

from affuse.data.corpora.base import Corpus, Dataset, find_folder
from affuse.data.corpora.registry import find, load, load_open, names, recognise
from affuse.data.splits import SPLITS, split_name

__all__ = [
    "SPLITS",
    "Corpus",
    "Dataset",
    "find",
    "find_folder",
    "load",
    "load_open",
    "names",
    "recognise",
    "split_name",
]
