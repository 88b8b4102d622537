"""The beginning of the demo clip, for tests that need a recording of somebody who speaks, and none of ten seconds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av

__all__ = ["DEMO", "SECONDS", "short_demo"]

DEMO = Path(__file__).resolve().parent.parent / "demo"
SECONDS = 4.0
_LAST = 3.96  # where no frame lacks one before it


def short_demo(folder: Path, name: str) -> Path:
    """Write four seconds of the clip as they are coded, and its words beside it, said in that time."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(DEMO / "clip.mp4")) as film, av.open(str(folder / f"{name}.mp4"), "w") as out:
        share = SECONDS / (film.duration / av.time_base)
        streams: Any = {stream.index: out.add_stream_from_template(stream) for stream in film.streams}
        for packet in film.demux():
            if packet.dts is not None and packet.dts * packet.time_base < _LAST:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    words = (DEMO / "clip.srt").read_text(encoding="utf-8")
    (folder / f"{name}.srt").write_text(
        re.sub(r"00:00:(\d\d),(\d\d\d)", lambda time: _stamp(share * float(f"{time[1]}.{time[2]}")), words),
        encoding="utf-8",
    )
    return folder / f"{name}.mp4"


def _stamp(seconds: float) -> str:
    return f"00:00:{seconds:06.3f}".replace(".", ",")
