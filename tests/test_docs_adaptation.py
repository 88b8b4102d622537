"""docs/adaptation.md: its Python runs and prints what the page says, and its commands know their options."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from affuse.analyzer.adaptation import ADAPTATIONS
from affuse.cli.main import app

PAGE = Path(__file__).parent.parent / "docs" / "adaptation.md"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the pages are not part of this source distribution")


def test_the_page_runs_and_prints_what_it_says() -> None:
    names: dict[str, Any] = {}
    for block, promised in re.findall(
        r"```python\n(.*?)```\n+```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL
    ):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block, PAGE.name, "exec"), names)
        assert out.getvalue() == promised
    assert names


def test_commands_of_the_page_take_the_options_that_it_gives_them() -> None:
    known, page = get_command(app), PAGE.read_text(encoding="utf-8")
    lines = re.findall(r"`(affuse [^`]*)`", page) + re.findall(r"^affuse .*$", page, flags=re.MULTILINE)
    asked = [shlex.split(line, comments=True)[1:] for line in lines if "--" in line]
    assert len(asked) > 8
    for name, *rest in asked:
        command = known.commands[name]  # type: ignore[attr-defined]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, (name, rest)


def test_the_page_explains_every_adaptation() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}`" in page for name in ADAPTATIONS)
