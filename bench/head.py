"""Measure how far the direction of heads agrees with itself and with 68 landmarks: consistency, not accuracy.

``python -m bench.head --data DIR [--faces 800]``

Nobody measured how the heads in these recordings are turned, so nothing here says how near the angles are to the truth.
Mirrored copies must give minus the yaw and minus the roll; copies turned by 15 degrees, 15 degrees more roll. On the
AT&T faces, angles are compared with those of dlib's 68 landmarks (`affuse.features`), whose head of reference is
another one. Clips say in how much of their pictures the head is directed at the camera: those of `javanese_av` were
acted for it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from affuse.experts.face import FaceExpert, default_detector
from affuse.experts.face.detect import FaceDetector
from affuse.experts.face.expert import STILL_DETAIL
from affuse.experts.face.pose import head_over, head_pose
from affuse.media import Recording
from affuse.timeline import Timeline

TURN = 15.0  # degrees
BORDER, ZOOM = 24, 3  # pixels around a face of FER+, of its own reflection; and how much it is enlarged
PORTRAITS = "at&t faces"


def att_faces(data: Path) -> Iterator[np.ndarray]:
    """Pictures of 40 people, RGB (112, 92, 3)."""
    for path in sorted((data / "orl_faces").glob("s*/*.pgm")):
        yield cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), cv2.COLOR_GRAY2RGB)


def ferplus_faces(data: Path, count: int) -> Iterator[np.ndarray]:
    """Web pictures of the validation part with a border, RGB (288, 288, 3)."""
    with np.load(data / "ferplus" / "valid.npz") as file:
        images = file["images"][:count]
    for image in images:
        wide = cv2.copyMakeBorder(image, *[BORDER] * 4, cv2.BORDER_REFLECT)
        yield cv2.cvtColor(cv2.resize(wide, None, fx=ZOOM, fy=ZOOM), cv2.COLOR_GRAY2RGB)


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    """A picture turned clockwise as seen."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def landmarks(image: np.ndarray, detector: FaceDetector) -> np.ndarray:
    """Of the largest face, (5, 2); NaN where none is found."""
    found = detector.detect(image)
    if not len(found):
        return np.full((5, 2), np.nan)
    return np.asarray(found.landmarks[int((found.boxes[:, 2] * found.boxes[:, 3]).argmax())])


def level_shape(points: np.ndarray) -> np.ndarray:
    """Median landmarks (5, 2) of faces (n, 5, 2), eyes level and one unit apart, mirrored: as `pose` has its head."""
    across = points[:, 1] - points[:, 0]
    c, s = (across / (across**2).sum(axis=1, keepdims=True)).T
    turn = np.stack([np.stack([c, -s], axis=1), np.stack([s, c], axis=1)], axis=1)
    shape = np.nanmedian((points - points[:, :2].mean(axis=1, keepdims=True)) @ turn, axis=0)
    return np.asarray((shape + shape[[1, 0, 2, 4, 3]] * [-1, 1]) / 2)


def consistency(images: Iterator[np.ndarray]) -> dict[str, Any]:
    """What mirrored and turned copies of pictures say, against the pictures."""
    detector = default_detector(STILL_DETAIL)
    rows = [
        [landmarks(copy, detector) for copy in (image, np.ascontiguousarray(image[:, ::-1]), turned(image, TURN))]
        for image in images
    ]
    points = np.array(rows)
    own, mirror, turn = (head_pose(points[:, i]) for i in range(3))
    flipped, more = own - mirror * [-1, 1, -1], turn - own - [0, 0, TURN]
    low, high = np.nanpercentile(own, [5, 95], axis=0).round(1)
    return {
        "pictures": len(points),
        "with a pose": round(float(np.isfinite(own[:, 0]).mean()), 4),
        "median yaw, pitch, roll": np.nanmedian(own, axis=0).round(1).tolist(),
        "5 to 95 %": [low.tolist(), high.tolist()],
        "mirrored, median absolute difference": np.nanmedian(np.abs(flipped), axis=0).round(1).tolist(),
        "turned by 15, roll, median and median absolute difference from 15": [
            round(float(np.nanmedian(turn[:, 2] - own[:, 2])), 1),
            round(float(np.nanmedian(np.abs(more[:, 2]))), 1),
        ],
        "directed at the camera": round(float(head_over(np.column_stack([np.zeros(len(own)), own]))[3]), 3),
        "nose y, mouth x and y, in distances of the eyes": level_shape(points[:, 0])[[2, 4, 4], [1, 0, 1]]
        .round(2)
        .tolist(),
    }


