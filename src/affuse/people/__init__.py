"""Who is who, and who speaks: turns of speech, faces and voices that belong to one person."""

from affuse.people.given import channel_turns, read_rttm, transcript_turns, write_rttm
from affuse.people.turns import Turn

__all__ = ["Turn", "channel_turns", "read_rttm", "transcript_turns", "write_rttm"]
