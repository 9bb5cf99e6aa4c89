"""The section parser: every rule of spec data.md 1d by itself, then a slow literal reading of the spec on random texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.errors import InputError
from cmcgns.reports.sections import section_name, split_sections

# The table of spec data.md 1d, section by section, semicolons between the raw names.
NAME_TABLE = {
    "preamble": "preamble",
    "impression": "impression;conclusion;findings and impression;findings/impression;findings/ impression;ndication;"
    "impresson;imprression;imoression;impressoin;imprssion;impresion;imperssion;mpression;impession",
    "findings": "findings;finding;reference findings;chest, two views;findins;findindgs;findgings;findngs;findnings;"
    "finidngs",
    "comparison": "comparison;comparisons;reference exam;comparison exam;comparison film;comparision;comparsion;"
    "comparrison;comparisions",
    "indication": "indication;reason for examination;reason for exam;clinical indication;idication",
    "examination": "examination;exam;type of examination",
    "history": "history;clinical history;clinical information;patient history;pfi",
    "technique": "technique",
    "notification": "notification",
    "recommendations": "recommendation(s);recommendations;recommendation",
    "addendum": "addendum",
    "wet read": "wet read;wetread",
    "date": "date",
    "comment": "comment",
}
NAMES = {raw: name for name, raws in NAME_TABLE.items() for raw in raws.split(";")}
MAIN = ["impression", "findings", "history", "comparison", "addendum"]
VIEWS = [
    "chest",
    "portable",
    "pa and lateral",
    "lateral and pa",
    "ap and lateral",
    "lateral and ap",
    "frontal and",
    "two views",
    "frontal view",
    "pa view",
    "ap view",
    "one view",
    "lateral view",
    "bone window",
    "frontal upright",
    "frontal semi-upright",
    "ribs",
    "pa and lat",
]


def pairs(text: str) -> list[tuple[str, str]]:
    return list(zip(*split_sections(text), strict=True))


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(("raw", "name"), NAMES.items())
def test_each_name_of_the_map(raw, name):
    assert section_name(raw.upper()) == name
    assert section_name(f"  {raw.upper()} ") == name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("FINAL IMPRESSION", "impression"),
        ("CHEST FINDINGS", "findings"),
        (
            "FINDINGS AND IMPRESSIONS",
            "impression",
        ),  # the first of the list that is part of the name, not of the text
        ("HISTORY AND COMPARISON", "history"),
        ("COMPARISON AND ADDENDUM", "comparison"),
        ("SECOND ADDENDUM", "addendum"),
        ("COMPARISON CHEST RADIOGRAPH", "comparison"),  # main sections go before views
    ],
)
def test_a_main_section_within_the_name(header, name):
    assert section_name(header) == name


@pytest.mark.parametrize("words", VIEWS)
def test_a_view_within_the_name_is_findings(words):
    assert section_name(f"NEW {words.upper()}, DONE") == "findings"


@pytest.mark.parametrize(
    "header", ["NOTE", "FULL REPORT", "PA", "LATERAL", "WET-READ", "RIB SERIES", "TECHNIQUES"]
)
def test_other_names_stay_in_lower_case(header):
    assert section_name(header) == header.lower()


def test_the_misspelt_indication():
    assert section_name("NDICATION") == "impression"
    assert section_name("NDICATION", "corrected") == "indication"
    assert section_name("MPRESSION", "corrected") == "impression"
    text = "x\n NDICATION: cough\n"
    assert split_sections(text).names == ["preamble", "impression"]
    assert split_sections(text, misspellings="corrected").names == ["preamble", "indication"]


def test_unknown_misspellings_option():
    with pytest.raises(InputError, match="'upstream' or 'corrected'"):
        split_sections("x\n A: b", misspellings="both")


# ----------------------------------------------------------------------------------------------- headers


def test_a_whole_report():
    text = "   FINAL REPORT\n INDICATION:  Cough.\n \n FINDINGS: \n \n Clear.\n \n IMPRESSION: No change.\n"
    assert pairs(text) == [
        ("preamble", "   FINAL REPORT\n "),
        ("indication", " Cough.\n "),
        ("findings", "\n \n Clear.\n "),
        ("impression", "No change.\n"),
    ]


def test_no_header_is_one_section():
    assert pairs("just text. IMPRESSION: none") == [("full report", "just text. IMPRESSION: none")]
    assert pairs("") == [("full report", "")]


@pytest.mark.parametrize(
    "line",
    [
        "IMPRESSION: x",  # no blank
        "  impression: x",  # lower case
        " Impression: x",
        " IMPRESSION x",  # no colon
        " IMPRESSION:x",  # no white space behind the colon
        " T2: x",  # a digit
        " A_B: x",
        " : x",  # no name
        "\tIMPRESSION: x",
    ],
)
def test_lines_that_are_no_header(line):
    assert split_sections(f"a\n{line}").names == ["full report"]


def test_a_header_on_the_first_line_is_not_seen():
    assert split_sections(" IMPRESSION: x").names == ["full report"]


def test_a_header_at_the_very_end_needs_white_space():
    assert split_sections("a\n NOTE:").names == ["full report"]
    assert pairs("a\n NOTE:\n") == [("preamble", "a\n "), ("note", "")]


@pytest.mark.parametrize(
    "header", ["A", "PA/LAT", "X-RAY", "RECOMMENDATION(S)", "  TWO  BLANKS  ", "(", "-", " "]
)
def test_characters_of_a_name(header):
    assert split_sections(f"a\n {header}: x").names == ["preamble", section_name(header)]


@pytest.mark.parametrize("white", [" ", "\n", "\t", "\x0b", "\x1c", "\x85", "\xa0", "\u2003"])
def test_any_white_space_ends_a_header(white):
    assert pairs(f"a\n NOTE:{white}x") == [("preamble", "a\n "), ("note", "x")]


def test_a_header_behind_an_empty_header_line_is_not_seen():
    # The newline behind "NOTE:" belongs to that header, so " DATE: b" has no newline of its own.
    assert pairs("a\n NOTE:\n DATE: b\n") == [("preamble", "a\n "), ("note", " DATE: b\n")]


def test_a_header_behind_a_header_line_that_ends_in_a_blank_is_seen():
    assert pairs("a\n NOTE: \n DATE: b") == [("preamble", "a\n "), ("note", ""), ("date", "b")]


# --------------------------------------------------------------------------------------- post-processing


def test_blank_findings_and_impressions_are_removed_wherever_they_are():
    text = "a\n CHEST, PA LATERAL: \n \n FINDINGS: seen\n IMPRESSION: \n \t\n FINDINGS:  \n"
    assert pairs(text) == [("preamble", "a\n "), ("findings", "seen")]


def test_other_blank_sections_stay():
    assert pairs("a\n NOTE:  \n COMPARISON:  \n IMPRESSION: x")[1:3] == [
        ("note", " "),
        ("comparison", " "),
    ]


def test_last_paragraph():
    text = "a\n COMPARISON: none\n \n The lungs\n are clear.\n \n No more."
    assert pairs(text) == [
        ("preamble", "a\n "),
        ("comparison", "none"),
        ("last_paragraph", " The lungs\n are clear.\n \n No more."),
    ]


def test_last_paragraph_of_a_report_without_headers():
    assert pairs("one\n \n two\n \n three") == [
        ("full report", "one"),
        ("last_paragraph", " two\n \n three"),
    ]


def test_last_paragraph_of_a_preamble_whose_only_section_was_blank():
    assert pairs("one\n \n two\n IMPRESSION: \n") == [
        ("preamble", "one"),
        ("last_paragraph", " two\n "),
    ]


def test_no_last_paragraph_without_a_gap_or_beside_findings_or_impression():
    assert split_sections("a\n NOTE: b\n  \n c").names == ["preamble", "note"]  # two blanks are no gap
    assert split_sections("a\n FINDINGS: b\n NOTE: c\n \n d").names == ["preamble", "findings", "note"]
    assert split_sections("a\n IMPRESSION: b\n NOTE: c\n \n d").names == ["preamble", "impression", "note"]


def test_only_the_last_section_is_cut():
    assert split_sections("a\n \n b\n NOTE: c\n \n d\n DATE: e").names == ["preamble", "note", "date"]


# ---------------------------------------------------------------------------------------- slow reference


def slow_name(raw: str) -> str:
    """Spec data.md 1d, name normalisation, word for word."""
    raw = raw.lower().strip()
    if raw in NAMES:
        return NAMES[raw]
    for main in MAIN:
        if raw.find(main) >= 0:
            return main
    for view in VIEWS:
        if raw.find(view) >= 0:
            return "findings"
    return raw


def slow_sections(text: str) -> list[tuple[str, str]]:
    """Spec data.md 1d, scan and post-processing, word for word, one header at a time."""
    header = re.compile(r"\n ([A-Z ()/,-]+):\s", re.DOTALL)
    match = header.search(text)
    found = [("full report", text)] if match is None else [("preamble", text[: match.start(1)])]
    while match is not None:
        start = match.end()
        newline = text[start:].find("\n")
        following = header.search(text, start + (newline if newline != -1 else 0))
        stop = len(text) if following is None else following.start()
        found.append((slow_name(match.group(1)), text[start:stop]))
        match = following
    for i in reversed(range(len(found))):
        if found[i][0] in ("impression", "findings") and found[i][1].strip() == "":
            found.pop(i)
    if not any(name in ("impression", "findings") for name, _ in found) and "\n \n" in found[-1][1]:
        name, body = found.pop()
        paragraphs = body.split("\n \n")
        found.append((name, paragraphs[0]))
        found.append(("last_paragraph", "\n \n".join(paragraphs[1:])))
    return found


PIECES = [
    "\n", " ", "\n ", "\n \n", ":", ": ", ":\n", "IMPRESSION", "FINDINGS", "\n IMPRESSION: ", "\n FINDINGS:\n",
    "\n NDICATION: ", "CHEST, PA AND LATERAL", "\n COMPARISON: ", "NOTE", "A", "(S)", "-", "/", ",", "x.", "a b", "\t",
    "\x0b", "\x1c", "\xa0", "é", "_", "2",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_random_reports_against_the_slow_reading(text):
    assert pairs(text) == slow_sections(text)


@settings(max_examples=300, deadline=None)
@given(st.text("\n A:x(,", max_size=60))
def test_random_characters_against_the_slow_reading(text):
    assert pairs(text) == slow_sections(text)
