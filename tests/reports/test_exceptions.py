"""The 54 studies that the public parser treats by hand."""

from __future__ import annotations

from collections import Counter

from cmcgns.reports.exceptions import CHARACTER_RANGES, NAMED_SECTIONS


def test_counts_of_spec_1d():
    assert len(CHARACTER_RANGES) == 31
    assert sum(span == (0, 0) for span in CHARACTER_RANGES.values()) == 8
    assert len(NAMED_SECTIONS) == 23
    assert not CHARACTER_RANGES.keys() & NAMED_SECTIONS.keys()
    assert Counter(NAMED_SECTIONS.values()) == {
        "recommendations": 7, "indication": 6, "examination": 5, "technique": 3, "note": 1, "history": 1,
    }  # fmt: skip


def test_ids_and_ranges_are_well_formed():
    for study in [*CHARACTER_RANGES, *NAMED_SECTIONS]:
        assert len(study) == 8
        assert study[0] == "5"
        assert study.isdigit()
    for start, stop in CHARACTER_RANGES.values():
        assert 0 <= start <= stop < 1000


def test_some_entries():
    assert CHARACTER_RANGES["50525523"] == (201, 349)
    assert CHARACTER_RANGES["52119491"] == (179, 454)
    assert CHARACTER_RANGES["52035334"] == (0, 0)
    assert NAMED_SECTIONS["56451190"] == "note"
    assert NAMED_SECTIONS["58375018"] == "recommendations"
