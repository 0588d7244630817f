import numpy as np

from bert_keras.data import features
from bert_keras.text.tokenizer import Tokenizer


def encode(tiny_vocab_file, *texts, **options):
    tokenizer = Tokenizer.load(tiny_vocab_file)
    return features.encode(tokenizer, *texts, **options), tokenizer.vocabulary.ids


def test_one_text_a_row(tiny_vocab_file):
    rows, ids = encode(tiny_vocab_file, ["the film", "good", ""], labels=np.array([1, 0, 1]))
    # "film" is not in the vocabulary (its entry is "a_film"), so it is cut into letters.
    assert rows.token_ids[1].tolist() == [ids["[CLS]"], ids["good"], ids["[SEP]"]]
    assert rows.token_ids[2].tolist() == [ids["[CLS]"], ids["[SEP]"]]
    assert rows.token_ids[0].tolist()[:3] == [ids["[CLS]"], ids["the"], ids["f"]]
    assert [segments.tolist() for segments in rows.segment_ids[1:]] == [[0, 0, 0], [0, 0]]
    assert {ids.dtype.name for ids in rows.token_ids + rows.segment_ids} == {"int32"}
    assert rows.lengths.tolist() == [7, 3, 2]
    assert (len(rows), rows.truncated, rows.labels.tolist()) == (3, 0, [1, 0, 1])


def test_pairs_are_truncated_at_the_longer_text(tiny_vocab_file):
    rows, ids = encode(
        tiny_vocab_file, ["good bad very", "good"], ["dull", "bad"], max_seq_length=6
    )
    special = ids["[CLS]"], ids["[SEP]"]
    assert rows.token_ids[0].tolist() == [
        *(special[0], ids["good"], ids["bad"], special[1], ids["dull"], special[1])
    ]
    assert rows.segment_ids[0].tolist() == [0, 0, 0, 0, 1, 1]
    assert rows.lengths.tolist() == [6, 5]
    assert rows.truncated == 1
    assert rows.labels is None


def test_the_schema_names_every_feature_of_a_batch(tiny_vocab_file):
    rows, _ = encode(tiny_vocab_file, ["good", "the bank"], labels=np.zeros(2, "int32"))
    batch = rows.batch(np.array([1, 0]))
    assert tuple(batch) == (*features.INPUTS, features.LABELS)
    for name in batch:
        assert f"| {name} " in features.__doc__
    assert batch["padding_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_padding():
    rows = [np.array([5, 6, 7], "int32"), np.array([8], "int32")]
    assert features.pad_rows(rows).tolist() == [[5, 6, 7], [8, 0, 0]]
    assert features.pad_rows(rows, 9).tolist() == [[5, 6, 7], [8, 9, 9]]
