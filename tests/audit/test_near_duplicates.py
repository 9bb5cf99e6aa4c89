"""Near-duplicates: films are drawn, changed and found again; what they mean for splits is counted by hand."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from cmcgns.audit.duplicates import near_duplicate_findings
from cmcgns.errors import InputError
from cmcgns.images.duplicates import SAME_FILM, confirm, film_groups, find_duplicates
from cmcgns.images.hashing import ALL_PAIRS, codes, find_pairs, thumbnails
from cmcgns.images.place import fit, letterbox
from cmcgns.images.store import ImageStore, build_store
from cmcgns.parquet import write_parquet


def draw(seed, height=220, width=180):
    """A film with the common anatomy of all (two dark lungs) and details of its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    lungs = sum(np.exp(-(((x - side) / 0.3) ** 2) - (y / 0.6) ** 2) for side in (-0.45, 0.45))
    details = [
        gaussian_filter(rng.standard_normal((height, width)), s) * s * w for s, w in ((3, 25), (9, 40))
    ]
    return np.clip(np.rint(150 - 90 * lungs + sum(details)), 30, 225).astype(np.uint8)


def jpeg(grey, tmp_path):
    Image.fromarray(grey).save(tmp_path / "q.jpg", quality=30)
    return np.array(Image.open(tmp_path / "q.jpg"))


CHANGES = {
    "jpeg": jpeg,
    "half": lambda grey, tmp: np.array(Image.fromarray(grey).resize((90, 110))),
    "double": lambda grey, tmp: np.array(Image.fromarray(grey).resize((360, 440))),
    "crop": lambda grey, tmp: grey[11:-11, 9:-9],
    "corner": lambda grey, tmp: grey[11:, 9:],
    "pad": lambda grey, tmp: np.pad(grey, ((11, 11), (9, 9))),
    "padded, then jpeg": lambda grey, tmp: jpeg(np.pad(grey, ((11, 0), (0, 9))), tmp),
    "bright": lambda grey, tmp: np.clip(grey * 1.3 + 20, 0, 255).astype(np.uint8),
    "dark": lambda grey, tmp: np.clip(grey * 0.7 - 20, 0, 255).astype(np.uint8),
}


def squares(greys):
    return zip(*(letterbox(grey) for grey in greys), strict=True)


@pytest.fixture(scope="module")
def films():
    """Codes of enough films for the search in cells."""
    return codes(thumbnails(*squares([draw(seed, 110, 90) for seed in range(ALL_PAIRS)])))


@pytest.fixture(scope="module")
def changed(films, tmp_path_factory):
    """Candidates and thumbnails of 4 films and, in the order of `CHANGES`, 4 copies for each change."""
    folder = tmp_path_factory.mktemp("changed")
    greys = [draw(seed) for seed in range(1000, 1004)]
    both = list(squares(greys + [change(grey, folder) for change in CHANGES.values() for grey in greys]))
    small = thumbnails(*both)
    pairs = find_pairs(np.concatenate([codes(small), films]), cell=40, nearest=4)
    return set(map(tuple, pairs.tolist())), small


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_pass_both_steps_and_other_films_do_not(change, changed):
    candidates, small = changed
    first = 4 * (1 + list(CHANGES).index(change))
    copies = [(i, first + i) for i in range(4)]
    assert candidates.issuperset(copies)
    assert confirm(small, np.array(copies)).min() >= SAME_FILM
    assert confirm(small, np.array([(i, first + (i + 1) % 4) for i in range(4)])).max() < 0.9


def test_score_is_the_correlation_when_nothing_moved():
    """Equal films give 1, a negative 0 (the coarse step sees it), and the order of a pair does not matter."""
    films = thumbnails(*squares([draw(0), 255 - draw(0), draw(1)]))
    scores = confirm(films, np.array([[0, 0], [0, 1], [0, 2], [2, 0]]))
    assert scores[0] == pytest.approx(1, abs=1e-5)
    assert scores[1] == 0
    assert scores[2] == pytest.approx(scores[3], abs=1e-6)


def test_all_pairs_of_a_small_set_are_candidates():
    blank = np.zeros((2, 32, 32), np.uint8)
    assert find_pairs(blank).tolist() == [[0, 1]]
    assert find_pairs(blank[:1]).shape == (0, 2)


def test_blank_images_are_nobodys_duplicates():
    assert not len(find_pairs(np.zeros((ALL_PAIRS, 32, 32), np.uint8)))
    assert confirm(np.zeros((2, 64, 64), np.uint8), np.array([[0, 1]])) == [0]


def test_cells_lose_none_of_the_pairs_of_an_exhaustive_search(films):
    """One cell is the exhaustive search; with all cells asked the result is the same, whatever their number."""
    small = np.concatenate([films, np.roll(films[:100], 1, axis=2)])
    exhaustive = find_pairs(small, cell=10_000)
    assert {(i, ALL_PAIRS + i) for i in range(100)} <= set(map(tuple, exhaustive.tolist()))
    assert (np.diff(exhaustive, axis=1) > 0).all()
    assert np.array_equal(find_pairs(small, cell=30), exhaustive)
    with_all_cells = set(map(tuple, exhaustive.tolist()))
    assert set(map(tuple, find_pairs(small, cell=30, nearest=1).tolist())) < with_all_cells


