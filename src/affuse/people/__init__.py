"""Who is who, and who speaks: turns of speech, faces and voices that belong to one person."""

from affuse.people.turns import Turn

__all__ = ["Turn"]
