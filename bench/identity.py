"""Is it the same person? Learns the calibration of identities, and measures it on people whom it never met.

``python bench/identity.py --data DIR [--cache DIR] [--out identity.json]``

Faces of ``orl_faces`` with voices of ``ravdess`` (chimeric pairs: a pair of faces gets a pair of voices, of one speaker
where the faces are of one person) against the six actors of ``javanese_av``, seen and heard in the same clips: what is
learned on one is measured on the other, and what ships, learned on both, on actors that are left out. Damages meet one
side of a pair, as a bad recording meets a good one in a gallery. Joins of cuts are measured on compositions of clips of
several actors. ``--out`` writes what ships, whose thresholds are the stricter ones of the two corpora. The extra
``people`` and the speaker encoder are needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import cv2
import numpy as np
from scipy.signal import butter, sosfilt
from scipy.special import expit

from affuse.experts.face.detect import default_detector
from affuse.experts.face.expert import STILL_DETAIL
from affuse.files import replacing, write_json
from affuse.fusion.calibrated import fit_weights
from affuse.media import Recording
from affuse.people.faces import FaceEncoder
from affuse.people.identity import Identity, IdentityModel, distances, join_tracks
from affuse.people.voices import VoiceEncoder
from affuse.timeline import Timeline

FRAMES = 5  # of a clip
RATES = (0.3, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
EVEN = np.full((2, 2), 0.5)
CUTS = 200  # compositions
DOUBT = 0.005
MARGIN = {"face": 10, "voice": 3, "face+voice": 10}
# Of the voice's weight in the pool. What is learned on one corpus of voices holds less for another: half of it gives
# the lower errors for pictures that can be used, on actors who were left out; the whole of it for those that cannot.
VOICE_TRUST = 0.5


class Pairs(NamedTuple):
    """Distances (n, 2) of pairs, NaN where a modality is missing, and whether each pair is of one person (n,).

    ``persons`` (n, 2) says of whom, where that is one corpus.
    """

    distances: np.ndarray
    same: np.ndarray
    persons: np.ndarray


def noisy(image: np.ndarray) -> np.ndarray:
    """Noise of a sensor, 25 of 255."""
    noise = np.random.default_rng(0).normal(0, 25, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def blurred(image: np.ndarray) -> np.ndarray:
    """Out of focus: a Gaussian of a hundredth of the picture's longer side."""
    return cv2.GaussianBlur(image, (0, 0), max(image.shape) / 100)


def dark(image: np.ndarray) -> np.ndarray:
    """A tenth of the light, with the noise of a sensor."""
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image * 0.1 + noise, 0, 255).astype(np.uint8)


def telephone(samples: np.ndarray) -> np.ndarray:
    """300 to 3,400 Hz."""
    return np.asarray(sosfilt(butter(4, (300, 3400), "bandpass", fs=16000, output="sos"), samples), dtype=np.float32)


def hissing(samples: np.ndarray) -> np.ndarray:
    """White noise 10 dB below the speech."""
    noise = np.random.default_rng(0).normal(size=len(samples))
    return np.asarray(samples + noise * np.sqrt(np.mean(samples**2) / 10), dtype=np.float32)


PICTURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "clean": lambda image: image,
    "noise": noisy,
    "blur": blurred,
    "low light": dark,
}
SOUNDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "clean": lambda samples: samples,
    "telephone": telephone,
    "hiss": hissing,
}


