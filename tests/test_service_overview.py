"""All analyses of a service as one page, one table and one archive, which are those of `affuse analyze FOLDER`."""

from __future__ import annotations

import json
import re
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from affuse.service.overview import _distinct, _stem
from serving import LocalService

RECORDINGS = "v1/analyses"


@pytest.fixture
def filled(service: LocalService, tmp_path: Path) -> tuple[LocalService, list[dict[str, Any]]]:
    """Two texts and a recording that is none."""
    texts = ["I am so happy, what a wonderful day!", "I hate this. How dare you?"]
    jobs = [service.done(text=text) for text in texts]
    broken = tmp_path / "=broken.mp4"
    broken.write_bytes(b"no video" * 99)
    return service, [*jobs, service.done(broken)]


def shown(page: str) -> dict[str, list[Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    rows: dict[str, list[Any]] = json.loads(found[1])["rows"]
    return rows


def test_page_table_and_archive_hold_every_analysis(filled: tuple[LocalService, list[dict[str, Any]]]) -> None:
    service, jobs = filled
    answers = [job["result"]["summary"][0] for job in jobs[:2]]
    page = service.http.get(f"/{RECORDINGS}/index.html")
    assert page.headers["content-security-policy"].startswith("sandbox")
    rows = shown(page.text)
    assert rows["path"] == ["=broken.mp4", "text", "text (2)"]
    assert rows["label"] == [None, *(answer["label"] for answer in answers)]
    assert rows["link"] == [None, *(f"{job['id']}/report.html" for job in jobs[:2])]
    assert "recording" in rows["error"][0]
    link = service.http.get(f"/{RECORDINGS}/{rows['link'][1]}")
    assert "wonderful" in link.text

    table = pd.read_csv(BytesIO(service.http.get(f"/{RECORDINGS}/summary.csv").content))
    assert table["path"].tolist() == ["'=broken.mp4", "text", "text (2)"]  # no formula
    assert table["confidence"][1:].tolist() == pytest.approx([answer["confidence"] for answer in answers])
    book = openpyxl.load_workbook(BytesIO(service.http.get(f"/{RECORDINGS}/summary.xlsx").content))
    assert [cell.value for cell in next(book.worksheets[0].iter_cols(1, 1))] == ["path", *rows["path"]]

    archive = zipfile.ZipFile(BytesIO(service.http.get(f"/{RECORDINGS}/results.zip?language=zh").content))
    assert archive.testzip() is None
    names = {f"{stem}.{suffix}" for stem in ("text", "text (2)") for suffix in ("html", "json", "csv")}
    assert set(archive.namelist()) == {"index.html", "summary.csv", "summary.xlsx", *names}
    zipped = openpyxl.load_workbook(BytesIO(archive.read("summary.xlsx"))).worksheets[0]
    assert [cell.value for cell in next(zipped.iter_cols(1, 1))] == ["path", *rows["path"]]
    inside = shown(archive.read("index.html").decode())
    assert inside["link"] == [None, "text.html", "text%20(2).html"] or inside["link"][1] == "text.html"
    assert json.loads(archive.read("text.json"))["summary"][0]["label"] == answers[0]["label"]
    assert 'lang="zh' in archive.read("index.html").decode()


def test_the_list_tells_answers_where_asked_for(filled: tuple[LocalService, list[dict[str, Any]]]) -> None:
    service, jobs = filled
    listed = service.http.get(f"/{RECORDINGS}?answers=true").json()["analyses"]
    told = {job["id"]: job["answers"] for job in listed}
    summary = jobs[0]["result"]["summary"][0]
    (answer,) = told[jobs[0]["id"]]
    assert answer == {name: summary[name] for name in ("person", "label", "confidence", "sentiment")}
    assert told[jobs[2]["id"]] == []
    assert service.http.get(f"/{RECORDINGS}").json()["analyses"][0]["answers"] is None


def test_an_empty_service_has_an_empty_page(service: LocalService) -> None:
    assert shown(service.http.get(f"/{RECORDINGS}/index.html").text)["path"] == []
    assert service.http.get(f"/{RECORDINGS}/summary.csv").status_code == 200
    assert service.http.get(f"/{RECORDINGS}/summary.pdf").status_code == 422


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/../../x.mp4", "x"),
        ("..\\..\\x.mp4", "x"),
        ("index.mp4", "recording"),
        ("..", "recording"),
        ("张.wav", "张"),
        ('a"b?.mp4', "a_b_"),
    ],
)
def test_names_of_clients_lead_out_of_no_folder(name: str, stem: str) -> None:
    assert _stem(name) == stem


def test_equal_names_get_numbers() -> None:
    assert _distinct(["a", "A", "a (2)", "a"]) == ["a", "A (2)", "a (2) (2)", "a (3)"]
