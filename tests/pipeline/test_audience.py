"""Who may have a file: every output of the rules, what `dvc push` sends, and what the history that travels gives away."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cmcgns.errors import InputError
from cmcgns.hidden_ids import hashed, read_key, write_key
from cmcgns.pipeline import store
from cmcgns.pipeline.audience import (
    ANYONE,
    AUDIENCES,
    CONTENT,
    COUNTS,
    HOLDERS,
    LEARNT,
    MACHINE,
    audiences,
    may_travel,
    pushed,
    require,
    table,
)
from cmcgns.pipeline.fingerprint import code_of
from cmcgns.pipeline.graph import graph_of
from cmcgns.pipeline.plan import Plan
from cmcgns.pipeline.reproduce import link_raw

ROOT = Path(__file__).parents[2]
# Written by hand: outputs of a profile on downloads that not everybody may have. All others are numbers over many patients.
BOUND = {
    **dict.fromkeys(
        ["index", "images", "split", "subset", "extract_reports", "tokenize", "attention", "key"], MACHINE
    ),
    "pretrain best": HOLDERS,
    "pretrain last": HOLDERS,
    "export_trunk out": HOLDERS,
    "features out": HOLDERS,
    "finetune predictions": HOLDERS,
}


@pytest.fixture(scope="module", params=["paper", "ci"])
def study(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("Snakefile", "params.yaml", "workflow", "profiles", "src", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Plan.load(request.param), graph_of(request.param).jobs


def test_every_output_has_the_audience_that_its_history_gives_it(study):
    plan, jobs = study
    found = audiences(job.content for job in jobs)
    seen = set()
    for job in jobs:
        for name, files in job.content["outputs"].items():
            rule = "finetune" if job.rule.startswith("finetune") else job.rule
            key = rule if rule in BOUND else f"{rule} {name}"
            expected = ANYONE if plan.settings.synthetic else BOUND.get(key, ANYONE)
            if key == "export_trunk out" and ("random" in job.target or "/imagenet/" in job.target):
                expected = ANYONE  # no data are in it
            if rule == "features" and "/random" in job.target and not plan.settings.synthetic:
                expected = HOLDERS  # of images of the source that were encoded
            for file in [files] if isinstance(files, str) else files:
                assert found[file][0] == expected, file
            seen.add(key)
    assert set(BOUND) <= seen


def test_the_table_in_the_documents_is_that_of_the_rules(study):
    plan, jobs = study
    rows = table([job.content for job in jobs], {job.target: job.rule for job in jobs})
    if plan.settings.synthetic:  # the documents show that of downloads
        assert {who for *_, who in rows} == {ANYONE}
        return
    text = (ROOT / "docs/audiences.md").read_text()
    told = re.findall(r"^\| (\w+) \| (\w+) \| ([\w ]+) \| ([\w ]+) \|$", text, re.M)
    assert told == [("rule", "output", "shows", "for"), *rows]


def test_a_plain_push_sends_nothing_that_is_bound(study):
    plan, jobs = study
    profile, found = plan.settings.profile, audiences(job.content for job in jobs)
    sent = pushed(profile)
    assert f"results/{profile}/tables" in sent and f"results/{profile}/ledger.jsonl" in sent
    bound = [file for file in found if found[file][0] != ANYONE]
    assert [file for file in bound if any(f"{file}/".startswith(f"{out}/") for out in sent)] == []
    assert bool(bound) != bool(plan.settings.synthetic)
    may_travel([job.content for job in jobs], profile)


def test_a_profile_on_downloads_in_the_wrong_stage_is_refused(study, tmp_path):
    plan, jobs = study
    stages = tmp_path / "dvc.yaml"
    text = (ROOT / "dvc.yaml").read_text().replace("foreach: [demo,", "foreach: [demo, mine, paper,")
    stages.write_text(text)
    made = [job.content for job in jobs]
    if plan.settings.synthetic:
        may_travel(made, plan.settings.profile, stages)
        return
    with pytest.raises(InputError, match=r"dvc push. would send .*this machine only.*made of.*reproduce_raw"):
        may_travel(made, "paper", stages)


def one(output: str, inputs: dict[str, str], shows: str = CONTENT, sources: tuple[str, ...] = ()) -> dict:
    return {"inputs": inputs, "outputs": {"out": output}, "shows": {"out": shows}, "sources": list(sources)}


def test_what_is_made_of_little_shows_no_more_and_many_sources_bind_together():
    made = [
        one("pixels", {}, sources=("rsna",)),
        one("weights", {"images": "pixels"}, LEARNT),
        one(
            "copied weights", {"weights": "weights"}
        ),  # its rule says nothing: content of what it was made of
        one("scores", {"weights": "copied weights"}, COUNTS),
        one("film", {"images": "pixels", "scores": "scores"}),
        one("drawn", {}, sources=("synthetic",)),
        one("both", {"a": "drawn", "b": "weights"}),
        one("nothing", {}),
        one("unknown", {}, sources=("a new source",)),
    ]
    found = {file: who for file, (who, _) in audiences(reversed(made)).items()}
    assert found == {
        "pixels": MACHINE, "weights": HOLDERS, "copied weights": HOLDERS, "scores": ANYONE, "film": MACHINE,
        "drawn": ANYONE, "both": HOLDERS, "nothing": ANYONE, "unknown": MACHINE,
    }  # fmt: skip
    assert audiences(made)["both"][1] == ["rsna"]
    assert AUDIENCES == (ANYONE, HOLDERS, MACHINE)


def test_a_file_that_nobody_has_made_is_not_given_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="this machine only"):
        require("results/demo/pretrain/x/trunk.safetensors", "demo", for_holders=True)


# ---- ids ----


def test_the_key_is_random_private_and_the_same_for_synthetic_worlds(tmp_path):
    names = [tmp_path / name for name in ("a", "b", "c", "d")]
    for name in names:
        write_key(random=name.name in "ab", out=name)
        assert name.stat().st_mode & 0o777 == 0o600
    a, b, c, d = map(read_key, names)
    assert len({a, b, c}) == 3 and c == d and len(bytes.fromhex(a)) == 32
    names[0].write_text("short\n")
    with pytest.raises(InputError, match="no key of hidden ids"):
        read_key(names[0])


def test_an_id_is_hashed_with_the_key(tmp_path):
    write_key(random=True, out=tmp_path / "key")
    key = read_key(tmp_path / "key")
    slow = hmac.new(key.encode(), b"patient00001", hashlib.sha256).hexdigest()[:16]
    assert hashed("patient00001", key) == slow != hashed("patient00001", "0" * 64)


def attack(shown: set[str], ids: list[str], texts: str) -> set[str]:
    """The ids that can be told from their hashes by who has the history: every word of it, and its hash, is tried as the key."""
    words = set(re.findall(r"[\w./=+-]+", texts))
    keys = words | {hashlib.sha256(word.encode()).hexdigest() for word in words}
    known = set()
    for key in keys:
        for name in ids:
            if hmac.new(key.encode(), name.encode(), hashlib.sha256).hexdigest()[:16] in shown:
                known.add(name)
    return known


def test_the_history_that_travels_gives_no_id_back(tmp_path, monkeypatch):
    """The attack found 40 of 40 patients when the key was the hash of a table that the ledger lists."""
    import pandas as pd

    from cmcgns.evaluation.cell import write_run
    from cmcgns.files import sha256_file
    from cmcgns.parquet import read_parquet, write_parquet
    from cmcgns.pipeline import history

    monkeypatch.chdir(tmp_path)
    ids = [f"patient{n:05d}" for n in range(40)]
    images = pd.DataFrame({"image_id": [f"{name}/view1" for name in ids], "group_id": ids, "split": "test"})
    index, split, key = (
        Path("data/t", name) for name in ("index/x.parquet", "splits/x/audited.parquet", "key")
    )
    write_parquet(images, index), write_parquet(images, split)
    write_key(random=True, out=key)
    run = {"predictions": Path("results/t/finetune/p.parquet"), "metrics": Path("results/t/finetune/m.json")}
    files = {"index": index, "split": split, "key": key}
    write_run(run | files, images, {"score": 0.5}, {"metric": "AUC", "primary": 50.0}, [])
    shown = set(read_parquet(run["predictions"])["group"])
    pairs = lambda named: {name: [[str(file), sha256_file(file)]] for name, file in named.items()}  # noqa: E731
    history.note(
        {"step": "cmcgns.x.y", "code": "c" * 16, "settings": {"seed": 0}, "inputs": pairs(files), "outputs": pairs(run),
         "identity": "i" * 32, "made": {"revision": "r" * 40}, "started": 0.0, "seconds": 1.0}
    )  # fmt: skip
    history.pack("t")
    travels = history.ledger_path("t").read_text() + run["metrics"].read_text()
    assert len(shown) == 40 and sha256_file(index) in travels and sha256_file(key) in travels
    assert attack(shown, ids, travels) == set()
    assert attack(shown, ids, travels + key.read_text()) == set(ids)  # the attack does work


def test_lists_of_splits_and_audits_hold_no_label_and_no_bare_id(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "id,split,patient\n" + "".join(f"i{n},{'train' if n % 2 else 'test'},p{n // 2}\n" for n in range(20))
    )
    command = [sys.executable, "-m", "cmcgns", "audit", "table", str(labels), "--group", "patient", "--json"]
    without = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    found = json.loads(
        subprocess.run(
            [*command, "--key", str(tmp_path / "key")], capture_output=True, text=True, check=False
        ).stdout
    )
    assert not any(one["ids"] for one in without["findings"])
    (leak,) = [one for one in found["findings"] if one["ids"]]
    key = read_key(tmp_path / "key")
    assert set(leak["ids"]) <= {hashed(f"i{n}", key) for n in range(20)}


def test_not_a_byte_that_is_bound_reaches_a_remote(tmp_path, monkeypatch):
    """A plain `dvc push` of a profile on downloads whose every output is there."""
    for name in ("Snakefile", "params.yaml", "workflow", "profiles", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    jobs = [job.content for job in graph_of("real").jobs]
    found, contents = audiences(jobs), {}
    for file in found:
        contents[file] = f"what is in {file}"
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(contents[file])
    Path("results/real/ledger.jsonl").write_text("the ledger")
    for name in ("alignment", "figures", "leakage"):
        Path("results/real", name).mkdir(exist_ok=True)
    (tmp_path / ".gitignore").write_text("/src\n")

    def call(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    dvc = (sys.executable, "-m", "dvc")
    call("git", "init", "--quiet")
    call(*dvc, "init", "--quiet")
    call(*dvc, "remote", "add", "--default", "store", str(tmp_path / "remote"))
    call(*dvc, "commit", "--force", "reproduce_raw@real")
    call(*dvc, "push")
    sent = {path.read_text() for path in (tmp_path / "remote").rglob("*") if path.is_file()}
    bound = {contents[file] for file, (who, _) in found.items() if who != ANYONE}
    assert len(bound) > 100 and not bound & sent
    assert {
        "the ledger",
        contents["results/real/tables/table1.csv"],
        contents["results/real/report/index.html"],
    } <= sent


@pytest.mark.parametrize(("private", "modes"), [(True, {0o600, 0o700}), (False, {0o644, 0o755})])
def test_what_is_private_is_readable_for_its_owner_only(tmp_path, monkeypatch, private, modes):
    """Report text, as the rule of a profile on downloads hands it over."""
    report = tmp_path / "downloads/files/p10/p10000001/s50000001.txt"
    report.parent.mkdir(parents=True)
    report.write_text(" FINAL REPORT\n IMPRESSION: No acute findings seen.\n")
    step, settings = (
        "cmcgns.reports.extract.extract_reports",
        Plan.load("paper", ROOT / "params.yaml").slice("reports"),
    )
    job = {
        "step": step, "code": code_of(step), "folders": {"raw": "downloads"}, "settings": settings, "private": private,
        "outputs": {"out": "data/t/index/mimic_cxr_reports.parquet"},
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    command = ("umask 022; exec", sys.executable, "-m", "cmcgns", "step", "job.json")
    Path("job.json").write_text(json.dumps(job))
    subprocess.run(" ".join(command), shell=True, check=True, capture_output=True)
    made = [path for path in (tmp_path / "data").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in made} == modes


def test_the_folders_of_a_profile_on_downloads_are_private(tmp_path, monkeypatch):
    (tmp_path / "downloads").mkdir()
    monkeypatch.chdir(tmp_path)
    link_raw(Plan.load("paper", ROOT / "params.yaml"), Path("downloads"))
    for folder in ("data/paper", "logs/paper"):
        assert Path(folder).stat().st_mode & 0o777 == 0o700


def test_a_store_that_others_may_read_gets_nothing_private(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "store"))
    Path("results/t").mkdir(parents=True)
    Path("results/t/w").write_text("weights")
    entry = {
        "inputs": {}, "outputs": {"out": [["results/t/w", hashlib.sha256(b"weights").hexdigest()]]}, "private": True,
        "identity": "i", "made": {"packages": "", "python": "", "torch": "", "device": ""},
    }  # fmt: skip
    (tmp_path / "store").mkdir(mode=0o750)
    said: list[str] = []
    assert not store.publish(entry, said.append) and "others may read it" in said[0]
    assert store.publish(entry | {"private": False})
    (tmp_path / "store").chmod(0o700)
    assert store.publish(entry | {"identity": "j"})
