"""Caption -> sentences, as the official pre-training data set cuts them (spec data.md 1c, method.md 8.3)."""

import re

from cmcgns.errors import InputError

_TOKEN = re.compile(r"\w+")
_DIGITS = "0123456789"
# Byte -> itself in lower case where it belongs to a token or ends a sentence, else a blank.
_ASCII_TEXT = bytes(
    ord(c.lower() if c.isalnum() or c in "_." else " ") for c in map(chr, range(128))
) + bytes(128)

DEID = ("keep", "drop")


def split_sentences(caption: str, *, min_tokens: int = 2, deid: str = "keep") -> list[str]:
    """Cut at list numbers ("1.") and full stops; tokens are runs of `\\w` in lower case, joined by one blank.

    Decimals are cut ("2.5 cm" ends a sentence before the 2 and goes on with "5 cm"), hyphens vanish, non-ASCII
    characters are stripped from tokens.

    Args:
        caption: any text; newlines are blanks.
        min_tokens: shorter sentences are dropped; counted before non-ASCII characters are stripped.
        deid: "keep" leaves the de-identification mark `___` as a token, "drop" maps it to nothing.
    """
    if deid not in DEID:
        raise InputError(f"deid is {deid!r}", expected=" or ".join(map(repr, DEID)))
    caption += " "  # so that no number stands at the very end, where no full stop follows
    # One table look-up a character instead of a regular expression: almost all reports are ASCII.
    is_ascii = caption.isascii()
    text = caption.encode().translate(_ASCII_TEXT).decode() if is_ascii else caption.lower()
    sentences = []
    for piece in text.split("."):
        piece = piece.rstrip(_DIGITS)  # a number goes with its full stop: list numbering
        if deid == "drop":
            piece = piece.replace("_", "")
        tokens = piece.split() if is_ascii else _TOKEN.findall(piece)
        if len(tokens) < min_tokens:
            continue
        sentence = " ".join(tokens)
        if not is_ascii:  # tokens without any ASCII character leave nothing
            sentence = " ".join(sentence.encode("ascii", "ignore").decode().split())
        if sentence:
            sentences.append(sentence)
    return sentences


def count_tokens(sentences: list[str]) -> int:
    """The tokens of all sentences together."""
    return " ".join(sentences).count(" ") + 1 if sentences else 0
