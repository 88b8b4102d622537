"""Recordings: frames, sound and words on one clock, streamed from any file that FFmpeg reads."""

from affuse.media.recording import SAMPLE_RATE, Frame, Recording
from affuse.media.transcript import Words, read_transcript

__all__ = ["SAMPLE_RATE", "Frame", "Recording", "Words", "read_transcript"]
