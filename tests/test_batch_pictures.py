"""Pictures of the strongest moments: whom and when they show, where they are kept, and where there must be none."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from affuse.batch import BatchSettings, Forgotten, forget, read, run
from affuse.batch.moments import LARGEST, SIDE, _jpeg, moment_pictures
from affuse.batch.page import MOST_PICTURES, pictures_in, surest_rows, write_index
from affuse.batch.store import Store, arrow_table
from affuse.batch.workbook import read_workbook
from affuse.results import Analysis, Person
from affuse.timeline import Segment
from clips import DEMO
from command import Run, caller
from samples import audio_only, distribution, one_person, picture, two_persons, verdict, write_clip

pytestmark = pytest.mark.usefixtures("batches_here")

if TYPE_CHECKING:
    from serving import LocalService

FACE = BatchSettings(experts={"face": "face"})
JPEG = b"/9j/"  # how every JPEG begins in Base64
LEFT, RIGHT = (0.1, 0.3, 0.3, 0.3), (0.6, 0.3, 0.3, 0.3)


def pixels(text: str) -> np.ndarray:
    """A picture of which the size and the number of bytes are as promised."""
    content = base64.b64decode(text)
    image = Image.open(io.BytesIO(content))
    assert image.format == "JPEG"
    assert max(image.size) <= SIDE
    assert len(content) <= LARGEST
    return np.asarray(image, dtype=float)


# --- whom and when they show ------------------------------------------------------------------------------------------


def write_halves(path: Path, seconds: float = 8.0, rate: int = 10) -> Path:
    """A video whose left half becomes redder, and whose right half bluer, with time."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv444p"
        stream.codec_context.gop_size = 1000  # no frame but the first can be read by itself
        for i in range(round(seconds * rate)):
            image = np.zeros((96, 160, 3), np.uint8)
            image[:, :80, 0] = image[:, 80:, 2] = round(255 * i / (seconds * rate))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def analysis_of(path: Path, moments: Mapping[str, float], boxes: Mapping[str, Any]) -> Analysis:
    """An analysis in which persons are surest from a second on, and have faces in boxes; 8 s of windows of 2 s."""
    template = two_persons(path, 8.0)
    windows = [
        verdict(Segment(t, t + 2), name, {"face": distribution("anger", 0.9 if t == moment else 0.5)})
        for name, moment in moments.items()
        for t in np.arange(0.0, 7.0)
    ]
    times = np.arange(0.0, 8.0, 0.5)
    persons = [Person(name, times, np.tile(box, (len(times), 1))) for name, box in boxes.items()]
    summaries = [replace(windows[0], segment=Segment(0, 8), person=name) for name in moments]
    return replace(template, verdicts=windows, summaries=summaries, persons=persons)


def test_pictures_show_the_face_at_the_middle_of_the_moment(tmp_path: Path) -> None:
    path = write_halves(tmp_path / "halves.mp4")
    for first, second in ((1.0, 5.0), (6.0, 2.0)):
        analysis = analysis_of(path, {"ann": first, "ben": second}, {"ann": LEFT, "ben": RIGHT})
        found = moment_pictures(analysis)
        assert found == moment_pictures(analysis)
        red, blue = pixels(found[0]), pixels(found[1])
        # The value of a half is its second of 8; the middle of a window of two seconds is one after its start.
        assert red[..., 0].mean() == pytest.approx(255 * (first + 1) / 8, abs=8)
        assert blue[..., 2].mean() == pytest.approx(255 * (second + 1) / 8, abs=8)
        assert red[..., 2].mean() < 12 > blue[..., 0].mean()


