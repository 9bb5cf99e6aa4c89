import pytest

from cmcgns.audit.findings import Finding
from cmcgns.audit.gate import judge, unused
from cmcgns.errors import InputError


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