class Reader:
    """Reads faces and voices, each once: what was read lies in the folder ``cache``."""

    def __init__(self, data: Path, cache: Path) -> None:
        self.data = data
        self.cache = cache
        self.faces, self.voices = FaceEncoder(), VoiceEncoder()
        self.detectors = {"still": default_detector(STILL_DETAIL), "film": default_detector()}

    def face_rows(self, name: str, damage: str) -> np.ndarray:
        """Faces (n, FRAMES or 1, 128) of all recordings of a corpus."""
        return self._kept(f"{name}-face-{damage}", lambda: np.stack([*self._faces(name, damage)]))

    def voice_rows(self, name: str, damage: str) -> np.ndarray:
        """Voices (n, 256) of all recordings of a corpus."""
        return self._kept(f"{name}-voice-{damage}", lambda: np.stack([*self._voices(name, damage)]))

    def paths(self, name: str) -> list[Path]:
        """Recordings of a corpus in order."""
        patterns = {"orl": "orl_faces/s*/*.pgm", "ravdess": "ravdess/Actor_*/*.flac", "javanese": "javanese_av/*.mp4"}
        return sorted(self.data.glob(patterns[name]))

    def persons(self, name: str) -> np.ndarray:
        """Who each recording of a corpus is of."""
        return np.array([p.name[:2] if name == "javanese" else p.parent.name for p in self.paths(name)])

    def _kept(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        path = self.cache / f"{name.replace(' ', '_')}.npy"
        if not path.is_file():
            rows = make()
            with replacing(path) as (part,), part.open("wb") as file:
                np.save(file, rows)
        return np.load(path, allow_pickle=False)

    def _faces(self, name: str, damage: str) -> Iterator[np.ndarray]:
        count = 1 if name == "orl" else FRAMES
        for path in self.paths(name):
            rows = np.full((count, 128), np.nan)
            for row, image in zip(rows, self._pictures(path, count), strict=False):
                row[:] = self._embedded(PICTURES[damage](image), "still" if count == 1 else "film")
            yield rows

    def _pictures(self, path: Path, count: int) -> Iterator[np.ndarray]:
        if path.suffix == ".pgm":
            yield cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), cv2.COLOR_GRAY2RGB)
            return
        recording = Recording.open(path)
        times = (np.arange(count) + 0.5) / count * (recording.duration or 1.0)
        yield from (frame.image for frame in recording.frames(times.tolist(), max_side=960))

    def _embedded(self, image: np.ndarray, kind: str) -> np.ndarray:
        detector = self.detectors[kind]
        found = detector.detect(image)
        if not len(found):
            return np.full(128, np.nan)
        i = int((found.boxes[:, 2] * found.boxes[:, 3]).argmax())
        return self.faces.embed(image, found.boxes[i], found.landmarks[i], detector.framing)

    def _voices(self, name: str, damage: str) -> Iterator[np.ndarray]:
        for path in self.paths(name):
            recording = Recording.open(path)
            (samples,) = recording.sound(Timeline((recording.span,)))
            embedding = self.voices.embed(SOUNDS[damage](np.asarray(samples, dtype=np.float32)))
            yield np.full(256, np.nan) if embedding is None else embedding


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances (n, n) of faces or voices (n, d) that are brought to length 1."""
    kind = "face" if a.shape[1] == 128 else "voice"
    rows, columns = ([Identity(**{kind: v}) if np.isfinite(v).all() else Identity() for v in x] for x in (a, b))
    return distances(rows, columns)[:, :, 0 if kind == "face" else 1]


def averaged(faces: np.ndarray, frames: int) -> np.ndarray:
    """Means (n, 128) of the first ``frames`` faces that were found; NaN where none was."""
    means = np.full((len(faces), 128), np.nan)
    for mean, own in zip(means, faces, strict=True):
        found = own[np.isfinite(own).all(axis=1)][:frames]
        if len(found):
            mean[:] = found.mean(axis=0)
    return means


def javanese(reader: Reader, picture: str = "clean", sound: str = "clean", frames: int = FRAMES) -> Pairs:
    """Pairs of clips, the second one of which may be damaged."""
    persons = reader.persons("javanese")
    clean, other = (averaged(reader.face_rows("javanese", d), frames) for d in ("clean", picture))
    voices = reader.voice_rows("javanese", "clean"), reader.voice_rows("javanese", sound)
    D = np.stack([between(clean, other), between(*voices)], axis=2)
    i, j = np.nonzero(~np.eye(len(persons), dtype=bool))
    return Pairs(D[i, j], persons[i] == persons[j], np.stack([persons[i], persons[j]], axis=1))


def chimeric(reader: Reader, picture: str = "clean", sound: str = "clean") -> Pairs:
    """Pairs of faces of ORL, each with a pair of voices of RAVDESS that is of one speaker where the faces are."""
    rng, found = np.random.default_rng(0), []
    for name, damage in (("orl", picture), ("ravdess", sound)):
        own = reader.persons(name)
        rows = reader.face_rows if name == "orl" else reader.voice_rows
        clean, other = (rows(name, d).reshape(len(own), -1) for d in ("clean", damage))
        kept = rng.permutation(len(own))[:400]  # of RAVDESS: 20 clips a speaker
        found.append((between(clean[kept], other[kept]), own[kept][:, None] == own[kept]))
    (faces, same), (voices, alike) = found
    i, j = np.nonzero(~np.eye(len(same), dtype=bool))
    D = np.stack([faces[i, j], np.empty(len(i))], axis=1)
    for label in (False, True):
        pool = voices[(alike == label) & ~np.eye(len(alike), dtype=bool)]
        D[same[i, j] == label, 1] = rng.choice(pool, int((same[i, j] == label).sum()))
    return Pairs(D, same[i, j], np.full((len(i), 2), "chimera"))


def learn(parts: list[Pairs]) -> IdentityModel:
    """Calibration and weights of the pool, in which every corpus, and every label in it, counts the same."""
    from sklearn.linear_model import LogisticRegression

    D, same = np.concatenate([p.distances for p in parts]), np.concatenate([p.same for p in parts])
    w = np.concatenate([np.where(p.same, 1 / p.same.sum(), 1 / (~p.same).sum()) for p in parts]) * 1000
    # A small share of every pair counts for the other label: people who can be told apart without an error must not
    # give ratios without an end.
    lines = []
    for m in range(2):
        here = np.isfinite(D[:, m])
        x, y = np.tile(D[here, m : m + 1], (2, 1)), np.concatenate([same[here], ~same[here]])
        fitted = LogisticRegression(C=1e4).fit(x, y, np.concatenate([w[here] * (1 - DOUBT), w[here] * DOUBT]))
        lines.append((-fitted.coef_[0, 0], fitted.intercept_[0]))
    slopes, offsets = np.array(lines).T
    rng = np.random.default_rng(0)
    balanced = np.concatenate([rng.choice(np.flatnonzero(same == label), 5000) for label in (True, False)])
    p = expit(offsets - slopes * D[balanced])
    pool = fit_weights(np.stack([p, 1 - p], axis=2), (~same[balanced]).astype(int), EVEN, EVEN[0], 50.0)
    pool *= (1.0, VOICE_TRUST)
    empty = {name: np.array([[0.5, 0.0]]) for name in ("face", "voice", "face+voice")}
    bare = IdentityModel(slopes, offsets, pool, empty)
    return IdentityModel(slopes, offsets, pool, {name: thresholds(bare, parts, name) for name in empty})


def only(D: np.ndarray, name: str) -> np.ndarray:
    """Distances without the modalities that ``name`` lacks."""
    return np.where([m in name for m in ("face", "voice")], D, np.nan)


def thresholds(model: IdentityModel, parts: list[Pairs], name: str) -> np.ndarray:
    """False-accept rates and the ratios that strangers reach so often, in the corpus where they reach the most.

    Strangers whom the calibration has not met are alike more often than those it has, above all people of one origin
    before one camera: at thresholds without ``MARGIN``, actors who were left out passed up to ten times as often.
    """
    strangers = [model.ratios(only(p.distances[~p.same], name)) for p in parts]
    reached = [max(np.nanquantile(own, 1 - rate) for own in strangers) for rate in RATES]
    return np.stack([RATES, np.array(reached) + np.log(MARGIN[name])], axis=1)


def equal_error(ratios: np.ndarray, same: np.ndarray) -> float:
    """Equal error rate in percent; a pair without evidence is refused, and counts as an error of one person's pairs."""
    ratios = np.where(np.isnan(ratios), -np.inf, ratios)
    cuts = np.unique(ratios)
    own, others = np.sort(ratios[same]), np.sort(ratios[~same])
    missed = np.searchsorted(own, cuts) / len(own)
    taken = 1 - np.searchsorted(others, cuts) / len(others)
    i = int(np.abs(missed - taken).argmin())
    return float(50 * (missed[i] + taken[i]))


