"""Sentences -> token ids and a sentence index, once and offline.

The caption of a report is its sentences joined by blanks, tokenised as [CLS] ... [SEP]; sentence j owns the word pieces it
gives when tokenised alone (method specification 1.2). Special tokens belong to no sentence, after truncation as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cmcgns.errors import InputError
from cmcgns.files import sha256_file
from cmcgns.parquet import read_parquet, write_parquet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tokenize_reports(
    *,
    reports: Path,
    tokens: Path,
    tokenizer: Path,
    tokenizer_config: Path,
    encoder: dict[str, Any],
    max_tokens: int,
) -> int:
    """Write the token table (study_id, token_ids, sentence_index, word_index) and the tokenizer.

    Args:
        reports: the table of `reports extract`; only kept studies are tokenised.
        tokenizer, tokenizer_config: `tokenizer.json` and `tokenizer_config.json`, in one folder: transformers names them.
        encoder: the text encoder's settings; `name: random` trains a WordPiece vocabulary on these reports.
        max_tokens: longest sequence, [CLS] and [SEP] included.

    Returns:
        The number of reports written.
    """
    table = read_parquet(reports, columns=["study_id", "sentences", "kept"])
    table = table[table["kept"]].reset_index(drop=True)
    if table.empty:
        raise InputError("no report is kept", file=reports, remedy="see the column `reason` in this file")
    if encoder["name"] == "random":
        words = train_wordpiece(table["sentences"], vocab_size=encoder["vocab_size"])
    else:
        words = load_tokenizer(encoder["name"])
    encoded = encode(list(table["sentences"]), words, max_tokens)
    words.save_pretrained(tokenizer.parent)
    columns = dict(zip(("token_ids", "sentence_index", "word_index"), encoded, strict=True))
    frame = pd.DataFrame({"study_id": table["study_id"], **columns})
    meta = {
        "reports": sha256_file(reports),
        "tokenizer": encoder["name"],
        "vocab_size": len(words),
        "pad_token_id": words.pad_token_id,
    }
    write_parquet(frame, tokens, meta)
    return len(frame)


def encode(
    reports: list[Iterable[str]], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Token ids, sentence index and word index of each report; all int32, of equal length <= `max_tokens`."""
    unique = list(dict.fromkeys(sentence for sentences in reports for sentence in sentences))
    pieces = tokenizer(unique, add_special_tokens=False)["input_ids"] if unique else []
    alone = dict(zip(unique, (np.asarray(p, np.int32) for p in pieces), strict=True))
    continues = np.array(
        [piece.startswith("##") for piece in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    )
    all_ids, all_index, all_words = [], [], []
    for sentences in reports:
        parts = [alone[s] for s in sentences]
        body = np.concatenate(parts)[: max_tokens - 2]
        owner = np.repeat(np.arange(len(parts), dtype=np.int32), [len(p) for p in parts])[: max_tokens - 2]
        all_ids.append(
            np.concatenate([[tokenizer.cls_token_id], body, [tokenizer.sep_token_id]]).astype(np.int32)
        )
        all_index.append(np.concatenate([[-1], owner, [-1]]).astype(np.int32))
        words = np.cumsum(~continues[body]) - 1
        all_words.append(np.concatenate([[-1], words, [-1]]).astype(np.int32))
    return all_ids, all_index, all_words


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The published tokenizer of a text encoder, from the hub or a local folder."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, use_fast=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the tokenizer {name!r} is not to be had ({str(error).splitlines()[0]})",
            expected="a model name on the hub or a folder that holds the tokenizer",
            remedy="download it once on a machine with network, or set encoders.text.name to its folder",
        ) from None


def train_wordpiece(reports: Iterable[Iterable[str]], vocab_size: int) -> PreTrainedTokenizerFast:
    """A lower-casing BERT tokenizer whose vocabulary is learnt from `reports`.

    The vocabulary is every character, alone and as a continuation, and the most frequent words, ties in alphabetical
    order: the trainer of `tokenizers` breaks ties by a hash that differs between two runs.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Counter(
        word for sentences in reports for sentence in sentences for word in sentence.lower().split()
    )
    characters = sorted(set("".join(words)))
    frequent = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    pieces = [*SPECIAL, *characters, *(f"##{character}" for character in characters), *frequent][:vocab_size]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)},
    )
