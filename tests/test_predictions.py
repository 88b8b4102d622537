"""Reading and joining predictions of anybody's models: what is read, and one clear sentence for what does not fit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affuse.data import prediction_sets
from affuse.data.prediction_sets.ravdess_posteriors import read_ravdess_folds
from affuse.data.predictions import Predictions, align, join, read_label_map, read_predictions, read_targets
from affuse.errors import ConfigError, DataError

Write = Callable[[str, str], Path]

FACE = "id,happy,angry\n01,0.8,0.2\n02,0.4,0.6\n03,,\n"
VOICE = "clip,angry,happy\n02,0.7,0.3\n01,0.1,0.9\n04,0.5,0.5\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return put


def both(write: Write) -> Predictions:
    return join([read_predictions(write("face.csv", FACE)), read_predictions(write("voice.csv", VOICE))])


def test_files_join_by_id_and_labels_whatever_their_order(write: Write) -> None:
    joined = both(write)
    assert joined.ids == ("01", "02", "03", "04")  # ids stay as they are written
    assert joined.modalities == ("face", "voice")
    assert joined.labels == ("happy", "angry")
    nan = np.nan
    expected = [[[0.8, 0.2], [0.9, 0.1]], [[0.4, 0.6], [0.3, 0.7]], [[nan, nan], [nan, nan]], [[nan, nan], [0.5, 0.5]]]
    np.testing.assert_allclose(joined.P, expected)
    assert (joined.targets == -1).all()


def test_true_labels_and_groups_come_from_their_own_table(write: Write) -> None:
    tables = [read_predictions(write("face.csv", FACE))]
    truth = write("y.csv", "id,label,speaker\n02,angry,anna\n01,happy,ben\n99,happy,ben\n")
    joined = join(tables, read_targets(truth, group_column="speaker"))
    assert joined.targets.tolist() == [0, 1, -1]
    assert joined.groups.tolist()[:2] == ["ben", "anna"]
    assert joined.labelled.ids == ("01", "02")


def test_a_label_column_in_a_file_is_no_class(write: Write) -> None:
    joined = join([read_predictions(write("face.csv", "name,label,happy,angry\na,angry,0.8,0.2\nb,happy,0.4,0.6\n"))])
    assert joined.labels == ("happy", "angry")
    assert joined.targets.tolist() == [1, 0]


def test_parquet_holds_the_same_as_csv(write: Write, tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["01", "02", "03"], "happy": [0.8, 0.4, np.nan], "angry": [0.2, 0.6, np.nan]})
    table.to_parquet(tmp_path / "face.parquet")
    ours, theirs = (read_predictions(path) for path in (tmp_path / "face.parquet", write("face.csv", FACE)))
    assert ours.ids == theirs.ids
    np.testing.assert_array_equal(ours.P, theirs.P)


def test_logits_become_probabilities_by_the_softmax(write: Write) -> None:
    table = read_predictions(write("face.csv", f"id,a,b\n1,{np.log(3)},0\n2,,\n"), logits=True)
    np.testing.assert_allclose(table.P, [[0.75, 0.25], [np.nan, np.nan]])


def test_a_map_renames_labels_for_all_or_for_one_file_and_adds_up_merged_ones(write: Write) -> None:
    renames = read_label_map(write("labels.toml", 'joy = "happy"\n[voice]\ncalm = "neutral"\n'))
    voice = write("voice.csv", "id,joy,calm,neutral\n1,0.5,0.2,0.3\n")
    table = read_predictions(voice, label_map=renames)
    assert table.labels == ("happy", "neutral")
    np.testing.assert_allclose(table.P, [[0.5, 0.5]])
    assert read_predictions(voice, label_map=renames, modality="face").labels == ("happy", "calm", "neutral")


def test_three_decimals_are_close_enough_and_rows_sum_to_one_afterwards(write: Write) -> None:
    table = read_predictions(write("face.csv", "id,a,b,c\n1,0.333,0.333,0.333\n"))
    np.testing.assert_allclose(table.P, np.full((1, 3), 1 / 3))


def rows_of(ids: str) -> str:
    """A table with one row for each of the ids."""
    return "id,a,b\n" + "".join(f"{i},0.5,0.5\n" for i in ids.split())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"face\.csv is empty"),
        ("id,a,b\n", r"face\.csv holds no rows"),
        ("x,a,b\n1,0.5,0.5\n", r"no column named id, clip, name; name it with --id; its columns: x, a, b"),
        ("id,a,a\n1,0.5,0.5\n", r"names the column 'a' twice"),
        ("id,a\n1,1\n", r"at least two labels; got a"),
        ("id,a,b\n7,0.5,0.5\n8,0.5,0.5\n7,0.1,0.9\n", r"the id '7' is in the rows 1, 3; ids must be unique"),
        # Five rows of one id and how many more; how many other ids. 2 stands first here, though 1 repeats first.
        (rows_of("2 1 1 2"), r"the id '2' is in the rows 1, 4 \(1 more id is repeated\); ids must be unique$"),
        (
            rows_of("a a b a b a a c c"),
            r"the id 'a' is in the rows 1, 2, 4, 6, 7 \(2 more ids are repeated\)",
        ),
        (rows_of("x " + "a " * 1000), r"the id 'a' is in the rows 2, 3, 4, 5, 6 and 995 more; ids must be unique$"),
        ("id,a,b\n1,0.5,0.5\n2,0.5,0.3\n", r"row 2 \(id '2'\): the probabilities sum to 0\.8, not to 1"),
        ("id,a,b\n1,2.5,-1.5\n", r"row 1 \(id '1'\): -1\.5 is no probability; if these are logits, give --logits"),
        ("id,a,b\n1,2.5,1.5\n", r"2\.5 is no probability; if these are logits, give --logits"),
        ("id,a,b\n1,0.5,\n", r"row 1 \(id '1'\): 'b' is missing and others are not"),
        ("id,a,b\n1,0.5,half\n", r"row 1, column 'b': 'half' is not a finite number"),
        ("id,a,b\n1,inf,0.5\n", r"row 1, column 'a': 'inf' is not a finite number"),
    ],
)
def test_what_does_not_fit_is_named_with_file_row_and_column(write: Write, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_predictions(write("face.csv", text))


def test_files_that_are_no_tables(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DataError, match=r"gone\.csv does not exist"):
        read_predictions(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_predictions(tmp_path)
    (tmp_path / "latin.csv").write_bytes("id,fröhlich,b\n1,0.5,0.5\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_predictions(tmp_path / "latin.csv")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_predictions(write("face.parquet", FACE))
    with pytest.raises(DataError, match="not a TOML file"):
        read_label_map(write("labels.toml", "joy = happy"))


def test_labels_that_do_not_match_are_listed_and_the_way_out_is_named(write: Write) -> None:
    tables = [
        read_predictions(write("face.csv", FACE)),
        read_predictions(write("text.csv", "id,joy,angry\n1,0.5,0.5\n")),
    ]
    with pytest.raises(DataError, match=r"only face\.csv has happy, only text\.csv has joy; .*--map labels\.toml"):
        join(tables)
    with pytest.raises(DataError, match=r"would both be the modality 'face'"):
        join([tables[0], read_predictions(write("other/face.csv", FACE))])


def test_true_labels_that_do_not_fit(write: Write) -> None:
    tables = [read_predictions(write("face.csv", FACE))]
    with pytest.raises(DataError, match="the label 'bored' has no column among happy, angry"):
        join(tables, read_targets(write("y.csv", "id,label\n01,bored\n")))
    with pytest.raises(
        DataError, match="holds no id of the predictions, which begin with '01'; its own begin with '1'"
    ):
        join(tables, read_targets(write("y.csv", "id,label\n1,happy\n")))
    with pytest.raises(DataError, match="has no column 'speaker' as --group says"):
        read_targets(write("y.csv", "id,label\n01,happy\n"), group_column="speaker")


def test_align_puts_columns_where_a_fuser_wants_them(write: Write) -> None:
    joined = join([read_predictions(write("voice.csv", VOICE))], read_targets(write("y.csv", "id,label\n02,angry\n")))
    moved = align(joined, ("face", "voice"), ("happy", "angry"))
    np.testing.assert_allclose(moved.P[0], [[np.nan, np.nan], [0.3, 0.7]])
    assert moved.targets.tolist() == [1, -1, -1]
    with pytest.raises(DataError, match="knows the modalities face; got voice besides"):
        align(joined, ("face",), ("happy", "angry"))
    with pytest.raises(DataError, match="knows the labels happy, sad"):
        align(joined, ("voice",), ("happy", "sad"))


def test_ravdess_folds_by_number_with_actors_as_groups(tmp_path: Path, write: Write) -> None:
    for fold, actor in ((0, "07"), (2, "11")):
        for name in ("voice", "face"):
            row = f"01-01-03-01-01-01-{actor},happy,0.6,0.4"
            write(f"ravdess_posteriors/fold{fold}/test_{name}.csv", f"clip,label,happy,sad\n{row}\n")
    folds = read_ravdess_folds(tmp_path)
    assert list(folds) == ["fold0", "fold2"]
    assert folds["fold2"].groups.tolist() == ["11"]
    assert folds["fold0"].modalities == ("face", "voice")
    assert list(read_ravdess_folds(tmp_path, folds=[2])) == ["fold2"]
    assert list(prediction_sets.load("ravdess_posteriors", tmp_path, "test")) == list(folds)
    with pytest.raises(ConfigError, match=r"unknown set of predictions 'ravdess'.*; known: cremad_votes, emotiontalk"):
        prediction_sets.load("ravdess", tmp_path, "test")
    with pytest.raises(ConfigError, match=r"no fold 1, 3 in .*; there are 0, 2"):
        read_ravdess_folds(tmp_path, folds=[0, 1, 2, 3])
    with pytest.raises(DataError, match="does not hold fold0"):
        read_ravdess_folds(tmp_path / "elsewhere")


@pytest.mark.data
def test_published_folds_share_no_actor(data: Path) -> None:
    folds = read_ravdess_folds(data)
    actors = [set(part.groups.tolist()) for part in folds.values()]
    assert sum(map(len, actors)) == len(set.union(*actors))
    for part in folds.values():
        assert part.P.shape == (len(part), 3, 8)
        # RAVDESS names its clips by emotion: the third field must agree with the label column.
        codes = {
            clip.split("-")[2] for clip, y in zip(part.ids, part.targets, strict=True) if part.labels[y] == "angry"
        }
        assert codes == {"05"}
