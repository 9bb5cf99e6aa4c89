"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const dialog = document.querySelector("dialog");

// ---- sort ----

function key(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
  const text = cell.textContent.trim();
  return text.startsWith("–") ? "" : text;  // not run, whatever the paper has
}

function compare(a, b) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}

function sort(button) {
  const th = button.parentElement, table = button.closest("table"), column = Number(button.dataset.column);
  const first = button.dataset.first, other = first === "ascending" ? "descending" : "ascending";
  const order = th.getAttribute("aria-sort") === first ? other : first;
  for (const head of table.querySelectorAll("th[aria-sort]")) head.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
  // rows without a value stay last in either order
  rows.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

// ---- filter ----

const form = document.querySelector(".filter");
const counted = [...document.querySelectorAll("tbody tr[data-method]")];
const filtered = [...document.querySelectorAll("[data-method], [data-family], [data-dataset]")];

function filter() {
  const { method, family, dataset } = form.elements, text = method.value.trim().toLowerCase();
  for (const element of filtered) {
    const own = element.dataset;
    const fits =
      (!own.method || own.method.toLowerCase().includes(text)) &&
      (!own.method || !family.value || own.family === family.value) &&
      (!own.dataset || !dataset.value || own.dataset.split("|").includes(dataset.value));
    element.classList.toggle("out", !fits);
  }
  const left = counted.filter((row) => !row.classList.contains("out") && !row.closest("section.out")).length;
  form.querySelector("output").value = `${left} of ${counted.length} rows shown`;
}

// ---- history of a number ----

function make(name, content = [], attributes = {}) {
  const element = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.append(...(Array.isArray(content) ? content : [content]));
  return element;
}

function list(entries) {
  const known = entries.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return make("dl", known.flatMap(([term, value]) => [make("dt", term), make("dd", value instanceof Node ? value : String(value))]));
}

const show_number = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
const code = (text) => make("code", text);
const codes = (texts) => make("span", texts.flatMap((text, i) => (i ? [", ", code(text)] : [code(text)])));
const distinct = (values) => [...new Set(values.filter((value) => value))];

function settings(name) {
  const text = JSON.stringify(data.settings[name], null, 1);
  return text ? [make("details", [make("summary", `Settings: ${name}`), make("pre", text)])] : [];
}

function seeds(run, score, label) {
  const counts = run.seeds.some((seed) => seed.n), interval = score === "primary" && run.seeds.some((seed) => seed.interval);
  const heads = ["Seed", "Value, %", ...(interval ? ["95 % of patients"] : []), ...(counts ? ["Training", "Validation", "Test"] : [])];
  const rows = run.seeds.map((seed) => {
    const values = [
      show_number(seed.values[score]),
      ...(interval ? [(seed.interval || []).map(show_number).join(" to ")] : []),
      ...(counts ? seed.n.map((n) => n ?? "–") : []),
    ];
    return make("tr", [make("th", String(seed.seed), { scope: "row" }), ...values.map((value) => make("td", String(value)))]);
  });
  const table = make("table", [
    make("caption", "Seeds and their values" + (counts ? "; images of each split" : "")),
    make("thead", make("tr", heads.map((head) => make("th", head, { scope: "col" })))),
    make("tbody", rows),
  ]);
  return make("div", table, { class: "scroll", tabindex: "0", role: "region", "aria-label": label });
}

function describe_run(name, score) {
  const run = data.runs[name];
  const hashes = (field) => codes(distinct(run.seeds.map((seed) => (seed.hashes || {})[field])));
  const fields = distinct(run.seeds.flatMap((seed) => Object.keys(seed.hashes || {})));
  return [
    make("h3", run.title),
    seeds(run, score, `Seeds of ${run.title}`),
    list([
      ["Runs", codes(distinct(run.seeds.map((seed) => seed.file)))],
      ...fields.map((field) => [`sha256 of the ${field.replace("_sha256", "")}`, hashes(field)]),
      ["Evaluated", run.n && Object.entries(run.n).map(([what, n]) => `${n} ${what}`).join(", ")],
      ["Trunk", run.seeds.some((seed) => seed.trunk) ? codes(distinct(run.seeds.map((seed) => seed.trunk))) : ""],
      [run.phases.length ? "Checkpoint" : "Start weights", run.weights && code(run.weights)],
      ["Code, fingerprint", run.code && code(run.code)],
    ]),
    ...run.settings.flatMap(settings),
    ...run.phases.flatMap(describe_phase),
  ];
}

function describe_phase(name) {
  const phase = data.phases[name], cost = phase.cost;
  return [
    make("h3", `Pre-training: ${phase.title}`),
    list([
      ["Losses", code(phase.file)],
      ["Code, fingerprint", phase.code && code(phase.code)],
      ["Image passes", `${cost.image_passes_with_gradient} with gradient, ${cost.image_passes_without_gradient} without`],
      ["Updates", cost.updates],
      ["Time", `${cost.seconds.toFixed(1)} s on ${cost.devices} x ${cost.device}`],
      ["Peak memory", `${cost.peak_memory_mib.toFixed(0)} MiB`],
    ]),
    ...settings(name),
  ];
}

function show(place) {
  const number = data.numbers[place], profile = data.profile;
  const runs = number.runs || [], files = number.files || [];
  const again = files.length ? files : distinct(runs.flatMap((name) => data.runs[name].files));
  const trace = number.trace ? [number.trace] : again;
  dialog.replaceChildren(
    make("button", "Close", { type: "button", class: "close" }),
    make("h2", number.title, { id: "history" }),
    list([
      [number.metric || "Value", number.value],
      ["The paper's", number.paper],
      ["Verdict", number.verdict],
      ["Table", files.length ? codes(files) : ""],
    ]),
    ...runs.flatMap((name) => describe_run(name, number.score)),
    ...(number.phases || []).flatMap(describe_phase),
    make("h3", "To make it again, and nothing else"),
    make("pre", `snakemake --cores all --config profile=${profile} --force -- ${again.join(" ")}`),
    make("h3", "To follow it down to the raw files"),
    make("pre", trace.map((what) => `cmcgns trace "${what}" --profile ${profile}`).join("\n")),
  );
  dialog.scrollTop = 0;
  dialog.showModal();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (event.target === dialog || button?.classList.contains("close")) dialog.close();
  else if (button?.classList.contains("sort")) sort(button);
  else if (button?.classList.contains("number")) show(Number(button.dataset.number));
});
form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
filter();
