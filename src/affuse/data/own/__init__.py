"""People's own data, read, checked and split; arrays of sound and faces for networks. Needs no torch."""

from affuse.data.own.loaders import clip, picture, waveform
from affuse.data.own.reading import read
from affuse.data.own.samples import MODALITIES, DataOptions, Sample, TrainingData

__all__ = ["MODALITIES", "DataOptions", "Sample", "TrainingData", "clip", "picture", "read", "waveform"]