def against_68(data: Path) -> dict[str, Any]:
    """The AT&T faces by five landmarks and by dlib's 68; nothing where dlib is not installed."""
    try:
        from affuse.features.faces import faces_of
        from affuse.features.landmarks import head_pose as pose_of_68
        from affuse.features.landmarks import locate

        pairs = []
        for image in att_faces(data):
            face = next(iter(faces_of(image)), None)
            if face is not None:
                pairs.append([head_pose(face.landmarks[None])[0], pose_of_68(locate(face))])
    except ImportError as error:
        return {"not measured": str(error)}
    five, many = np.array(pairs).transpose(1, 0, 2)
    known = np.isfinite(five[:, 0])
    five, many = five[known], many[known]
    centred = (five - np.median(five, axis=0)) - (many - np.median(many, axis=0))
    names = ("yaw", "pitch", "roll")
    return {
        "pictures": len(five),
        **{
            name: {
                "correlation": round(float(np.corrcoef(five[:, i], many[:, i])[0, 1]), 3),
                "slope of five on 68": round(float(np.polyfit(many[:, i], five[:, i], 1)[0]), 2),
                "median difference": round(float(np.median(five[:, i] - many[:, i])), 1),
                "median absolute difference": round(float(np.median(np.abs(five[:, i] - many[:, i]))), 1),
                "the same without the shift of all": round(float(np.median(np.abs(centred[:, i]))), 1),
            }
            for i, name in enumerate(names)
        },
    }


def of_clips(paths: list[Path]) -> dict[str, Any]:
    """Share of the pictures in which heads are directed at the camera, of all persons, and of those with fewest."""
    expert, shares, every = FaceExpert(), {}, []
    for path in paths:
        with_frames = Recording.open(path)
        span = Timeline((with_frames.span,))
        for output in expert.read(with_frames, span) if with_frames.has_frames else []:
            if np.isfinite(output.poses).any():
                shares[f"{path.name}, {output.person}"] = round(float(head_over(output.poses)[3]), 3)
                every.append(output.poses)
    whole = head_over(np.concatenate(every))
    return {
        "persons": len(shares),
        "pictures": sum(map(len, every)),
        "median yaw, pitch, roll": whole[:3].round(1).tolist(),
        "directed at the camera": round(float(whole[3]), 4),
        "fewest": dict(sorted(shares.items(), key=lambda pair: pair[1])[:5]),
    }


def microseconds(count: int) -> float:
    """Time a face, where so many are asked about at once."""
    points = np.tile([[100.0, 100], [200, 100], [150, 160], [107, 205], [193, 205]], (count, 1, 1))
    started = time.perf_counter()
    for _ in range(1000):
        head_pose(points)
    return round((time.perf_counter() - started) / 1000 / count * 1e6, 1)


def main() -> None:
    """Print everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--faces", type=int, default=800, help="faces of FER+")
    given = parser.parse_args()
    data = given.data
    figures = {
        "microseconds a face, of 1, 9 and 90 at once": [microseconds(count) for count in (1, 9, 90)],
        PORTRAITS: consistency(att_faces(data)),
        "FER+, validation": consistency(ferplus_faces(data, given.faces)),
        f"{PORTRAITS} against 68 landmarks": against_68(data),
        "javanese_av": of_clips(sorted((data / "javanese_av").glob("*.mp4"))),
        "clips": of_clips(sorted((data / "clips").iterdir())),
    }
    print(json.dumps(figures, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
