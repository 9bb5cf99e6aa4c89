"""Grounding: boxes in the network's frame to the pixel, scores by hand, controls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from cmcgns.evaluation.grounding import (
    THRESHOLDS,
    box_mask,
    centre_map,
    exchange,
    field_of_view,
    grounding_scores,
    mean_iou,
    pointing_game,
    to_store,
    upsample,
)
from cmcgns.images.place import letterbox
from cmcgns.images.store import ImageStore
from cmcgns.images.transforms import center_crop
from cmcgns.parquet import write_parquet


@pytest.mark.parametrize("resize", ["pad256_crop224", "direct224"])
@pytest.mark.parametrize(
    ("shape", "box", "size"),
    [
        ((512, 512), (64, 128, 320, 448), 224),  # halved, 16 pixels cut from every side
        ((512, 512), (64, 128, 320, 448), 56),  # and four times smaller
        ((512, 256), (32, 128, 192, 384), 224),  # padded left and right
        ((256, 512), (0, 64, 256, 192), 224),  # padded above and below, the box cut by the crop
    ],
)
def test_a_box_is_where_the_network_sees_its_pixels(tmp_path, shape, box, size, resize):
    film = np.zeros(shape, np.uint8)
    x1, y1, x2, y2 = box
    film[y1:y2, x1:x2] = 255
    square, place = letterbox(film, 256)
    np.save(tmp_path / "s.npy", square[None])
    table = pd.DataFrame([{"image_id": "a", "row": 0, "reason": "", **place._asdict()}])
    write_parquet(table, tmp_path / "s.parquet")
    store = ImageStore(tmp_path / "s.npy", tmp_path / "s.parquet")
    seen = center_crop(torch.from_numpy(store.work_array(size, resize).copy()), size)[0].numpy()
    row = next(store.placement(np.array([0])).itertuples(index=False))
    relative = np.array([[x1, y1, x2, y2]]) / [shape[1], shape[0], shape[1], shape[0]]
    mask = box_mask(to_store(relative, row), field_of_view(row, store.size, size, resize), size)
    assert mask.any() and not mask.all()
    assert np.array_equal(mask, seen > 127)
    sharp = (seen == 0) | (seen == 255)
    assert sharp.mean() > 0.98  # the box's edges are the pixels' edges: the comparison is exact


def test_the_union_of_boxes_is_inside_and_a_box_outside_the_crop_is_nowhere():
    field = (16.0, 16.0, 240.0, 240.0)
    both = box_mask(np.array([[16, 16, 72, 128], [128, 128, 184, 240]]), field, 4)
    assert both.astype(int).tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]
    assert not box_mask(np.array([[0.0, 0.0, 16.0, 256.0]]), field, 4).any()


def left_half(side: int) -> np.ndarray:
    mask = np.zeros((1, side, side), bool)
    mask[:, :, : side // 2] = True
    return mask


def test_a_map_that_is_hot_in_the_box_points_into_it():
    hot = np.zeros((2, 4, 4))
    hot[0, 1, 1] = 1.0
    hot[1, 3, 3] = 1.0
    masks = left_half(32).repeat(2, 0)
    assert pointing_game(hot, masks).tolist() == [1.0, 0.0]
    assert pointing_game(5 - hot[:1] * 3, masks[:1]) == (8 - 1) / 15  # 15 cells tie, 7 of them inside


def test_a_flat_map_points_as_often_as_a_random_pixel():
    mask = box_mask(np.array([[0.0, 0.0, 0.5, 0.25]]), (0, 0, 1, 1), 64)[None]
    assert pointing_game(np.full((1, 8, 8), 0.3), mask) == mask.mean() == 0.125


def test_mean_iou_by_hand():
    # a ramp from 0 to 1 along 5 columns; the mask holds the last two
    ramp = np.tile(np.linspace(0, 1, 5), (1, 5, 1))
    mask = np.zeros((1, 5, 5), bool)
    mask[:, :, 3:] = True
    # above 0.1 and 0.2: columns 1-4, IoU 2/4; above 0.3 and 0.4: 2-4, 2/3; above 0.5: 3-4, 1
    assert mean_iou(ramp, mask) == pytest.approx((2 / 4 + 2 / 4 + 2 / 3 + 2 / 3 + 1) / 5)
    assert mean_iou(7 * ramp - 3, mask) == pytest.approx(mean_iou(ramp, mask))
    assert len(THRESHOLDS) == 5


def test_a_map_equal_to_the_mask_has_iou_one_and_a_flat_one_none():
    mask = left_half(16)
    assert mean_iou(mask.astype(float), mask) == 1.0
    assert mean_iou(np.ones((1, 4, 4)), mask) == 0.0


def test_upsampling_is_linear_between_the_centres_of_cells():
    fine = upsample(np.array([[[0.0, 1.0]]]).repeat(2, 1), 8)[0]
    assert fine[3] == pytest.approx([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1])


def test_chunks_do_not_matter():
    rng = np.random.default_rng(0)
    maps, masks = rng.random((7, 4, 4)), rng.random((7, 16, 16)) > 0.6
    whole, parts = grounding_scores(maps, masks), grounding_scores(maps, masks, chunk=3)
    for name in ("pointing", "mIoU"):
        assert np.array_equal(whole[name], parts[name]) and len(set(whole[name].tolist())) > 1


def test_the_centre_is_highest_in_the_middle():
    fine = upsample(centre_map()[None], 64)[0]
    assert fine[31:33, 31:33].min() == fine.max() and fine[0, 0] < 1e-12
    assert fine[32, 10] == pytest.approx(fine[10, 32])


def test_exchanged_maps_come_from_other_images_each_once():
    images = np.array(["a"] * 5 + ["b"] * 3 + ["c", "d", "e", "f"])
    seen = set()
    for seed in range(20):
        other = exchange(images, np.random.default_rng(seed))
        assert sorted(other) == list(range(12))
        assert (images[other] != images).all()
        seen.add(tuple(other))
    assert len(seen) == 20


def test_one_image_with_most_phrases_has_no_control():
    assert exchange(np.array(["a", "a", "a", "b"]), np.random.default_rng(0)) is None
