"""The compute ledger: phases add up, peaks do not, devices multiply the hours."""

from __future__ import annotations

import json

from cmcgns.reporting.compute import write_compute


def test_phases_of_an_arm_are_added_and_shared_ones_count_for_each(tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, seconds, peak in zip(files, (1800, 3600), (100.0, 300.4), strict=True):
        entry = {
            "device": "CPU x86_64, 2 thread(s)", "devices": 2, "updates": 10, "seconds": seconds,
            "image_passes_with_gradient": 640, "image_passes_without_gradient": 64, "peak_memory_mib": peak,
        }  # fmt: skip
        file.write_text(json.dumps(entry))
    runs = ["cm_cgns/stage1", "cm_cgns/stage2"]
    phases = [
        ["cm_cgns", "stage1", runs[0]],
        ["cm_cgns", "stage2", runs[1]],
        ["cm_cgns-mir", "stage1", runs[0]],
    ]
    outputs = {"csv": tmp_path / "compute.csv", "md": tmp_path / "compute.md"}
    write_compute(runs=runs, phases=phases, compute=files, **outputs)
    lines = outputs["csv"].read_text().splitlines()
    assert lines[1:] == [
        "CM-CGNS,2,1280,128,20,3.000,300,CPU x86_64 2 thread(s)",
        "mir,1,640,64,10,1.000,100,CPU x86_64 2 thread(s)",
    ]
