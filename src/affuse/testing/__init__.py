"""What tests of affuse and of other packages stand on: fakes, synthetic recordings, and the contracts of components."""

from affuse.testing.experts import check_expert
from affuse.testing.fakes import FakeExpert, write_toy_package
from affuse.testing.fusers import check_fuser
from affuse.testing.synthetic import drawn_face, pictures, speech, waveforms, write_clip

__all__ = [
    "FakeExpert",
    "check_expert",
    "check_fuser",
    "drawn_face",
    "pictures",
    "speech",
    "waveforms",
    "write_clip",
    "write_toy_package",
]
