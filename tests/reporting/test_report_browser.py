"""The report page in a real browser: every table, filter and number, by mouse and by keyboard, and an accessibility check."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

import pytest

from cmcgns.pipeline.fingerprint import code_of
from cmcgns.pipeline.plan import HEADS, PRETRAIN, Plan
from cmcgns.reporting.page import write_page

sync_api = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"needs a browser at {CHROMIUM} (`apt-get install chromium`)"
)
ROOT = Path(__file__).parents[2]
SEEDS = [0, 1, 2, 3, 4]
PATIENCE = 600_000  # ms: a busy machine is no fault of the page


@pytest.fixture(scope="module")
def made(make_up, report_job, tmp_path_factory):
    """The report of 12 methods x 21 cells x 5 seeds with variants, the table of leakage and all figures: plan and file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("report"))
        plan = Plan.load("science_gpu", ROOT / "params.yaml")
        downstream = plan.settings.downstream.model_copy(update={"seeds": SEEDS})
        plan = Plan(plan.settings.model_copy(update={"downstream": downstream}), plan.paper)
        make_up(plan)
        write_page(**report_job(plan))
        yield plan, Path(plan.paths.report).resolve()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox"], timeout=PATIENCE
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(made, browser):
    """Open the report in a new window; afterwards nothing may have been complained about or fetched."""
    contexts, said, asked = [], [], []

    def opened(**options):
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(made[1].as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {made[1].as_uri()}


@pytest.fixture
def page(open_page):
    return open_page()


def test_it_is_small(made, page):
    assert made[1].stat().st_size < 10_000_000
    timing = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"\n{made[1].stat().st_size / 1e6:.2f} MB, loaded in {timing:.0f} ms")


SORT = """() => [...document.querySelectorAll(".sort")].map((button) => {
  const th = button.parentElement, body = button.closest("table").tBodies[0], column = Number(button.dataset.column);
  const told = [];
  for (let i = 0; i < 2; i++) {
    button.click();
    const marked = button.closest("table").querySelectorAll("[aria-sort]");
    told.push([marked.length, th.getAttribute("aria-sort"),
      [...body.rows].map((row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim())]);
  }
  return [button.closest("table").id, button.getAttribute("aria-label") ?? button.textContent, button.dataset.first, told];
})"""


def test_every_column_of_every_table_sorts_both_ways(made, page):
    found = page.evaluate(SORT)
    plan = made[0]
    tables = {table for table, *_ in found}
    assert {"settings", *(f"table{n}" if n.isdigit() else n for n in plan.tables())} <= tables
    for table, column, first, told in found:
        second = "descending" if first == "ascending" else "ascending"
        assert [(marked, order) for marked, order, _ in told] == [(1, first), (1, second)], (table, column)
        for _, order, values in told:
            numbers = [float(v) for v in values if re.fullmatch(r"[+-]?\d[\d.e+-]*", v)]
            empty = [v in ("", "–") or v.startswith("–paper") for v in values]
            if numbers and len(numbers) + sum(empty) == len(values):
                assert numbers == sorted(numbers, reverse=order == "descending"), (table, column)
            assert empty == sorted(empty), (table, column)


def rows(page, selector: str) -> list[tuple[str, str, str]]:
    return [
        tuple(row)
        for row in page.evaluate(
            """(selector) => [...document.querySelectorAll(selector)].map(
              (row) => [row.dataset.method ?? "", row.dataset.family ?? "", row.dataset.dataset ?? ""])""",
            selector,
        )
    ]


def shown(page) -> list[tuple[str, str, str]]:
    every = page.evaluate(
        """() => { for (const d of document.querySelectorAll("details")) d.open = true;
          return [...document.querySelectorAll("tbody tr[data-method]")].filter((row) => row.checkVisibility())
            .map((row) => [row.dataset.method, row.dataset.family, row.dataset.dataset ?? ""]); }"""
    )
    return [tuple(row) for row in every]


def test_every_filter_leaves_what_it_says(page):
    every = rows(page, "tbody tr[data-method]")
    assert shown(page) == every
    text, family, dataset = (page.locator(f"[name={name}]") for name in ("method", "family", "dataset"))
    text.fill("mOcO")
    assert shown(page) == [row for row in every if "moco" in row[0].lower()] != []
    assert page.locator("output").text_content() == f"{len(shown(page))} of {len(every)} rows shown"
    lines = page.locator("#efficiency svg g[data-method]")
    names = {line.get_attribute("data-method") for line in lines.all() if line.is_visible()}
    assert names == {"MoCo", "MoCoV2"}
    text.fill("no such method")
    assert shown(page) == []
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("document.querySelectorAll('.out').length === 0")
    families = family.locator("option").all_text_contents()[1:]
    assert set(families) >= {row[1] for row in every if row[1]}
    for name in families:
        family.select_option(name)
        assert shown(page) == [row for row in every if row[1] == name]
    family.select_option("")
    names = dataset.locator("option").all_text_contents()[1:]
    assert set(names) == {"CheXpert", "RSNA", "COVIDx", "SIIM", "Object-CXR"}
    for name in names:
        dataset.select_option(name)
        assert {row[2] for row in shown(page)} <= {name, ""}
        heads = page.locator("#table1 thead th[data-dataset]:visible")
        assert {head.get_attribute("data-dataset") for head in heads.all()} <= {name}
        assert page.locator("#table1").is_visible() == (name in ("CheXpert", "RSNA", "COVIDx"))
        assert page.locator("#efficiency figure:visible").count() == {"RSNA": 3}.get(name, 1)


