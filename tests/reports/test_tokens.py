"""Token ids and the sentence index of each token."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.parquet import read_meta, read_parquet, write_parquet
from cmcgns.reports import tokens

SENTENCES = [["no pleural effusion", "the heart is large"], ["lungs clear"], ["the heart is normal in size"]]


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.train_wordpiece(SENTENCES * 5, vocab_size=90)


def test_each_sentence_owns_its_pieces_and_special_tokens_belong_to_none(tokenizer):
    ids, index, _ = tokens.encode(SENTENCES, tokenizer, max_tokens=64)
    for report, report_ids, owner in zip(SENTENCES, ids, index, strict=True):
        assert (report_ids[0], report_ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert (owner[0], owner[-1]) == (-1, -1)
        for j, sentence in enumerate(report):
            assert list(report_ids[owner == j]) == tokenizer(sentence, add_special_tokens=False)["input_ids"]


def test_word_pieces_share_the_number_of_their_word():
    # "effusion" is no word of this vocabulary and falls into pieces
    tokenizer = tokens.train_wordpiece([["no", "pleural"]] * 3 + [["e f u s i o n"]], vocab_size=90)
    (ids,), _, (words,) = tokens.encode([["no pleural effusion", "no"]], tokenizer, max_tokens=64)
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert pieces[1:3] == ["no", "pleural"] and pieces[3] == "e" and pieces[4] == "##f"
    assert list(words) == [-1, 0, 1] + [2] * len("effusion") + [3, -1]


def test_sentence_by_sentence_is_the_caption_tokenised_at_once(tokenizer):
    ids, _, _ = tokens.encode(SENTENCES, tokenizer, max_tokens=64)
    for report, report_ids in zip(SENTENCES, ids, strict=True):
        assert list(report_ids) == tokenizer(" ".join(report))["input_ids"]


def test_truncation_keeps_the_last_special_token_out_of_every_sentence(tokenizer):
    whole, _, _ = tokens.encode(SENTENCES[:1], tokenizer, max_tokens=64)
    ids, index, _ = tokens.encode(SENTENCES[:1], tokenizer, max_tokens=4)
    assert len(ids[0]) == 4
    assert list(ids[0][:3]) == list(whole[0][:3])
    assert ids[0][3] == tokenizer.sep_token_id
    assert list(index[0]) == [-1, 0, 0, -1]


def files(folder, name: str) -> dict:
    """What the step is handed: its reports, and what it writes into a folder of this name."""
    written = {
        "tokens": "tokens.parquet",
        "tokenizer": "tokenizer.json",
        "tokenizer_config": "tokenizer_config.json",
    }
    return {"reports": folder / "r.parquet"} | {key: folder / name / file for key, file in written.items()}


def test_only_kept_reports_are_written_and_a_second_run_gives_the_same_bytes(tmp_path):
    table = pd.DataFrame({"study_id": ["1", "2", "3"], "sentences": SENTENCES, "kept": [True, False, True]})
    write_parquet(table, tmp_path / "r.parquet")
    for name in ("a", "b"):
        count = tokens.tokenize_reports(
            **files(tmp_path, name), encoder={"name": "random", "vocab_size": 90}, max_tokens=32
        )
        assert count == 2
    assert list(read_parquet(tmp_path / "a/tokens.parquet")["study_id"]) == ["1", "3"]
    for file in ("tokens.parquet", "tokenizer.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    meta = read_meta(tmp_path / "a/tokens.parquet")
    largest = max(np.max(ids) for ids in read_parquet(tmp_path / "a/tokens.parquet")["token_ids"])
    assert largest < meta["vocab_size"] <= 90


def test_a_saved_tokenizer_loads_like_a_published_one(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path)
    again = tokens.load_tokenizer(str(tmp_path))
    assert again("lungs clear")["input_ids"] == tokenizer("lungs clear")["input_ids"]


def test_no_tokenizer_and_no_kept_report_are_told(tmp_path):
    with pytest.raises(InputError, match="not to be had"):
        tokens.load_tokenizer(str(tmp_path / "nothing"))
    write_parquet(
        pd.DataFrame({"study_id": ["1"], "sentences": [["a b"]], "kept": [False]}), tmp_path / "r.parquet"
    )
    with pytest.raises(InputError, match="no report is kept"):
        tokens.tokenize_reports(
            **files(tmp_path, "c"), encoder={"name": "random", "vocab_size": 90}, max_tokens=9
        )
