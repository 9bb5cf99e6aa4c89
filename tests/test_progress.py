"""How far work is: plain lines in a log, with the time left."""

from __future__ import annotations

import pytest

from cmcgns.progress import _lines, duration, progress


def test_a_log_gets_a_plain_line_at_most_so_often(capsys):
    now = [0.0]
    tick = _lines("films", 60, clock=lambda: now[0])
    for done, at in ((1, 0.0), (2, 30.0), (5, 61.0), (6, 90.0), (9, 130.0), (20, 300.0)):
        now[0] = at
        tick(done, 20)
    out, err = capsys.readouterr()
    # 4 films since the first in 61 s, so 15 more take 229 s; 8 in 130 s, so 11 more take 179 s; nothing at the end
    assert err.splitlines() == ["films: 5 of 20, 4 min left", "films: 9 of 20, 3 min left"]
    assert out == ""


def test_a_resumed_run_and_a_new_stage_start_their_clocks_anew(capsys):
    now = [0.0]
    tick = _lines("batches", 10, clock=lambda: now[0])
    for done, total, at in ((900, 1000, 0.0), (910, 1000, 10.0), (1, 50, 100.0), (11, 50, 120.0)):
        now[0] = at
        tick(done, total)
    told = capsys.readouterr().err.splitlines()
    assert told == ["batches: 910 of 1,000, 90 s left", "batches: 1 of 50", "batches: 11 of 50, 78 s left"]


def test_without_a_terminal_there_are_no_control_characters(capsys):
    with progress("films", every=0) as tick:
        for done in range(1, 4):
            tick(done, 3)
    assert "\x1b" not in capsys.readouterr().err


def test_on_a_terminal_there_is_a_bar_that_goes_away(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("cmcgns.progress.SHOW_AFTER", -1)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress("films of rsna") as tick:
        tick(1, 3)
        tick(2, 3)
        tick(1, 7)
        print("a line of the work")
    out, err = capsys.readouterr()
    assert "films of rsna" in err and "/7" in err
    assert "a line of the work" in out + err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h"),
     (172799, "48.0 h"), (172800, "2.0 d")],
)  # fmt: skip
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text