CLICK = r"""() => {
  const dialog = document.querySelector("dialog"), data = JSON.parse(document.getElementById("data").textContent);
  dialog.showModal = () => { dialog.open = true; };  // without the rest of the page inert, which costs time
  return [...document.querySelectorAll(".number")].map((button) => {
    button.click();
    const entry = data.numbers[button.dataset.number], text = dialog.textContent, opened = dialog.open;
    dialog.close();
    const files = (entry.runs ?? []).flatMap((name) => data.runs[name].files);
    const wanted = [entry.title, entry.value ?? "", "snakemake --cores", "cmcgns trace", ...files];
    return [entry.title, opened, wanted.filter((words) => !text.includes(words)), text.match(/undefined|NaN|\[object/g)];
  });
}"""


def test_a_click_on_any_number_opens_its_history(page):
    found = page.evaluate(CLICK)
    assert len(found) > 1000
    assert [entry for entry in found if entry[1:] != [True, [], None]] == []


def test_a_history_tells_seeds_files_settings_and_commands(made, page):
    plan, _ = made
    button = page.locator("#table1 tbody tr[data-method='CM-CGNS'] .number").nth(1)
    shown_value = button.locator("span").first.text_content()
    button.click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading", level=2).text_content() == "Table I: linear classification: CM-CGNS, CheXpert, 10% of the labels"  # fmt: skip
    folder = f"{plan.paths.results}/finetune/cm_cgns/classification-chexpert/10"
    scores = [100 * json.loads(Path(f"{folder}/seed-{seed}/metrics.json").read_text())["primary"] for seed in SEEDS]  # fmt: skip
    seeds = [row.all_text_contents() for row in [dialog.locator("tbody tr").nth(i).locator("th, td") for i in range(5)]]  # fmt: skip
    assert seeds == [
        [str(seed), f"{score:.2f}", "40.00 to 80.00", "120", "30", "40"] for seed, score in zip(SEEDS, scores, strict=True)
    ]  # fmt: skip
    assert shown_value.startswith(f"{fmean(scores):.2f} ± ")
    text = dialog.text_content()
    assert "ab" * 32 in text and plan.final("cm_cgns") in text and plan.paths.trunk("cm_cgns") in text
    assert code_of(HEADS["classification"]) in text
    assert code_of(PRETRAIN, plan.objective("cm_cgns")) in text
    files = " ".join(f"{folder}/seed-{seed}/metrics.json" for seed in SEEDS)
    commands = dialog.locator("pre").all_text_contents()[-2:]
    assert commands == [
        f"snakemake --cores all --config profile=science_gpu --force -- {files}",
        'cmcgns trace "table1 / CheXpert / 10% / CM-CGNS" --profile science_gpu',
    ]
    assert not dialog.locator("details pre").first.is_visible()
    dialog.locator("summary").first.click()
    assert json.loads(dialog.locator("details pre").first.text_content()) == plan.slice("finetune", pair="classification-chexpert", fraction=10)  # fmt: skip
    dialog.get_by_role("button", name="Close").click()
    assert not page.locator("dialog").is_visible()


def test_it_works_by_keyboard(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "method"
    page.keyboard.type("CM-CGNS")
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator("#table1 th[aria-sort=ascending]").count() == 1
    while page.evaluate("document.activeElement.className") != "number":
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    place = page.evaluate("document.activeElement.dataset.number")
    page.keyboard.press("Enter")
    assert page.locator("dialog").is_visible()
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert page.evaluate("document.activeElement.dataset.number") == place


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_nothing(open_page, scheme, width):
    axe = find_spec("axe_playwright_python")
    if axe is None:
        pytest.skip("needs `pip install axe-playwright-python`")
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.add_script_tag(path=Path(axe.origin).with_name("axe.min.js"))
    check = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations.map((v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html)])"
    assert page.evaluate(check) == []
    page.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true")
    page.locator("#table3 .number").first.click()
    page.evaluate("for (const d of document.querySelectorAll('dialog details')) d.open = true")
    assert page.evaluate(check) == []


def test_a_phone_scrolls_tables_and_not_the_page(open_page):
    page = open_page(viewport={"width": 360, "height": 740}, has_touch=True)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = page.evaluate("document.querySelector('#table1').parentElement.scrollWidth")
    assert wide > 360
    page.locator("#table1 .number").first.tap()
    box = page.locator("dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360


def test_print_shows_tables_whole_and_no_controls(page):
    page.emulate_media(media="print")
    for selector in (".filter", "nav"):
        assert not page.locator(selector).is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    assert page.pdf()[:4] == b"%PDF"