def rates(model: IdentityModel, pairs: Pairs) -> np.ndarray:
    """Equal error rates, and strangers accepted and pairs missed at the threshold for 1 %, by modality: (3, 3)."""
    rows = []
    for name in ("face", "voice", "face+voice"):
        ratios = model.ratios(only(pairs.distances, name))
        accepted = ratios >= model.threshold(0.01, name.split("+"))
        rows.append(
            [
                equal_error(ratios, pairs.same),
                100 * accepted[~pairs.same].mean(),
                100 * (1 - accepted[pairs.same].mean()),
            ]
        )
    return np.array(rows)


def written(found: np.ndarray) -> str:
    """Rates (3, 3) as text."""
    return "   ".join(f"{eer:6.2f} ({taken:5.2f} {missed:5.1f})" for eer, taken, missed in found)


def show(title: str, model: IdentityModel, pairs: Pairs) -> None:
    """Print one row of rates."""
    print(f"{title:44}{written(rates(model, pairs))}", flush=True)


def cuts(reader: Reader, model: IdentityModel, voiced: bool, actors: np.ndarray, count: int) -> np.ndarray:
    """Pairs of tracks of one actor, those of them that are joined, and strangers that are: (3,).

    Each of ``count`` compositions holds eight clips of two or more ``actors``, one after the other; a clip is a track.
    """
    persons = reader.persons("javanese")
    faces, voices = averaged(reader.face_rows("javanese", "clean"), FRAMES), reader.voice_rows("javanese", "clean")
    rng, found = np.random.default_rng(0), np.zeros(3, dtype=int)
    for _ in range(count):
        cast = rng.choice(actors, rng.integers(2, len(actors) + 1), replace=False)
        rows = rng.choice(np.flatnonzero(np.isin(persons, cast)), 8, replace=False)
        tracks = [Identity(faces[i], voices[i] if voiced else None) for i in rows]
        labels = np.array(join_tracks(tracks, [np.array([float(i)]) for i in range(8)], model))
        i, j = np.triu_indices(8, 1)
        joined, same = labels[i] == labels[j], persons[rows][i] == persons[rows][j]
        found += [same.sum(), (joined & same).sum(), (joined & ~same).sum()]
    return found