def test_a_picture_of_somebody_else_is_none(tmp_path: Path) -> None:
    path = write_halves(tmp_path / "halves.mp4")
    assert list(moment_pictures(analysis_of(path, {"ann": 1.0, "off screen": 1.0}, {"ann": LEFT}))) == [0]
    gone = {"ann": LEFT, "ben": (np.nan,) * 4}  # a place that is not kept
    assert list(moment_pictures(analysis_of(path, {"ann": 1.0, "ben": 1.0}, gone))) == [0]
    alone = moment_pictures(analysis_of(path, {"ann": 6.0}, {}))
    whole = pixels(alone[0])
    assert whole.shape[1] > whole.shape[0]  # all of the picture: nobody else can be meant
    assert whole[:, :30, 0].mean() > 150 < whole[:, -30:, 2].mean()
    early = Person("ann", np.array([0.0, 0.5]), np.tile(LEFT, (2, 1)))  # seen long before the moment
    both = analysis_of(path, {"ann": 6.0, "ben": 6.0}, {"ben": RIGHT})
    assert list(moment_pictures(replace(both, persons=[early, *both.persons]))) == [1]


def test_a_picture_of_many_faces_gives_each_their_own(tmp_path: Path) -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[:60, 50:110] = (255, 0, 0)
    image[70:130, 180:240] = (0, 255, 0)
    Image.fromarray(image).save(tmp_path / "party.png")
    one, two = moment_pictures(picture(tmp_path / "party.png")).values()
    assert pixels(one)[..., 0].mean() > 90 > 20 > pixels(one)[..., 1].mean()
    assert pixels(two)[..., 1].mean() > 90 > 20 > pixels(two)[..., 0].mean()


def test_what_cannot_be_seen_has_no_picture(tmp_path: Path) -> None:
    assert moment_pictures(one_person()) == {}  # no path: it is not to be shown
    assert moment_pictures(one_person(tmp_path / "gone.mp4")) == {}
    assert moment_pictures(audio_only(tmp_path / "sound.wav")) == {}
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"these are words, not pictures\n" * 50)
    assert moment_pictures(one_person(broken)) == {}
    short = write_clip(tmp_path / "short.mp4", seconds=1.0)
    late = moment_pictures(analysis_of(short, {"ann": 6.0}, {}))
    assert late == {}  # the recording has become shorter: no other moment stands for it


def test_the_busiest_picture_is_small() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 1600, 3)).astype(np.uint8)
    for image in (noise, noise[:72, :72], noise[:1, :1], noise[:3, :900]):
        assert pixels(_jpeg(Image.fromarray(image))).size


# --- the table --------------------------------------------------------------------------------------------------------


def add(store: Store, keys: str, pictured: str = "0123456789abcdef") -> None:
    """A part about recordings, each of a window, a person and perhaps a picture."""
    whole = {key: key * 64 for key in keys}
    rows = {key: arrow_table({"key": ("text", [whole[key]]), "rank": ("int", [0])}) for key in keys}
    shown = [
        arrow_table({"key": ("text", [whole[k]]), "rank": ("int", [0]), "picture": ("text", [f"/9j/{k}"])})
        for k in keys
        if k in pictured
    ]
    store.add(list(rows.values()), list(rows.values()), [], [], shown)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_bytes_of_the_table_do_not_depend_on_the_order_of_work(tmp_path: Path) -> None:
    orders = (("0a", "1", "2b3"), ("b", "32", "a10"), ("3210ab",))
    for number, parts in enumerate(orders):
        store = Store(tmp_path / str(number), "0" * 16)
        for part in parts:
            with store.opened({}):
                add(store, part, "0a3")
                if number == 1:
                    store.merge()
        store.merge()
        assert store.pictured() == {(key * 64, 0) for key in "0a3"}
    assert files_of(tmp_path / "0") == files_of(tmp_path / "1") == files_of(tmp_path / "2")
    wanted = {("a" * 64, 0), ("b" * 64, 0), ("0" * 64, 1)}
    assert store.pictures(wanted) == {("a" * 64, 0): "/9j/a"}


def test_pictures_of_a_run_that_was_killed_before_the_persons_go(tmp_path: Path) -> None:
    store = Store(tmp_path / "out", "0" * 16)
    with store.opened({}):
        add(store, "0")
        add(store, "1")
    lost = next(p for p in store.new_parts("persons") if read_key(p) == "1" * 64)
    lost.unlink()
    assert store.pictured() == {("0" * 64, 0)}  # also before the next run
    with store.opened({}):
        assert len(store.new_parts("pictures")) == 1
        add(store, "1")
        store.merge()
    whole = Store(tmp_path / "whole", "0" * 16)
    with whole.opened({}):
        add(whole, "01")
        whole.merge()
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def read_key(path: Path) -> str:
    return str(pd.read_parquet(path)["key"][0])


