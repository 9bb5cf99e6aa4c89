"""Images of a run under scheme `official`, where an image may be in several splits with some of its masks."""

import numpy as np
import pandas as pd

from cmcgns.evaluation.cell import load_images, positions
from cmcgns.evaluation.segmentation import load_masks
from cmcgns.images.place import letterbox
from cmcgns.parquet import write_parquet

FIRST, SECOND = "0 524288", "524288 524288"  # the left and the right half of a 1024 px film


def test_an_image_in_two_splits_stays_twice_with_its_own_masks(tmp_path):
    index = pd.DataFrame({"image_id": list("abcd"), "group_id": list("abcd")})
    index["rle"] = [[FIRST, SECOND], [], [FIRST], []]
    rows = [
        ("a", "test", [1]),
        ("a", "train", [0]),
        ("b", "train", None),
        ("c", "valid", [0]),
        ("d", "train", None),
    ]
    split = pd.DataFrame(rows, columns=["image_id", "split", "parts"]).assign(task="segmentation")
    split["group_id"] = split["image_id"]
    ranks = pd.DataFrame({"task": "segmentation", "image_id": list("abd"), "rank": [0, 1, 2]})
    square, place = letterbox(np.zeros((8, 8), np.uint8), 8)
    np.save(tmp_path / "store.npy", np.stack([square] * 4))
    table = pd.DataFrame(
        [{"image_id": name, "row": i, "reason": "", **place._asdict()} for i, name in enumerate("abcd")]
    )
    files = {name: tmp_path / f"{name}.parquet" for name in ("index", "split", "ranks", "store_table")}
    for path, frame in zip(files.values(), (index, split, ranks, table), strict=True):
        write_parquet(frame, path)
    images, store = load_images(files | {"store": tmp_path / "store.npy"}, "segmentation", 67)  # 2 of 3
    assert images["image_id"].tolist() == ["a", "a", "b", "c"]
    assert images["row"].tolist() == [0, 0, 1, 2]
    assert [positions(images, part).tolist() for part in ("train", "valid", "test")] == [[1, 2], [3], [0]]
    masks = load_masks("siim", images, store.placement(images["row"].to_numpy()), 2) > 127
    left, right, none = [[True, False]] * 2, [[False, True]] * 2, [[False, False]] * 2
    assert masks.tolist() == [right, left, none, left]
    # other schemes have no parts: all masks of the image
    whole = load_masks("siim", images.drop(columns="parts"), store.placement(images["row"].to_numpy()), 2)
    assert (whole[0] > 127).all()
