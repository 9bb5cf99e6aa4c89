"""COVIDx V9A: three classes from many sources, some of whose films are RSNA's (spec/data.md 4a)."""

from dataclasses import replace

import numpy as np

from cmcgns.randomness import numpy_rng
from cmcgns.synthetic.disease import Finding, make_finding
from cmcgns.synthetic.films import Film, Shot
from cmcgns.synthetic.layouts.plan import Plan
from cmcgns.synthetic.world import Patient, Study, labels_of, make_patient

# class -> (share, {source: share}); the class tells the source and the other way round, but not quite
TRAIN = {
    "normal": (0.34, {"rsna": 0.86, "rnsa": 0.05, "cohen": 0.05, "actmed": 0.04}),
    "pneumonia": (0.28, {"rsna": 0.82, "rnsa": 0.04, "cohen": 0.09, "fig1": 0.05}),
    "COVID-19": (
        0.38,
        {"stonybrook": 0.58, "ricord": 0.12, "sirm": 0.08, "cohen": 0.10, "bimcv": 0.07, "actmed": 0.05},
    ),
}
TEST = {
    "normal": (0.25, {"rsna": 1.0}),
    "pneumonia": (0.25, {"rsna": 1.0}),
    "COVID-19": (0.50, {"ricord": 1.0}),
}
STYLE = {"rsna": "nih", "rnsa": "nih", "stonybrook": "stonybrook", "ricord": "ricord"}  # others: publications
EXTENSIONS = {
    "stonybrook": "png",
    "ricord": "jpg",
    "sirm": "png",
    "cohen": "jpeg",
    "fig1": "jpg",
    "actmed": "JPG",
    "bimcv": "PNG",
}


def plan_covidx(n_train: int, n_test: int, rsna: list[Film], *, seed: int) -> Plan:
    """Plan both lists; `rsna` are the labelled RSNA films, some of which are taken over under their exam id."""
    rng = numpy_rng(seed, "covidx")
    normal, pneumonia = _rsna_pools(rsna, rng)
    films: list[Film] = []
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for part, count, table in (("test", n_test, TEST), ("train", n_train, TRAIN)):
        people: list[Patient] = []
        for name, source in _cast(count, table, rng):
            pool = {"normal": normal, "pneumonia": pneumonia}.get(name, [])
            if source in ("rsna", "rnsa") and pool:
                film, person = _borrowed(pool.pop(), part, len(films)), None
            else:
                source = "cohen" if source in ("rsna", "rnsa") else source  # the pool is used up
                film, person = _own(name, source, part, len(films), people, seed)
            films.append(film)
            lines[part].append(f"{person or film.image_id.rsplit('.', 1)[0]} {film.image_id} {name} {source}")

    def label_files(shots: list[Shot]) -> dict[str, str]:
        return {f"covidx/{part}_COVIDx9A.txt": "\n".join(rows) + "\n" for part, rows in lines.items()}

    return Plan("covidx", "covidx", films, label_files)


def _rsna_pools(rsna: list[Film], rng: np.random.Generator) -> tuple[list[Film], list[Film]]:
    """RSNA's normal films and its films with a pneumonia, each in random order."""
    films = [rsna[i] for i in rng.permutation(len(rsna))]
    truths = [labels_of(film.study.findings) for film in films]
    normal = [film for film, truth in zip(films, truths, strict=True) if truth["No Finding"]]
    return normal, [film for film, truth in zip(films, truths, strict=True) if truth["Pneumonia"]]


def _cast(
    count: int, table: dict[str, tuple[float, dict[str, float]]], rng: np.random.Generator
) -> list[tuple[str, str]]:
    """(class, source) of every line; each source of the table at least once if there is room, the rest by share."""
    pairs = [(name, source) for name, (_, sources) in table.items() for source in sources]
    shares = np.array([share * part for share, sources in table.values() for part in sources.values()])
    first = list(range(len(pairs)))[:count]
    rest = rng.choice(len(pairs), size=max(count - len(first), 0), p=shares / shares.sum())
    return [pairs[i] for i in rng.permutation(np.array([*first, *rest], int))]


def _borrowed(film: Film, part: str, number: int) -> Film:
    """An RSNA film as a PNG under its exam id: the same picture."""
    name = f"{film.image_id}.png"
    return replace(
        film,
        source="covidx",
        image_id=name,
        path=f"{part}/{name}",
        form="grey16" if number % 37 == 5 else "grey",
        uids=("", "", ""),
    )


def _own(
    label: str, source: str, part: str, number: int, people: list[Patient], seed: int
) -> tuple[Film, str]:
    """A film of a source of its own; several films of one patient, most of all at Stony Brook."""
    rng = numpy_rng(seed, "covidx study", number)
    again = 0.6 if source == "stonybrook" else 0.15
    mine = [p for p in people if p.patient_id.split("-")[1] == source]
    if mine and rng.random() < again:
        patient = mine[int(rng.integers(len(mine)))]
    else:
        patient = make_patient(f"covidx-{source}-{part}-{number:05d}", rng)
        people.append(patient)
    findings = _findings(label, rng)
    study = Study(
        f"{patient.patient_id}-n{number}", patient, 1, findings, None, "AP" if rng.random() < 0.6 else "PA"
    )
    serial = patient.patient_id.rsplit("-", 1)[1]
    listed, name = f"{source}-{part}-{serial}", f"{source}-{number:05d}.{EXTENSIONS[source]}"
    if source == "sirm":
        listed, name = f"COVID {number}", f"COVID({number}).{EXTENSIONS[source]}"
    extension = EXTENSIONS[source].lower()
    form = "jpeg" if extension in ("jpg", "jpeg") else ("rgb", "grey", "rgba", "grey", "grey")[number % 5]
    film = Film(
        source="covidx",
        image_id=name,
        path=f"{part}/{name}",
        film_id=f"{study.study_id}-0",
        study=study,
        view=study.view,
        style=STYLE.get(source, "publications"),
        size=int(rng.integers(240, 330)),
        form=form,
    )
    return film, listed


def _findings(label: str, rng: np.random.Generator) -> tuple[Finding, ...]:
    """None, one lobar consolidation, or COVID-19's patches in the periphery of both lungs."""
    if label == "normal":
        return ()
    if label == "pneumonia":
        one = make_finding("Consolidation", rng)
        return (one, replace(one, label="Pneumonia"))
    patches = []
    for side in ("right", "left"):
        for zone in ("mid", "lower") if rng.random() < 0.6 else ("upper", "mid", "lower"):
            patch = make_finding(
                "Consolidation", rng, side=side, zone=zone, severity=int(rng.integers(1, 3)), kind="covid"
            )
            patches.append(
                replace(patch, x=float(rng.uniform(0.82, 1.0)), rx=patch.rx * 0.75, ry=patch.ry * 1.15)
            )
    return (*patches, *(replace(patch, label="Pneumonia") for patch in patches))