def test_a_forgotten_picture_goes_from_every_configuration(tmp_path: Path) -> None:
    for name in ("0" * 16, "1" * 16):
        store = Store(tmp_path, name)
        with store.opened({}):
            add(store, "0a")
            store.merge()
    removed = forget(Forgotten("a" * 64, frozenset(("a" * 64,))), [tmp_path])
    assert sum(removal.what == "rows of pictures" for removal in removed) == 2
    assert {key for name in ("0" * 16, "1" * 16) for key, _ in Store(tmp_path, name).pictured()} == {"0" * 64}


# --- whole runs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def affuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFUSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of somebody, one of them mirrored."""
    folder = tmp_path_factory.mktemp("faces")
    with av.open(str(DEMO / "clip.mp4")) as film:
        image = next(film.decode(video=0)).to_ndarray(format="rgb24")
    Image.fromarray(image).save(folder / "petra.png")
    Image.fromarray(image[:, ::-1]).save(folder / "mirrored.png")
    return folder


@pytest.fixture(scope="module")
def study(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "out"
    run(str(faces), folder, FACE)
    return folder


def shown_in(folder: Path) -> dict[str, str]:
    """Pictures of the page, by the name of the recording."""
    page = (folder / "index.html").read_text(encoding="utf-8")
    return {path: picture for (path, _), picture in pictures_in(page).items()}


def test_a_batch_keeps_pictures_for_its_page_and_nowhere_else(study: Path, faces: Path) -> None:
    shown = shown_in(study)
    assert sorted(shown) == ["mirrored.png", "petra.png"]
    one, other = (pixels(shown[name]) for name in sorted(shown))
    assert np.abs(one[:, ::-1] - other).mean() < 0.75 * np.abs(one - other).mean()  # the same face, mirrored
    kept = read(study, "pictures")
    assert kept.set_index("path")["picture"].to_dict() == shown
    assert "picture" not in read(study).columns
    for path in (path for path in study.rglob("*") if path.is_file() and path.name != "index.html"):
        assert JPEG not in path.read_bytes() or path.parent.parent.name == "pictures"
    header, rows = read_workbook(study / "summary.xlsx")
    assert "picture" not in header
    assert not any("/9j/" in str(cell) for row in rows for cell in row)


def test_the_page_of_the_rest_is_that_of_a_batch_of_the_rest(study: Path, faces: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    for name, content in files_of(study).items():
        (whole / name).parent.mkdir(parents=True, exist_ok=True)
        (whole / name).write_bytes(content)
    own = shown_in(whole)
    forget(faces / "petra.png", [whole])
    assert shown_in(whole) == {"mirrored.png": own["mirrored.png"]}
    assert not any(own["petra.png"].encode() in content for content in files_of(whole).values())
    assert read(whole, "pictures")["picture"].tolist() == [own["mirrored.png"]]
    forget(faces / "mirrored.png", [whole])
    assert not list((whole / "pictures").rglob("*.parquet"))
    assert not (whole / "index.html").exists()


@pytest.mark.parametrize("change", [{"redact": True}, {"private": True}, {"pictures": False}])
def test_hidden_and_unwanted_pictures_are_not_made(change: dict[str, Any]) -> None:
    assert FACE.keeps_pictures
    assert not replace(FACE, **change).keeps_pictures
    assert not replace(FACE, **change, purpose="media").keeps_pictures


def test_no_face_where_none_is_to_be_shown(study: Path, faces: Path, tmp_path: Path) -> None:
    for name, content in files_of(study).items():  # a data set that has pictures of another configuration
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_bytes(content)
    done = run(str(faces), tmp_path / "out", replace(FACE, private=True))
    assert done.analyzed == 2
    assert not list((tmp_path / "out" / "pictures").glob(f"*{done.configuration}*"))
    page = (tmp_path / "out" / "index.html").read_bytes()
    assert JPEG not in page
    assert b"img-src" not in page


def test_a_folder_that_is_analysed_has_pictures_where_its_reports_show_the_recordings(
    affuse: Run, faces: Path, tmp_path: Path
) -> None:
    asked = ["analyze", faces, "--experts", "face"]
    assert affuse(*asked, "--out", tmp_path / "out").code == 0
    shown = shown_in(tmp_path / "out")
    assert sorted(shown) == ["mirrored.png", "petra.png"]
    assert JPEG not in (tmp_path / "out" / "summary.csv").read_bytes()
    affuse("forget", faces / "petra.png", "--in", tmp_path / "out")
    assert shown_in(tmp_path / "out") == {"mirrored.png": shown["mirrored.png"]}
    for number, options in enumerate((["--redact"], ["--private"], ["--format", "json,csv"])):
        assert affuse(*asked, *options, "--out", tmp_path / str(number)).code == 0
        assert JPEG not in (tmp_path / str(number) / "index.html").read_bytes()


def test_a_service_has_pictures_where_it_keeps_recordings(
    make_service: Callable[..., LocalService], faces: Path
) -> None:
    for keeps in (True, False):
        service = make_service(keep_uploads=keeps)
        done = service.done(faces / "petra.png")
        assert done["state"] == "done", done
        page = service.http.get("/v1/analyses/index.html").text
        assert bool(pictures_in(page)) == keeps
        stored = [path for path in service.files() if path.endswith("pictures.json")]
        assert len(stored) == keeps
        service.http.delete(f"/v1/analyses/{done['id']}")
        assert service.files() == []


# --- the page ---------------------------------------------------------------------------------------------------------


def columns_of(count: int) -> dict[str, Any]:
    return {
        "path": ("text", [f"{i}.mp4" for i in range(count)]),
        "person": ("text", ["person 1"] * count),
        "rank": ("int", [0] * count),
        "label": ("text", ["anger"] * count),
        "share_anger": ("float", [1.0] * count),
        "moment_start": ("float", [1.0] * count),
        "moment_label": ("text", ["anger"] * count),
        "moment_confidence": ("float", [((i * 7) % 10) / 10 for i in range(count)]),
        "error": ("text", [None] * count),
    }


def test_the_page_shows_the_surest_thousand_and_says_so(tmp_path: Path) -> None:
    columns = columns_of(MOST_PICTURES + 500)
    confidence = columns["moment_confidence"][1]
    pictured = range(10, MOST_PICTURES + 500)
    chosen = surest_rows(columns, pictured)
    assert len(chosen) == len(set(chosen)) == MOST_PICTURES
    assert set(chosen) <= set(pictured)
    left = set(pictured) - set(chosen)
    assert min(confidence[row] for row in chosen) >= max(confidence[row] for row in left)
    write_index(tmp_path, columns, [], pictures=dict.fromkeys(chosen, "/9j/AAAA"))
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert '<p class="pictured">Pictures are shown of the 1,000 surest moments at most' in page
    assert {path for path, _ in pictures_in(page)} == {f"{row}.mp4" for row in chosen}
    write_index(tmp_path, columns_of(3), [], pictures={1: "/9j/AAAA"})
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert '<p class="pictured">' not in page
    assert re.search(r'Content-Security-Policy" content="[^"]*; img-src data:"', page)


def test_a_page_that_somebody_has_changed_brings_nothing_but_pictures(tmp_path: Path) -> None:
    write_index(tmp_path, columns_of(3), [], pictures={1: "/9j/AAAA"})
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert pictures_in(page) == {("1.mp4", "person 1"): "/9j/AAAA"}
    for change in ('{"1": "</script>"}', '{"1": "\\"onerror=x"}', '{"9": "/9j/"}', "[1]", "nothing"):
        assert pictures_in(page.replace('{"1": "/9j/AAAA"}', change)) == {}
