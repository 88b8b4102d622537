"""Every `affuse …` on a page is a command with options that it has, by Typer's own parser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from affuse.cli.main import app
from pages import PAGES, ROOT, commands

pytestmark = pytest.mark.skipif(not (ROOT / "CONTRIBUTING.md").is_file(), reason="not part of this source distribution")

ALL = get_command(app)

# The changelog names what there was as well.
CHECKED = [page for page in PAGES if page.name != "CHANGELOG.md" and commands(page)]


def faults(arguments: list[str]) -> str:
    """What is wrong with a command; "" for nothing."""
    command: Any = ALL
    rest = [word for word in arguments if word not in ("…", "...")]
    while hasattr(command, "commands"):
        if not rest or rest[0] in ("--help", "--version", "COMMAND"):
            return ""
        if rest[0] not in command.commands:
            return f"there is no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    if "--help" in rest:
        return ""
    context = command.context_class(command, info_name=command.name)
    try:
        values, left, _ = command.make_parser(context).parse_args(rest)
        for parameter in command.params:
            if values.get(parameter.name) is not None:
                parameter.process_value(context, values[parameter.name])
    except Exception as error:  # Typer's click is private to it, and so are its errors
        named_alone = "requires an argument" in str(error) and arguments[-1].startswith(
            "--"
        )  # as in "`fuse --save` keeps it"
        return "" if named_alone else str(error)
    return f"{' '.join(left)} is one argument too many" if left else ""


@pytest.mark.parametrize("page", CHECKED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_know_their_options(page: Path) -> None:
    wrong = {" ".join(arguments): fault for arguments in commands(page) if (fault := faults(arguments))}
    assert not wrong, "\n".join(f"affuse {command}: {fault}" for command, fault in wrong.items())


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_modules_and_scripts_that_are_run_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m ((?:affuse|recipes|research|bench)[\w.]*)", text))
    scripts = set(re.findall(r"python ((?:scripts|bench)/\w+\.py)", text))
    places = [ROOT / "src" / Path(*name.split(".")) for name in modules if name.startswith("affuse")]
    places += [ROOT / Path(*name.split(".")) for name in modules if not name.startswith("affuse")]
    missing = [place for place in places if not place.is_dir() and not place.with_suffix(".py").is_file()]
    assert not missing + [ROOT / script for script in scripts if not (ROOT / script).is_file()]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["analyze", "clip.mp4", "--out", "results"], ""),
        (["analyse", "clip.mp4"], "there is no command analyse"),
        (["analyze", "clip.mp4", "--outt", "results"], "--outt"),
        (["compare", "--seeds", "three"], "'three' is not a valid int"),
        (["schema", "clip.mp4"], "one argument too many"),
        (["features", "list", "--json"], ""),
        (["features", "show"], "there is no command show"),
    ],
)
def test_the_check_tells_right_from_wrong(arguments: list[str], fault: str) -> None:
    found = faults(arguments)
    assert fault in found if fault else not found
