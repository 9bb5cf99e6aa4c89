import hashlib
import hmac

import pytest

from cmcgns.audit.findings import Fact, Finding, hash_examples, to_document, write_audit
from cmcgns.evaluation.cell import hashed
from cmcgns.files import read_json

FOUND = Finding("A1-image-overlap", "rsna", "paper", "warning", "train", "test", 1, 2, ("ab",), "mend it")


def test_json_has_the_agreed_keys(tmp_path):
    write_audit(tmp_path / "audit.json", [FOUND], [Fact("A4-counts", "rsna", "", "ok")])
    document = read_json(tmp_path / "audit.json")
    assert list(document) == ["facts", "findings"]
    assert document["findings"] == [
        {"check": "A1-image-overlap", "source": "rsna", "scheme": "paper", "severity": "warning", "split_a": "train",
         "split_b": "test", "count": 1, "total": 2, "ids": ["ab"], "what_to_do": "mend it", "task": "",
         "unit": "images", "detail": ""}
    ]  # fmt: skip


def test_the_worst_comes_first_and_severities_are_known():
    worse = Finding("B", "rsna", "", "critical", "", "", 1, 1, (), "x")
    assert [f["severity"] for f in to_document([FOUND, worse])["findings"]] == ["critical", "warning"]
    with pytest.raises(ValueError, match="fatal"):
        Finding("B", "rsna", "", "fatal", "", "", 1, 1, (), "x")


def test_ids_are_hashed_as_in_predictions():
    ids = hash_examples([f"i{n:02d}" for n in range(30)] + ["i00"], "key")
    assert ids == tuple(hashed(f"i{n:02d}", "key") for n in range(20))
    assert ids[0] == hmac.new(b"key", b"i00", hashlib.sha256).hexdigest()[:16]
