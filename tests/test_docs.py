"""What the documents say is so: every command parses, cheap ones are run, every link leads somewhere.

A command is a line of a ```bash block, or inline code that begins with one of our programs. Words in capitals (`FOLDER`) stand for the
reader's own; `STAND_INS` has what a test puts there.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from cmcgns.cli import app, run
from cmcgns.pipeline.plan import Plan
from cmcgns.settings import load

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LANGUAGES = ("bash", "python", "text", "yaml")
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STAND_IN_IDS = {"FOLDER": "downloads", "DIR": "downloads", "FILE.csv": "split.csv", "REPORTS_DIR": "reports"}
CAPITALS = re.compile(r"[A-Z][A-Z_]+(\.csv)?")


class Block(NamedTuple):
    document: Path
    language: str
    text: str


class Command(NamedTuple):
    """`whole`: from a block, to be typed as it is; not just named in a sentence, where arguments may be missing."""

    document: str
    words: tuple[str, ...]
    whole: bool


def prose(document: Path) -> str:
    """A document without comments; fenced blocks are still in it."""
    return re.sub(r"<!--.*?-->", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)


FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def blocks() -> Iterator[Block]:
    for document in DOCUMENTS:
        for found in FENCE.finditer(prose(document)):
            yield Block(document, found[1], found[2])


def inline_code(document: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", prose(document)))


# -- commands ------------------------------------------------------------------------------------------------------


def lines(text: str) -> Iterator[str]:
    """Command lines; a backslash at the end goes on in the next one."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.strip().startswith("#"):
            yield line


