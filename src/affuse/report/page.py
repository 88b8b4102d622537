"""The self-contained HTML page of an analysis."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from affuse.errors import ConfigError, OutputError
from affuse.files import replacing
from affuse.report.assets import asset, template
from affuse.report.media import PLACE, Medium, encoded, medium_of
from affuse.report.messages import LANGUAGES, NATIVE, messages, translate
from affuse.report.palette import COLOURS, INKS, palette
from affuse.report.sentences import answer_in_words, headline_parts, purpose_key, source_name
from affuse.results import Analysis

__all__ = ["GENERATOR", "check_suffix", "refuse_input", "render_report", "style", "write_page", "write_report"]

GENERATOR = '<meta name="generator" content="affuse">'
"""The line by which a page of affuse is known."""

# Stands in the page where the data go; like `PLACE`, nothing that a user wrote can hold it.
_DATA_PLACE = "<analysis>"

# Numbers on a page are drawn, not computed with; four decimals halve the size of long recordings.
_DECIMALS = 4

_AT_ONCE = 50  # cues or windows that become text together

# The script of a page, each module before those that import it.
_MODULES = (
    "elements",
    "timeline",
    "overview",
    "speech",
    "clock",
    "theme",
    "parts",
    "numbers",
    "people",
    "transcript",
    "highlights",
    "viewer",
    "report",
)
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)


def write_report(analysis: Analysis, path: str | Path, language: str = "en") -> Path:
    """Write one self-contained HTML page, whole or not at all.

    Parameters
    ----------
    analysis : Analysis
        What was found.
    path : str or Path
        The file to write; missing folders are made.
    language : str
        "en" or "zh": the language in which the page opens. A button on it switches to the other.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    OutputError
        If the path cannot be written, or is the recording itself.
    ConfigError
        If the language is unknown, or the file would not end in .html or .htm.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze_text("What a day!")
    >>> write_report(analysis, "report.html").name
    'report.html'
    """
    path = Path(path)
    refuse_input(path, analysis)
    check_suffix(path)
    with replacing(path) as (part,), part.open("w", encoding="utf-8") as file:
        write_page(analysis, file, path.parent, language)
    return path


def render_report(analysis: Analysis, folder: str | Path = ".", language: str = "en") -> str:
    """Make the page of `write_report` without writing it.

    Parameters
    ----------
    analysis : Analysis
        What was found.
    folder : str or Path
        Where the page is to lie: a recording too large to embed is linked from there.
    language : str
        "en" or "zh".

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ConfigError
        If the language is unknown.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze_text("What a day!")
    >>> "快乐" in render_report(analysis, language="zh")
    True
    """
    page = StringIO()
    write_page(analysis, page, folder, language)
    return page.getvalue()


def write_page(analysis: Analysis, file: TextIO, folder: str | Path = ".", language: str = "en") -> None:
    """Write the HTML text of `render_report` to ``file``; recording and data go there piece by piece."""
    with TemporaryDirectory(prefix="affuse-") as scratch:
        medium = medium_of(analysis, Path(folder), Path(scratch))
        for part in re.split(f"({PLACE}|{_DATA_PLACE})", _render(analysis, medium, language)):
            if part == _DATA_PLACE:
                file.writelines(_data(analysis, medium, language))
            elif part == PLACE and medium.embedded is not None:
                file.writelines(encoded(medium.embedded))
            else:
                file.write(part)


def _render(analysis: Analysis, medium: Medium, language: str) -> str:
    from markupsafe import Markup  # only pages need it

    css, script = style(), _script()
    return template("report.html.j2").render(
        lang=NATIVE.get(language, language),
        say=messages(language),
        analysis=analysis,
        name=source_name(analysis, language),
        medium=medium,
        uri=Markup(medium.uri),
        original=medium.original and (Markup(medium.original[0]), medium.original[1]),
        headline=headline_parts(analysis, analysis.summary, language),
        purpose=purpose_key(analysis.settings.get("purpose"), analysis.settings.get("exemption")),
        notes=[translate(note, language) for note in analysis.notes],
        generator=Markup(GENERATOR),
        policy=_policy(css, script, medium),
        style=Markup(css),
        script=Markup(script),
        data=Markup(_DATA_PLACE),
    )


def check_suffix(path: Path) -> None:
    """Raise ConfigError where a report would not be called what it is."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(
            f"the report is a page and must end in .html; got {path} (for a PDF, print it from a browser)"
        )


def refuse_input(path: Path, analysis: Analysis) -> None:
    """Raise OutputError where ``path`` is the recording that was analysed."""
    source = analysis.source.path
    if source is not None and source.exists() and path.exists() and path.samefile(source):
        raise OutputError(f"{path} is the recording itself; choose another place for the output")


def _data(analysis: Analysis, medium: Medium, language: str) -> Iterator[str]:
    """What the page's script reads, as JSON in pieces: cues and windows become text some at a time, to spare memory."""
    rest = {
        "medium": medium.to_dict(),
        "language": language,
        "messages": {name: dict(messages(name)) for name in LANGUAGES},
        "answers": {name: answer_in_words(analysis, name) for name in LANGUAGES},
        "palette": palette(analysis.labels.labels).to_dict(),
    }
    yield _inert(rest).removesuffix("}") + ',"analysis":'
    yield "{"
    for name, value in analysis.header().items():
        yield f"{_inert(name)}:"
        if name == "persons":
            yield from _persons(value)
        else:
            yield from _entries(value) if isinstance(value, list) else [_inert(_rounded(value))]
        yield ","
    yield '"windows":'
    yield from _entries(analysis.windows())
    yield "}}"


def _persons(persons: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Everybody as JSON; in half an hour a face has thousands of places."""
    gap = "["
    for person in persons:
        rest = {name: value for name, value in person.items() if name != "boxes"}
        yield gap + _inert(_rounded(rest)).removesuffix("}") + ',"boxes":'
        yield from _entries(person["boxes"])
        yield "}"
        gap = ","
    yield "]" if persons else "[]"


def _entries(values: Iterable[Any]) -> Iterator[str]:
    """A list as JSON, some of its entries at a time."""
    gap, rest = "[", iter(values)
    while some := list(islice(rest, _AT_ONCE)):
        yield gap + _inert(_rounded(some))[1:-1]
        gap = ","
    yield "[]" if gap == "[" else "]"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        # Most values are text or numbers: a call for each takes longer than all the rest.
        return {
            key: item
            if item is None or isinstance(item, str)
            else round(item, _DECIMALS)
            if isinstance(item, float)
            else _rounded(item)
            for key, item in value.items()
        }
    if isinstance(value, float):
        return round(value, _DECIMALS)
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _inert(data: Any) -> str:
    """JSON that cannot end the script element that holds it, whatever names and transcripts contain."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def style() -> str:
    """The style sheet of reports, with the colours of the emotions as variables."""
    colours = "".join(f"--{name}:{colour};--on-{name}:{INKS[name]};" for name, colour in COLOURS.items())
    return f":root{{{colours}}}\n{asset('static/report.css')}"


def _script() -> str:
    """All modules as one: a page of one file has nothing to import from."""
    return "\n".join(_IMPORT.sub("", asset(f"static/{name}.js")) for name in _MODULES)


def _policy(style: str, script: str, medium: Medium) -> str:
    media = "data: file: 'self'" if medium.linked else "data:"
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        f"img-src data:; media-src {media}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
