"""Recordings: frames, sound and words on one clock, streamed from the usual formats within stated limits."""

from affuse.budget import Budget
from affuse.media.recording import SAMPLE_RATE, Frame, Recording, Watch
from affuse.media.transcript import Words, read_transcript
from affuse.media.views import Excerpt, Picture

__all__ = ["SAMPLE_RATE", "Budget", "Excerpt", "Frame", "Picture", "Recording", "Watch", "Words", "read_transcript"]