def simple_commands(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a line between `&&`, `|` and `;`, without variables before them and redirections after them."""
    splitter = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
    splitter.whitespace_split = True
    words: list[str] = []
    for word in [*splitter, ";"]:
        if set(word) <= set("&|;"):
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words:
                yield tuple(words[: words.index(">")] if ">" in words else words)
            words = []
        else:
            words.append(word)


def program(word: str) -> str:
    """`.venv/bin/cmcgns` is `cmcgns`."""
    return word.removeprefix(".venv/bin/")


def commands() -> list[Command]:
    found = [
        Command(block.document.name, words, True)
        for block in blocks()
        if block.language == "bash"
        for line in lines(block.text)
        for words in simple_commands(line)
    ]
    for document in DOCUMENTS:
        for code in inline_code(document):
            if re.match(r"(\.venv/bin/)?(cmcgns|dvc|make|snakemake) ", code):
                found += [Command(document.name, words, False) for words in simple_commands(code)]
    return list(dict.fromkeys(found))


def check_cmcgns(words: list[str], whole: bool) -> None:
    import typer

    command, path = typer.main.get_command(app), []
    while (children := getattr(command, "commands", None)) and words and not words[0].startswith("-"):
        path.append(words.pop(0))
        assert path[-1] in children, f"no command cmcgns {' '.join(path)}"
        command = children[path[-1]]
    if set(words) & {"-h", "--help"}:
        return
    try:
        command.make_context(" ".join(path), words)
    except Exception as error:  # what a user would see
        if whole or type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError"):
            raise


def check_make(words: list[str], whole: bool) -> None:
    """The Makefile itself says whether it knows them."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, equals, _ = word.partition("=")
        if equals:
            assert re.search(rf"^{name} \?=", text, re.MULTILINE), f"the Makefile has no variable {name}"
    done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def check_snakemake(words: list[str], whole: bool) -> None:
    from snakemake.cli import get_argument_parser

    known = get_argument_parser().parse_args(words)
    for target in known.targets:
        plan = Plan.load(target.split("/")[1])
        cells = {f"{plan.cell_folder(cell)}/metrics.json" for cell in plan.cells()}
        assert target in {*cells, plan.paths.report}


def check_dvc(words: list[str], whole: bool) -> None:
    from dvc.cli.parser import get_main_parser

    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    stages = {f"{name}@{item}" for name, stage in pipeline.items() for item in stage["foreach"]}
    outputs = {
        list(output)[0].replace("${item}", item)
        for stage in pipeline.values()
        for item in stage["foreach"]
        for output in stage["do"]["outs"]
    }
    if not whole and len(words) == 1:  # `dvc metrics`, named in a sentence
        words = [*words, "--help"]
    try:
        known = get_main_parser().parse_args(words)
    except SystemExit as error:
        assert error.code == 0, f"dvc does not know {words}"
        return
    for target in getattr(known, "targets", None) or []:
        if words[0] in ("repro", "pull", "push", "exp", "status"):
            assert target in stages | outputs, f"{target} is no stage or output of dvc.yaml"


def check_python(words: list[str], whole: bool) -> None:
    if words[0] == "-m":
        assert words[1] in ("pytest", "venv", "http.server"), words
        files = [word.split("::")[0] for word in words[2:] if word.startswith("tests/")]
    elif words[0] == "-c":
        compile(words[1], "<document>", "exec")
        files = []
    else:
        files = words[:1]
        source = (ROOT / words[0]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in source for word in words if word.startswith("--")), words
    assert all((ROOT / file).exists() for file in files), files


def check_files(words: list[str], whole: bool) -> None:
    missing = [word for word in words if "/" in word and not word.startswith((".venv/", "-"))]
    assert all((ROOT / word).exists() for word in missing), missing


CHECKS: dict[str, Callable[[list[str], bool], None]] = {
    "cmcgns": check_cmcgns,
    "make": check_make,
    "snakemake": check_snakemake,
    "dvc": check_dvc,
    "python": check_python,
    "ruff": check_files,
    "lint-imports": check_files,
    "git": lambda words, whole: None,
    "cd": lambda words, whole: None,
    ".": lambda words, whole: None,  # activates the environment
}


def told(command: Command) -> str:
    return f"{command.document}: {' '.join(command.words)}"


@pytest.mark.parametrize("command", commands(), ids=told)
def test_every_command_is_one(command):
    name, *words = command.words
    assert program(name) in CHECKS, f"unknown program {name}"
    CHECKS[program(name)](words, command.whole)
    for profile in re.findall(r"(?:--profile |[Pp][Rr][Oo][Ff][Ii][Ll][Ee]=)(\S+)", " ".join(words)):
        assert profile in PARAMS["profiles"], f"no profile {profile}"


def test_the_checks_find_what_is_wrong():
    """Each of them, on a command that is almost right."""
    for line in (
        "cmcgns trase x",
        "cmcgns methods --jsn",
        "cmcgns audit lables DIR",
        "cmcgns table 7",
        "make dmo",
        "make reproduce PROFIL=demo",
        "snakemake --dry-runn",
        "snakemake results/demo/finetune/cm_cgns/detection-siim/10/seed-0/metrics.json",
        "dvc repo reproduce@demo",
        "dvc repro reproduce@dmo",
        "dvc pull results/demo/table",
        "python benchmarks/job_grph.py",
        "python benchmarks/job_graph.py --kill 3",
    ):
        ((name, *words),) = simple_commands(line)
        with pytest.raises((Exception, SystemExit)):
            CHECKS[name](words, True)


READ_ONLY = {
    ("cmcgns", "methods"): (0,),
    ("cmcgns", "doctor"): (1,),  # five of the six data sets are not there
    ("cmcgns", "audit", "labels"): (0, 1),
    ("cmcgns", "audit", "table"): (1,),  # the patient below is on both sides
    ("cmcgns", "reports", "extract"): (0,),
    ("cmcgns", "plan"): (0,),
    ("cmcgns", "status"): (0,),
}
"""Commands that cost nothing and change nothing, and the exit status that is right for the stand-ins."""


def cheap() -> list[Command]:
    """Each once, whatever the number of documents it is in."""
    found = {}
    for command in commands():
        words = (program(command.words[0]), *command.words[1:])
        if any(words[: len(start)] == start for start in READ_ONLY) or words[-1] == "-h":
            found.setdefault(words, command._replace(words=words))
    return list(found.values())


@pytest.fixture
def stand_ins(tmp_path, monkeypatch) -> Path:
    """A folder with what capitals stand for, and a copy of the settings."""
    siim = tmp_path / "downloads/siim"
    siim.mkdir(parents=True)
    codes = "".join(f"1.2.{n}, {'10 2 5 3' if n % 2 else '-1'}\n" for n in range(20))
    (siim / "train-rle.csv").write_text(f"ImageId, EncodedPixels\n{codes}")
    (tmp_path / "split.csv").write_text("image,patient,split,y\na.png,1,train,0\nb.png,1,test,1\n")
    (tmp_path / "IMAGES").mkdir()
    (tmp_path / "MAP.csv").write_text("image,group\n1.2.0,1\n")
    study = tmp_path / "reports/files/p10/p10000001/s50000001.txt"
    study.parent.mkdir(parents=True)
    study.write_text(" FINAL REPORT\n IMPRESSION: No acute findings.\n")
    for name in ("params.yaml", "Snakefile", "workflow", "profiles", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", cheap(), ids=told)
def test_cheap_commands_are_run(command, stand_ins, capsys):
    words = [STAND_IN_IDS.get(word, word) for word in command.words[1:]]
    if "IMAGES" in words:  # pixels cost something; the fixture has none
        at = words.index("--image-root")
        del words[at : at + 2]
    if "-h" not in words and not [word for word in words[1:] if not word.startswith("-")]:
        needs = {"doctor": ["downloads"], "audit": ["downloads"]}
        words += needs.get(words[0], [])
    status = run(words)
    expected = next((s for start, s in READ_ONLY.items() if command.words[: len(start)] == start), (0,))
    shown = capsys.readouterr()
    assert status in ((0,) if "-h" in words else expected), shown.err
    assert "Traceback" not in shown.err and shown.out
    if "--json" in words:
        json.loads(shown.out)


# -- settings, files, links ----------------------------------------------------------------------------------------


def overlays() -> list[Block]:
    return [block for block in blocks() if block.language == "yaml"]


@pytest.mark.parametrize("block", overlays(), ids=lambda b: b.document.name)
def test_pieces_of_settings_are_valid(block, tmp_path):
    """A piece is a profile's overlay; one that adds a method is laid over the settings without their check."""
    piece = yaml.safe_load(block.text)
    unknown = set(piece) - set(PARAMS)
    assert not unknown, f"{unknown} is in no params.yaml"
    new = set(piece.get("methods", {})) - set(PARAMS["methods"])
    if new:
        assert all(set(value) == {"objective", "shares", "presets"} for value in piece["methods"].values())
        return
    profiles = piece.pop("profiles", None) or {"documented": piece}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"profiles": profiles}))
    for name in profiles:
        load(tmp_path / "params.yaml", name)


