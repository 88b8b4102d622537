"""People's own data, read, checked and split; arrays of sound and faces for networks. Needs no torch."""

from affuse.training.data.loaders import clip, picture, waveform
from affuse.training.data.reading import read
from affuse.training.data.samples import MODALITIES, DataOptions, Sample, TrainingData

__all__ = ["MODALITIES", "DataOptions", "Sample", "TrainingData", "clip", "picture", "read", "waveform"]