def test_thumbnails_leave_out_padding_and_flat_borders():
    """A gradient between flat bars: the first column is the gradient's, one line beyond the bar is cut as well."""
    grey = np.tile(np.linspace(0, 255, 100).astype(np.uint8)[:, None], (1, 100))
    padded = np.pad(grey, ((0, 0), (5, 0)))[:, :100]
    square = np.zeros((120, 120), np.uint8)
    square[10:110, 10:110] = padded
    place = fit(100, 100, 120)._replace(top=10, left=10, new_height=100, new_width=100)
    assert (thumbnails([square], [place], 16)[0] == thumbnails([square], [place], 16)[0][:, :1]).all()
    assert thumbnails([square], [place], 16)[0, -1, 0] > 230
    assert not thumbnails([np.full((120, 120), 7, np.uint8)], [place], 16).any()


def test_duplicates_in_a_store_and_in_files_are_found_by_name(tmp_path):
    (tmp_path / "raw").mkdir()
    for i in range(4):
        Image.fromarray(draw(i)).save(tmp_path / f"raw/{i}.png")
    write_parquet(
        pd.DataFrame({"image_id": list("abcd"), "path": [f"{i}.png" for i in range(4)]}).assign(frontal=True),
        tmp_path / "index.parquet",
    )
    build_store(tmp_path / "index.parquet", tmp_path / "raw", tmp_path / "s.npy", tmp_path / "s.parquet")
    Image.fromarray(draw(2)[8:-4, 3:]).save(tmp_path / "x.jpg", quality=50)
    Image.fromarray(draw(9)).save(tmp_path / "y.png")
    stores = {"one": ImageStore(tmp_path / "s.npy", tmp_path / "s.parquet"),
              "two": {"x": tmp_path / "x.jpg", "y": tmp_path / "y.png"}}  # fmt: skip
    found = find_duplicates(stores)
    assert found.iloc[:, :4].to_numpy().tolist() == [["one", "c", "two", "x"]]
    assert SAME_FILM <= found["score"].iloc[0] <= 1 + 1e-5
    assert find_duplicates({"empty": {}}).empty
    (tmp_path / "z.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"z\.png"):
        find_duplicates({"two": {"z": tmp_path / "z.png"}})


def split(rows):
    return pd.DataFrame(rows, columns=["task", "image_id", "group_id", "split"])


def pairs(*rows):
    return pd.DataFrame(
        [(*row, 0.99) for row in rows], columns=["source_a", "image_a", "source_b", "image_b", "score"]
    )


def test_pairs_across_the_splits_of_a_source_are_critical_and_counted_in_the_later_one():
    """d and e (test) repeat a (train): 2 of 3 test images; e is a's patient. b repeats a, but in the same split."""
    table = split([("t", "a", "p", "train"), ("t", "b", "q", "train"), ("t", "c", "r", "valid"),
                   ("t", "d", "s", "test"), ("t", "e", "p", "test"), ("t", "f", "u", "test"),
                   ("other", "a", "p", "train"), ("other", "d", "s", "train")])  # fmt: skip
    twins = pairs(("s", "d", "s", "a"), ("s", "a", "s", "e"), ("s", "a", "s", "b"), ("s", "a", "s", "unused"))
    findings, facts = near_duplicate_findings({"s": table}, twins, scheme="paper", keys={"s": "k"})
    (found,) = findings
    assert not facts
    assert (found.check, found.source, found.scheme, found.task) == ("A13-near-duplicate", "s", "paper", "t")
    assert (found.severity, found.split_a, found.split_b) == ("critical", "train", "test")
    assert (found.count, found.total, len(found.ids)) == (2, 3, 2)
    assert found.detail == "2 pairs of one film, 1 of them of one group"


def test_pairs_across_sources_are_critical_only_where_one_is_for_pre_training():
    mimic = split([("pretraining", "m", "m", "train"), ("pretraining", "n", "n", "valid")])
    rsna = split(
        [("detection", "a", "a", "test"), ("detection", "b", "b", "test"), ("detection", "c", "c", "train")]
    )
    siim = split([("segmentation", "x", "x", "train")])
    splits = {"mimic_cxr": mimic, "rsna": rsna, "siim": siim}
    twins = pairs(
        ("rsna", "a", "mimic_cxr", "m"), ("mimic_cxr", "n", "rsna", "b"), ("siim", "x", "rsna", "b"),
        ("rsna", "c", "siim", "x"), ("rsna", "a", "absent", "z"),
    )  # fmt: skip
    findings, facts = near_duplicate_findings(
        splits, twins, scheme="audited", keys=dict.fromkeys(splits, "k")
    )
    (found,), (fact,) = findings, facts
    assert (found.source, found.severity, found.split_a, found.split_b) == (
        "rsna",
        "critical",
        "mimic_cxr:train",
        "test",
    )
    assert (found.count, found.total) == (1, 2)
    assert (fact.source, fact.task, fact.values) == ("rsna", "detection", {"count": 1, "total": 2})


def test_no_pairs_no_findings():
    assert near_duplicate_findings({"s": split([])}, pairs(), scheme="paper", keys={"s": "k"}) == ([], [])


def test_film_groups_link_copies_and_leave_the_rest_alone(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    films = [
        np.asarray(Image.fromarray(rng.integers(0, 255, (9, 9), np.uint8)).resize((200, 200), 3))
        for _ in range(4)
    ]
    files = {}
    for name, film, quality in (
        ("c", 0, 95),
        ("a", 0, 40),
        ("b", 0, 70),
        ("d", 1, 90),
        ("e", 2, 90),
        ("f", 3, 90),
    ):
        files[name] = tmp_path / f"{name}.jpg"
        Image.fromarray(films[film]).save(files[name], quality=quality)
    assert film_groups(files) == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "e", "f": "f"}
