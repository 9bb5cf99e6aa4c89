import json

import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.sources.groups import read_groups, resolve


def test_a_csv_and_the_nih_map_agree(put):
    expected = {"exam-a": "00001234", "exam-b": "00001234", "exam-c": "00000007"}
    table = pd.DataFrame({"image": list(expected), "group": list(expected.values())})
    entries = [
        {"subset_img_id": image, "img_id": f"{group}_{i:03d}.png", "StudyInstanceUID": "1.2"}
        for i, (image, group) in enumerate(expected.items())
    ]
    for groups in (put("groups.csv", table.to_csv(index=False)), put("map.json", json.dumps(entries))):
        assert read_groups(groups).to_dict() == expected


def test_an_image_with_two_groups_or_a_blank_is_refused(put):
    assert read_groups(put("a.csv", "image,group\na,1\na,1\n")).to_dict() == {"a": "1"}
    with pytest.raises(InputError, match="line 3.*two groups"):
        read_groups(put("b.csv", "image,group\na,1\na,2\n"))
    with pytest.raises(InputError, match="line 2.*blank"):
        read_groups(put("c.csv", "image,group\na,\n"))


def test_what_is_no_map_is_refused(put):
    with pytest.raises(InputError, match="the columns image, group"):
        read_groups(put("groups.csv", "image\na\n"))
    for content in ('{"a": 1}', "[1]", '[{"img_id": "00000001_000.png"}]'):
        with pytest.raises(InputError, match="not the RSNA-to-NIH map"):
            read_groups(put("map.json", content))
    with pytest.raises(InputError, match="row line 1.*not an NIH file name"):
        read_groups(put("map.json", '[{"img_id": "x.png", "subset_img_id": "a"}]'))


def test_half_a_map_is_refused(tmp_path):
    images = pd.Series(["a", "b"], index=[2, 3])
    assert resolve(images, pd.Series({"b": "2", "a": "1"}), tmp_path).to_dict() == {2: "1", 3: "2"}
    with pytest.raises(InputError, match="line 3.*not in the map of groups"):
        resolve(images, pd.Series({"a": "1"}), tmp_path)