@cache
def files() -> set[str]:
    """All files of the repository, without what a run or a tool makes."""
    left_out = {"data", "results", "logs", "node_modules", "mlruns", "wandb"}
    found = set()
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = [n for n in folders if not n.startswith(".") and not (here == Path() and n in left_out)]
        found |= {(here / name).as_posix() for name in names}
    return found


def expand(name: str) -> list[str]:
    """`a/{b,c}.py` -> a/b.py, a/c.py"""
    found = re.fullmatch(r"(.*)\{([^{}]+)\}(.*)", name)
    return [f"{found[1]}{part}{found[3]}" for part in found[2].split(",")] if found else [name]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_and_settings_exist(document):
    """Inline code that looks like a source file or a leaf of params.yaml."""
    for code in inline_code(document):
        for name in expand(code):
            if re.fullmatch(r"[\w./-]+\.(py|smk|yaml|yml|toml|cff)", name):
                assert any(file == name or file.endswith(f"/{name}") for file in files()), name
            elif re.fullmatch(r"(src|tests|docs|benchmarks)/[\w./-]+", name):
                assert (ROOT / name).exists(), name
            elif re.fullmatch(r"[a-z_]+(\.\w+)+", name) and name.split(".")[0] in PARAMS:
                if name.endswith((".json", ".csv", ".parquet")):  # a file of a run
                    continue
                value: Any = PARAMS
                for key in name.split("."):
                    assert isinstance(value, dict) and key in value, f"no setting {name}"
                    value = value[key]


