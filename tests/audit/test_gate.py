import pytest

from cmcgns.audit.findings import Finding, write_audit
from cmcgns.audit.gate import judge, pass_gate, unused
from cmcgns.errors import InputError
from cmcgns.files import read_json


def finding(check, source, severity="critical"):
    return Finding(check, source, "official", severity, "train", "test", 1, 2, (), "mend it")


def test_critical_findings_block_unless_check_and_source_are_accepted():
    leak, other, patient = finding("A1", "siim"), finding("A1", "rsna"), finding("A2", "siim")
    mild = finding("A5", "siim", "warning")
    accept = [{"check": "A1", "source": "siim", "reason": " to show its cost "}]
    blocking, accepted = judge([leak, other, patient, mild], accept)
    assert blocking == [other, patient]
    assert accepted == [(leak, "to show its cost")]
    assert judge([mild], []) == ([], [])


@pytest.mark.parametrize("entry", [{"check": "A1", "source": "siim"}, {"check": "A1", "source": "", "reason": "x"},
                                   {"check": "A1", "source": "siim", "reason": "x", "why": "y"}])  # fmt: skip
def test_an_entry_needs_all_three_and_nothing_else(entry):
    with pytest.raises(InputError, match="audit.accept, entry 0"):
        judge([], [entry])


def test_an_entry_that_accepts_nothing_is_told():
    used = {"check": "A1", "source": "siim", "reason": "x"}
    idle = {"check": "A5", "source": "siim", "reason": "x"}
    assert unused([finding("A1", "siim"), finding("A5", "siim", "warning")], [used, idle]) == [idle]


def written(tmp_path, *findings):
    write_audit(tmp_path / "audit.json", findings)
    return tmp_path / "audit.json"


def test_the_gate_stops_a_critical_finding_of_its_scheme_only(tmp_path):
    official = finding("A2-group-overlap", "rsna")
    audit = written(tmp_path, official, finding("A5-class-balance", "rsna", "warning"))
    assert pass_gate(audit, scheme="audited", accept=[], out=tmp_path / "gate.json") == []
    with pytest.raises(InputError, match=r"A2-group-overlap in rsna \(train > test: 1 of 2 images\)") as told:
        pass_gate(audit, scheme="official", accept=[], out=tmp_path / "no.json")
    assert "audit.accept" in str(told.value) and not (tmp_path / "no.json").exists()


def test_a_wrong_file_stops_every_scheme(tmp_path):
    broken = Finding("A12-genuine-file", "siim", "", "critical", "", "", 1, 1, (), "download it again")
    with pytest.raises(InputError, match="A12-genuine-file"):
        pass_gate(written(tmp_path, broken), scheme="audited", accept=[], out=tmp_path / "gate.json")


def test_what_was_accepted_is_written_with_its_reason_and_nothing_of_other_schemes(tmp_path):
    accept = [{"check": "A2-group-overlap", "source": "rsna", "reason": "to compare with the paper"}]
    first = written(tmp_path, finding("A2-group-overlap", "rsna"))
    pass_gate(first, scheme="official", accept=accept, out=tmp_path / "a.json")
    entry = read_json(tmp_path / "a.json")["accepted"]
    assert [(e["check"], e["source"], e["count"], e["total"], e["reason"]) for e in entry] == [
        ("A2-group-overlap", "rsna", 1, 2, "to compare with the paper")
    ]
    elsewhere = Finding("A2-group-overlap", "siim", "paper", "critical", "train", "test", 5, 9, (), "x")
    pass_gate(
        written(tmp_path, finding("A2-group-overlap", "rsna"), elsewhere),
        scheme="official", accept=accept, out=tmp_path / "b.json",
    )  # fmt: skip
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_an_idle_entry_stops_the_gate_and_a_measured_leak_passes_it(tmp_path):
    audit = written(tmp_path, finding("A2-group-overlap", "rsna"))
    idle = [{"check": "A1-image-overlap", "source": "siim", "reason": "x"}]
    with pytest.raises(InputError, match="did not find"):
        pass_gate(audit, scheme="audited", accept=idle, out=tmp_path / "gate.json")
    notes = pass_gate(audit, scheme="official", accept=idle, out=tmp_path / "gate.json", measured=True)
    assert [note["reason"] for note in notes] == ["the table of leakage measures it"]
