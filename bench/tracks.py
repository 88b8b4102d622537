"""How often the tracker joins two people over a cut, and how often it splits one.

``python bench/tracks.py --data DIR [--detector haar]``

Two clips of ``javanese_av`` follow each other: six people filmed in one studio, each in the middle of the picture, so
that a cut to somebody else shows another face in the same place. Joined are pairs that share a track.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from affuse.experts.face.crop import surroundings
from affuse.experts.face.detect import Detections, FaceDetector, HaarDetector, default_detector
from affuse.experts.face.track import Tracker, appearance, confirmed
from affuse.media import Recording

RATE = 3.0
PAUSES = (1 / RATE, 2.0, 10.0)
PAIRS = 300
LONGEST = 20.0


class Sample(NamedTuple):
    """What `Tracker.update` takes."""

    time: float
    found: Detections
    looks: list[np.ndarray]


def read(path: Path, detector: FaceDetector) -> list[Sample]:
    """The samples of a clip."""
    recording, samples = Recording.open(path), []
    times = np.arange(0, min(recording.duration or LONGEST, LONGEST), 1 / RATE)
    for frame in recording.frames(times.tolist(), max_side=960):
        found = detector.detect(frame.image)
        looks = [appearance(surroundings(frame.image, box, detector.framing, 48)) for box in found.boxes]
        samples.append(Sample(frame.time, found, looks))
    return samples


def owners(clips: list[list[Sample]], pause: float) -> list[set[int]]:
    """Tracks of the largest face in every clip, where the clips follow each other with ``pause`` seconds between."""
    tracker, start, found, rows = Tracker(), 0.0, [], 0
    for samples in clips:
        own = set()
        for sample in samples:
            tracker.update(start + sample.time, sample.found, sample.looks)
            if len(sample.found):
                largest = rows + int((sample.found.boxes[:, 2] * sample.found.boxes[:, 3]).argmax())
                own.add(next(i for i, track in enumerate(tracker.tracks) if track.rows[-1] == largest))
            rows += len(sample.found)
        found.append(own)
        start += samples[-1].time + pause
        for time in np.arange(start - pause + 1 / RATE, start - 1e-6, 1 / RATE):  # nobody is in the picture
            tracker.update(time, Detections.none(), [])
    return found


def persons(samples: list[Sample]) -> list[int]:
    """Samples in which each person of a clip is seen."""
    tracker = Tracker()
    for sample in samples:
        tracker.update(*sample)
    return [len(track.times) for track in confirmed(tracker.tracks, tracker.count)]


def main() -> None:
    """Print how many pairs are joined, and the persons of single clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the datasets")
    parser.add_argument("--detector", choices=["default", "haar"], default="default", help="which detector")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detector = HaarDetector() if options.detector == "haar" else default_detector()
    clips = {path.name: read(path, detector) for path in sorted((options.data / "javanese_av").glob("*.mp4"))}
    rng = np.random.default_rng(0)
    pairs = [rng.choice(list(clips), 2, replace=False) for _ in range(6 * PAIRS)]
    for name, alike in (("two people", False), ("one person", True)):
        chosen = [(a, b) for a, b in pairs if (a[:2] == b[:2]) == alike][:PAIRS]
        for pause in PAUSES:
            joined = [bool(set.intersection(*owners([clips[a], clips[b]], pause))) for a, b in chosen]
            print(f"{name}, {pause:4.1f} s between: {np.mean(joined):6.1%} of {len(joined)} pairs joined")
    split = [len(own) > 1 for name in clips for own in owners([clips[name]], 0.0)]
    print(f"single clips: {np.mean(split):.1%} of {len(split)} split")
    for path in sorted((options.data / "clips").glob("*.m*")):
        print(f"{path.name}: samples of each person {persons(read(path, detector))}")


if __name__ == "__main__":
    main()