def show_cuts(title: str, found: np.ndarray) -> None:
    """Print one row of joins."""
    print(f"cuts, {title}: {found[1] / found[0]:.1%} of {found[0]} pairs joined, {found[2]} strangers joined")


def damages() -> list[tuple[str, str]]:
    """Damages of picture and sound, one at a time."""
    return [(p, s) for p in PICTURES for s in SOUNDS if "clean" in (p, s)]


def across(reader: Reader, parts: dict[str, Pairs]) -> None:
    """Print what is learned on one corpus and measured on the other."""
    model = learn([parts["orl+ravdess"]])
    print("learned on orl + ravdess, measured on javanese")
    for picture, sound in damages():
        show(f"  {picture} / {sound}", model, javanese(reader, picture, sound))
    show("  one frame, clean / clean", model, javanese(reader, frames=1))
    for voiced in (False, True):
        found = cuts(reader, model, voiced, np.unique(reader.persons("javanese")), CUTS)
        show_cuts("face and voice" if voiced else "face", found)
    model = learn([parts["javanese"]])
    print("learned on javanese, measured on orl + ravdess")
    for picture, sound in damages():
        show(f"  {picture} / {sound}", model, chimeric(reader, picture, sound))


def held_out(reader: Reader, parts: dict[str, Pairs]) -> None:
    """Print what the shipped kind of calibration gives for actors that it did not meet, three of six at a time."""
    actors = np.unique(reader.persons("javanese"))
    tests = {kind: javanese(reader, *kind) for kind in damages()}
    scores: dict[tuple[str, str], list[np.ndarray]] = {kind: [] for kind in tests}
    joins = {False: np.zeros(3, dtype=int), True: np.zeros(3, dtype=int)}
    for others in combinations(actors, 3):
        met = np.isin(parts["javanese"].persons, others).all(axis=1)
        model = learn([parts["orl+ravdess"], Pairs(*(own[met] for own in parts["javanese"]))])
        strange = np.setdiff1d(actors, others)
        for kind, pairs in tests.items():
            own = Pairs(*(values[np.isin(pairs.persons, strange).all(axis=1)] for values in pairs))
            scores[kind].append(rates(model, own))
        for voiced, found in joins.items():
            found += cuts(reader, model, voiced, strange, CUTS // 20)
    print("learned on orl + ravdess and three actors, measured on the other three (means of 20 choices)")
    for kind, found in scores.items():
        print(f"  {' / '.join(kind):42}" + written(np.mean(found, axis=0)))
    for voiced, found in joins.items():
        show_cuts("face and voice" if voiced else "face", found)


def training(reader: Reader, pairs: Callable[..., Pairs]) -> Pairs:
    """Clean and damaged pairs of a corpus, so that the calibration knows that recordings can be bad."""
    kinds = [("clean", "clean"), ("clean", "telephone"), ("noise", "clean"), ("blur", "clean"), ("blur", "hiss")]
    found = [pairs(reader, *kind) for kind in [*kinds, ("low light", "clean")]]
    if pairs is javanese:
        found.append(javanese(reader, frames=1))
    return Pairs(*(np.concatenate(own) for own in zip(*found, strict=True)))


def main() -> None:
    """Print the figures; write the calibration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the datasets")
    parser.add_argument("--cache", type=Path, help="folder that keeps the embeddings, which take ten minutes")
    parser.add_argument("--out", type=Path, help="file for the calibration")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with TemporaryDirectory() as folder:
        measure(Reader(options.data, options.cache or Path(folder)), options.out)


def measure(reader: Reader, out: Path | None) -> None:
    """Learn what ships, write it to ``out`` and print all figures."""
    parts = {"orl+ravdess": training(reader, chimeric), "javanese": training(reader, javanese)}
    shipped = learn(list(parts.values()))
    if out is not None:
        write_json(out, shipped.to_dict())
    print(f"{'EER % (at a stated 1 %: accepted, missed %)':44}{'face':>21}   {'voice':>19}   {'fused':>19}")
    across(reader, parts)
    held_out(reader, parts)
    found = cuts(reader, shipped, False, np.unique(reader.persons("javanese")), CUTS)
    show_cuts("face, what ships (it has met these actors)", found)


if __name__ == "__main__":
    main()
