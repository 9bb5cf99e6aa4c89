"""The compute ledger: phases add up, peaks do not, devices multiply the hours."""

from __future__ import annotations

import json
from pathlib import Path

from cmcgns.pipeline.paths import Paths
from cmcgns.reporting.compute import write_compute


def test_phases_of_an_arm_are_added_and_shared_ones_count_for_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, seconds, peak in (("a", 1800, 100.0), ("b", 3600, 300.4)):
        Path(folder).mkdir()
        entry = {
            "device": "CPU x86_64, 2 thread(s)", "devices": 2, "updates": 10, "seconds": seconds,
            "image_passes_with_gradient": 640, "image_passes_without_gradient": 64, "peak_memory_mib": peak,
        }  # fmt: skip
        (Path(folder) / "compute.json").write_text(json.dumps(entry))
    phases = [["cm_cgns", "stage1", "a"], ["cm_cgns", "stage2", "b"], ["cm_cgns-mir", "stage1", "a"]]
    write_compute(Paths("t"), phases=phases)
    lines = Path(Paths("t").table("compute", "csv")).read_text().splitlines()
    assert lines[1:] == [
        "CM-CGNS,2,1280,128,20,3.000,300,CPU x86_64 2 thread(s)",
        "mir,1,640,64,10,1.000,100,CPU x86_64 2 thread(s)",
    ]
