"""Caption -> sentences: every rule of spec data.md 1c by itself, the vectors of method.md 11.7, a slow literal reading."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.errors import InputError
from cmcgns.reports.sentences import count_tokens, split_sentences


@pytest.mark.parametrize(
    ("caption", "sentences"),
    [  # spec method.md 11.7
        (
            "1. Mild cardiomegaly.\n2. No pleural effusion or pneumothorax.",
            ["mild cardiomegaly", "no pleural effusion or pneumothorax"],
        ),
        ("Nodule measures 2.5 cm in diameter. Normal.", ["nodule measures", "5 cm in diameter"]),
        ("Compared to ___, lungs are clear.", ["compared to ___ lungs are clear"]),
        ("Normal.", []),
        ("No change.", ["no change"]),  # two tokens: the report is refused, not the sentence
        (
            "Lungs clear. No effusion. The heart is normal in size.",
            ["lungs clear", "no effusion", "the heart is normal in size"],
        ),
        (
            "AP chest compared to ___ 10:15 a.m.: Left-sided port-a-cath.",
            ["ap chest compared to ___ 10 15 a", "left sided port a cath"],
        ),
    ],
)
def test_vectors(caption, sentences):
    assert split_sentences(caption) == sentences


@pytest.mark.parametrize(
    ("caption", "sentences"),
    [
        ("", []),
        (" . .. 1. 2.3. ", []),
        ("a b", ["a b"]),
        ("A B\nC", ["a b c"]),  # a newline is a blank
        ("no full stop at the end", ["no full stop at the end"]),
        ("seen at T12. no fracture", ["seen at t", "no fracture"]),  # the digits go, wherever they stand
        ("series 12 . image 3", ["series 12", "image 3"]),  # only digits right before the full stop go
        ("size is 12", ["size is 12"]),  # no full stop behind the last number
        ("in 1.2.3.4 cm", ["4 cm"]),
        ("a b! c? d; e", ["a b c d e"]),  # other marks end no sentence
        ("it's non-focal (left>right)", ["it s non focal left right"]),
        ("x_y __ z", ["x_y __ z"]),  # an underscore belongs to a token
        ("tab\tand\x0bfeed\x00nul", ["tab and feed nul"]),
    ],
)
def test_rules(caption, sentences):
    assert split_sentences(caption) == sentences


@pytest.mark.parametrize(
    ("caption", "sentences"),
    [
        ("caf\u00e9 open", ["caf open"]),  # characters that are not ASCII leave their token
        ("\u00e9 open", ["open"]),  # tokens are counted before, so the sentence stays with one
        ("\u00e9 \u00e8", []),  # nothing is left
        ("\u00e9", []),
        ("left\ufffd\ufffdright lung", ["left right lung"]),
        ("left\ufffdright lung", ["left right lung"]),
        ("5\u00b0. of tilt", ["of tilt"]),
        ("37 \u00b0. of tilt", ["of tilt"]),
        (
            "\u0663. two words",
            ["two words"],
        ),  # only ASCII digits number a list; the arabic one is a lone token
        ("at \u0663. two words", ["at", "two words"]),
        (
            "\u212aELVIN and\u00a0non\u2013breaking",
            ["kelvin and non breaking"],
        ),  # lower-cased before it is stripped
    ],
)
def test_characters_beyond_ascii(caption, sentences):
    assert split_sentences(caption) == sentences


def test_min_tokens():
    assert split_sentences("Normal. No change. All is well.", min_tokens=1) == [
        "normal",
        "no change",
        "all is well",
    ]
    assert split_sentences("Normal. No change. All is well.", min_tokens=3) == ["all is well"]


def test_deid_marks_dropped():
    caption = "Compared to ___, clear. In ___. On ___ 5___. Dr___Who left"
    assert split_sentences(caption) == ["compared to ___ clear", "in ___", "on ___ 5___", "dr___who left"]
    # Of the second sentence one token remains: too short.
    assert split_sentences(caption, deid="drop") == ["compared to clear", "on 5", "drwho left"]
    assert split_sentences("\u00e9 ___", deid="drop") == []


def test_unknown_deid():
    with pytest.raises(InputError, match="'keep' or 'drop'"):
        split_sentences("a b", deid="mask")


def test_count_tokens():
    assert count_tokens([]) == 0
    assert count_tokens(["open"]) == 1
    assert count_tokens(["lungs clear", "no effusion seen"]) == 5


def slow_sentences(caption: str, min_tokens: int, deid: str) -> list[str]:
    """Spec data.md 1c, steps 1 to 3, word for word."""
    sentences = []
    for numbered in re.split(r"[0-9]+\.", caption.replace("\n", " ")):
        for piece in numbered.split("."):
            piece = piece.replace("\ufffd\ufffd", " ").lower()
            if deid == "drop":
                piece = re.sub("_+", "", piece)
            tokens = re.findall(r"\w+", piece)
            if len(tokens) < min_tokens:
                continue
            tokens = ["".join(c for c in token if ord(c) < 128) for token in tokens]
            tokens = [token for token in tokens if token != ""]
            if tokens:
                sentences.append(" ".join(tokens))
    return sentences


PIECES = [
    "No",
    "effusion",
    " ",
    " ",
    ".",
    "1",
    "2",
    "1.",
    "\n",
    "_",
    "___",
    "-",
    "A",
    ",",
    "\u00e9",
    "\ufffd",
    "\u0130",
]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
    st.integers(1, 3),
    st.sampled_from(["keep", "drop"]),
)
def test_random_captions_against_the_slow_reading(caption, min_tokens, deid):
    assert split_sentences(caption, min_tokens=min_tokens, deid=deid) == slow_sentences(
        caption, min_tokens, deid
    )


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_text_against_the_slow_reading(caption):
    assert split_sentences(caption) == slow_sentences(caption, 2, "keep")
