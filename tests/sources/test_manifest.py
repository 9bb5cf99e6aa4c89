"""A manifest tells which raw files are those of the study."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from cmcgns.errors import InputError
from cmcgns.sources.manifest import compare, digest, read_manifest, write_manifest


@pytest.fixture
def raw(tmp_path) -> Path:
    """Two files, one of them behind a link to a folder."""
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (elsewhere / "a.dcm").write_bytes(b"film")
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "rsna").symlink_to(elsewhere)
    (folder / "labels.csv").write_text("x")
    return folder


def test_it_holds_the_sha256_of_every_file_and_other_tools_read_it(raw, tmp_path):
    out = tmp_path / "raw.sha256"
    entries = write_manifest(raw, out)
    assert entries == {
        "labels.csv": hashlib.sha256(b"x").hexdigest(),
        "rsna/a.dcm": hashlib.sha256(b"film").hexdigest(),
    }
    assert read_manifest(out) == entries
    subprocess.run(["sha256sum", "--check", "--strict", str(out)], cwd=raw, check=True, capture_output=True)


def test_what_differs_is_named(raw, tmp_path):
    entries = write_manifest(raw, tmp_path / "m")
    assert compare(raw, entries) == ([], [], [])
    (raw / "rsna/a.dcm").write_bytes(b"other")
    (raw / "labels.csv").rename(raw / "names.csv")
    assert compare(raw, entries) == (["rsna/a.dcm"], ["labels.csv"], ["names.csv"])


def test_the_digest_is_that_of_the_content_not_of_the_place(raw, tmp_path):
    first = write_manifest(raw, tmp_path / "m")
    shutil.copytree(raw, tmp_path / "copy")
    second = write_manifest(tmp_path / "copy", tmp_path / "n")
    assert digest(first) == digest(second) and digest(first) == digest(dict(reversed(first.items())))
    assert digest(first) != digest(first | {"labels.csv": "0" * 64})


def test_faults_end_in_a_message(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_manifest(tmp_path / "none")
    (tmp_path / "bad").write_text("12  a\n")
    with pytest.raises(InputError, match="row 1"):
        read_manifest(tmp_path / "bad")
    with pytest.raises(InputError, match="no files"):
        write_manifest(tmp_path / "empty", tmp_path / "m")
