"""Object-CXR (spec/data.md 6a): foreign objects as rectangles, ellipses and polygons."""

from cmcgns.randomness import numpy_rng
from cmcgns.synthetic.films import Film, Shot
from cmcgns.synthetic.hardware import make_objects
from cmcgns.synthetic.layouts.plan import Plan
from cmcgns.synthetic.world import make_population

COUNTS = (0.5, 0.22, 0.13, 0.08, 0.05, 0.02)  # chance of 0, 1, ... 5 objects


def plan_object_cxr(n_train: int, n_dev: int, *, seed: int, size: int) -> Plan:
    """Plan train films 00001... and dev films after them; half have no object."""
    rates = {label: 0.04 for label in ("Support Devices", "Edema", "Cardiomegaly", "Atelectasis")}
    studies = make_population(
        "object", n_train + n_dev, seed=seed, per_patient=(1.0,), rates=rates, healthy=0.7
    )
    films = []
    for number, study in enumerate(studies):
        rng = numpy_rng(seed, "objects", number)
        # the first six films have 0 to 5 objects, so that every count is there
        n = number if number < len(COUNTS) else int(rng.choice(len(COUNTS), p=COUNTS))
        part, name = ("train" if number < n_train else "dev"), f"{number + 1:05d}.jpg"
        films.append(
            Film(
                source="object_cxr",
                image_id=name,
                path=f"{part}/{name}",
                film_id=f"{study.study_id}-0",
                study=study,
                view=study.view,
                style="object_cxr",
                size=size,
                objects=make_objects(rng, n),
            )
        )

    def label_files(shots: list[Shot]) -> dict[str, str]:
        lines = {"train": ["image_name,annotation"], "dev": ["image_name,annotation"]}
        for film, shot in zip(films, shots, strict=True):
            lines[film.path.split("/")[0]].append(f"{film.image_id},{annotation(shot)}")
        return {f"object-CXR/{part}.csv": "\n".join(rows) + "\n" for part, rows in lines.items()}

    return Plan("object_cxr", "object-CXR", films, label_files)


def annotation(shot: Shot) -> str:
    """`TYPE x1 y1 x2 y2 ...;TYPE ...`, empty without objects."""
    return ";".join(
        " ".join(map(str, [shape, *(value for point in points for value in point)]))
        for shape, points in shot.objects
    )