def anchors(document: Path) -> set[str]:
    """Ids of the headings, as GitHub makes them."""
    seen: dict[str, int] = {}
    found = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", prose(document)), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
        seen[slug] = seen.get(slug, 0) + 1
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", prose(document)))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(path), target


def test_every_block_says_what_it_holds():
    assert {(b.document.name, b.language) for b in blocks() if b.language not in LANGUAGES} == set()


def test_every_document_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in ROOT.glob("docs/*.md") if f"(docs/{path.name})" not in text] == []


# -- the example of a method ---------------------------------------------------------------------------------------


def example() -> dict[str, Any]:
    """The names that the first block of docs/adding.md defines."""
    (code, *_) = (b.text for b in blocks() if b.document.name == "adding.md" and b.language == "python")
    names: dict[str, Any] = {}
    exec(compile(code, "docs/adding.md", "exec"), names)
    return names


def test_the_example_of_a_method_is_one():
    """Its loss is the hand-computed one, its parameters are those of the settings, and its gradient reaches the encoders."""
    import torch

    from cmcgns.models.image import build_trunk
    from cmcgns.models.text import build_text_encoder
    from cmcgns.objectives.base import Batch, Objective

    names = example()
    # logits 0, 0: all four sigmoids are one half; logits 2 on the diagonal, -2 off it: all four are sigmoid(2)
    assert names["pair_loss"](torch.zeros(2, 2)).item() == pytest.approx(2 * 0.693147, abs=1e-5)
    right = torch.tensor([[2.0, -2.0], [-2.0, 2.0]])
    assert names["pair_loss"](right).item() == pytest.approx(2 * 0.126928, abs=1e-5)

    kind = next(
        v for v in names.values() if inspect.isclass(v) and issubclass(v, Objective) and v is not Objective
    )
    parameters = inspect.signature(kind.__init__).parameters.values()
    own = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"image_size", "seed"}
    (added,) = (
        yaml.safe_load(b.text)
        for b in overlays()
        if b.document.name == "adding.md" and "methods" in yaml.safe_load(b.text)
    )
    ((name, values),) = added["methods"].items()
    assert set(values["objective"]) == own

    sizes = {"hidden": 32, "layers": 1, "heads": 2, "vocab_size": 20, "max_positions": 8, "dropout": 0.0}
    model = kind(
        build_trunk("resnet10", "random", seed=1),
        build_text_encoder("random", seed=1, config=sizes),
        image_size=32,
        **values["objective"],
    )
    tokens = torch.tensor([[1, 5, 6, 2], [1, 7, 8, 2]])
    sentences = torch.tensor([[-1, 0, 0, -1]] * 2)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, tokens, tokens > 0, sentences, sentences, torch.arange(2))
    terms = model(batch, "stage1")
    assert terms.keys() == model.weights("stage1").keys()
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    maps, real = model.attention_maps(batch)
    assert maps.shape[:2] == (2, 1) and real.all()


# -- about the project ---------------------------------------------------------------------------------------------


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_citation_file_is_valid():
    """The required keys of the Citation File Format 1.2.0, and those of a reference."""
    text = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    allowed = {
        *("abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers"),
        *("keywords", "license", "license-url", "message", "preferred-citation", "references", "repository"),
        *("repository-artifact", "repository-code", "title", "type", "url", "version"),
    }
    assert set(text) <= allowed
    assert text["cff-version"] == "1.2.0" and text["type"] == "software"
    assert text["message"] and text["title"] == "cmcgns"
    assert text["authors"] == [{"name": "The cmcgns developers"}]
    assert (text["version"], text["license"]) == (project()["version"], project()["license"])
    (paper,) = text["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert all({"given-names", "family-names"} == set(author) for author in paper["authors"])
    assert paper["doi"] == "10.48550/arXiv.2506.11674"


def test_the_licence_is_apache_s_with_our_name():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.lstrip().startswith("Apache License\n                           Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in text
    assert re.findall(r"^ +Copyright .*$", text, re.MULTILINE) == ["   Copyright 2026 The cmcgns developers"]


def test_the_changelog_names_the_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(project()['version'])}\b", text, re.MULTILINE)
