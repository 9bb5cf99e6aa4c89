"""The section parser of MIMIC-CXR: report text -> named sections, string for string as the public one (spec data.md 1d)."""

import re
from functools import lru_cache
from typing import NamedTuple

from cmcgns.errors import InputError

_HEADER = re.compile(
    r"\n ([A-Z ()/,-]+):\s"
)  # a line that begins with exactly one blank and an upper-case name
_CAPTION = ("impression", "findings")
_GAP = "\n \n"  # a blank line: every report line begins with one blank

_SPELLINGS = {
    "preamble": ["preamble"],
    "impression": [
        "impression", "conclusion", "findings and impression", "findings/impression", "findings/ impression",
        "impresson", "imprression", "imoression", "impressoin", "imprssion", "impresion", "imperssion", "mpression",
        "impession", "ndication",
    ],
    "findings": [
        "findings", "finding", "reference findings", "chest, two views", "findins", "findindgs", "findgings",
        "findngs", "findnings", "finidngs",
    ],
    "comparison": [
        "comparison", "comparisons", "reference exam", "comparison exam", "comparison film", "comparision",
        "comparisions", "comparsion", "comparrison",
    ],
    "indication": ["indication", "reason for examination", "reason for exam", "clinical indication", "idication"],
    "examination": ["examination", "exam", "type of examination"],
    "history": ["history", "clinical history", "clinical information", "patient history", "pfi"],
    "technique": ["technique"],
    "notification": ["notification"],
    "recommendations": ["recommendation(s)", "recommendations", "recommendation"],
    "addendum": ["addendum"],
    "wet read": ["wet read", "wetread"],
    "date": ["date"],
    "comment": ["comment"],
}  # fmt: skip
_UPSTREAM = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
# Upstream reads one report's INDICATION, which lost its first letter, as an impression.
_NAME_MAPS = {"upstream": _UPSTREAM, "corrected": _UPSTREAM | {"ndication": "indication"}}

_MAIN = ("impression", "findings", "history", "comparison", "addendum")
_DESCRIBES_VIEW = (
    "chest", "portable", "pa and lateral", "lateral and pa", "ap and lateral", "lateral and ap", "frontal and",
    "two views", "frontal view", "pa view", "ap view", "one view", "lateral view", "bone window", "frontal upright",
    "frontal semi-upright", "ribs", "pa and lat",
)  # fmt: skip


class Sections(NamedTuple):
    """Two lists of one length, in the order of the text; a name may occur more than once."""

    names: list[str]
    texts: list[str]


@lru_cache(maxsize=8192)  # a few thousand spellings head all of MIMIC-CXR's 1.2 million sections
def section_name(header: str, misspellings: str = "upstream") -> str:
    """The section that a header stands for: "CHEST, PA AND LATERAL" -> "findings"; unknown ones in lower case.

    Args:
        header: the text between the blank and the colon.
        misspellings: "upstream" or "corrected" ("NDICATION" is an indication, not an impression).
    """
    if misspellings not in _NAME_MAPS:
        raise InputError(f"misspellings is {misspellings!r}", expected=" or ".join(map(repr, _NAME_MAPS)))
    name = header.lower().strip()
    if name in (known := _NAME_MAPS[misspellings]):
        return known[name]
    for main in _MAIN:
        if main in name:
            return main
    return "findings" if any(words in name for words in _DESCRIBES_VIEW) else name


def split_sections(text: str, *, misspellings: str = "upstream") -> Sections:
    """Split a report at its headers, drop blank impressions and findings, else set the last paragraphs apart.

    Args:
        text: the report, with newlines as `open(...)` reads them (no carriage returns).
        misspellings: "upstream" or "corrected", see `section_name`.
    """
    # Upstream searches on from the first newline of each body; a header begins with a newline, so the next match is
    # the same, and one split finds them all.
    parts = _HEADER.split(text)
    texts, headers = parts[::2], parts[1::2]
    names = [
        "preamble" if headers else "full report",
        *(section_name(header, misspellings) for header in headers),
    ]
    if headers:
        texts[0] += "\n "  # upstream's preamble ends where the header's name begins

    # A blank one is a title such as "CHEST, PA AND LATERAL:", not a section.
    blank = [i for i, name in enumerate(names) if name in _CAPTION and not texts[i].strip()]
    for i in reversed(blank):
        del names[i], texts[i]
    if "impression" not in names and "findings" not in names and _GAP in texts[-1]:
        texts[-1], _, rest = texts[-1].partition(_GAP)
        texts.append(rest)
        names.append("last_paragraph")
    return Sections(names, texts)
