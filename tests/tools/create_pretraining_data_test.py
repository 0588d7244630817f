"""The command itself: what it writes, who can read it, and what it refuses."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from bert_keras.data import record_directory, tfrecord
from bert_keras.errors import InputError
from bert_keras.pretraining.records import static_schema
from tools import command

NAME = "create_pretraining_data"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Documents of letters and words that every vocabulary of the tests has."""
    rng = np.random.default_rng(3)
    words = "the film was is not good bad very great dull it and of we saw bank river qx zu".split()
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    with path.open("w") as file:
        for _ in range(40):
            for _ in range(rng.integers(1, 25)):
                file.write(" ".join(rng.choice(words, rng.integers(1, 15))) + " .\n")
            file.write("\n")
    return path


@pytest.fixture(scope="module")
def vocab_file(tmp_path_factory):
    """One file for all tests, so that its graph tokenizer is built once."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".!", *map(chr, range(97, 123))]
    tokens += [f"##{chr(i)}" for i in range(97, 123)]
    tokens += "the film was is not good bad very great dull it and of we saw bank river".split()
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(tokens) + "\n")
    return path


def make(corpus, vocab_file, *flags):
    return command.call(NAME, [f"--input_file={corpus}", f"--vocab_file={vocab_file}", *flags])


def read(paths):
    return [tf.train.Example.FromString(r) for path in paths for r in tfrecord.read_shard(path)]


def ints(example, name):
    return list(example.features.feature[name].int64_list.value)


def test_static_records_as_google_research_bert_reads_them(corpus, vocab_file, tmp_path):
    paths = [tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"]
    names = ",".join(map(str, paths))
    make(corpus, vocab_file, f"--output_file={names}", "--dupe_factor=3", "--max_seq_length=64")
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    records = [list(tfrecord.read_shard(path)) for path in paths]
    assert len(records[0]) - len(records[1]) in (0, 1)
    features = {
        name: tf.io.FixedLenFeature(shape, dtype)
        for name, (dtype, shape) in static_schema(64, 20, True, False).items()
    }
    labels = []
    for record in records[0] + records[1]:
        row = {k: v.numpy() for k, v in tf.io.parse_single_example(record, features).items()}
        length = row["input_mask"].sum()
        assert row["input_mask"].tolist() == [1] * length + [0] * (64 - length)
        assert row["input_ids"][0] == 2 and row["input_ids"][length - 1] == 3
        assert not row["input_ids"][length:].any() and not row["segment_ids"][length:].any()
        count = min(20, max(1, round(int(length) * 0.15)))
        assert row["masked_lm_weights"].tolist() == [1] * count + [0] * (20 - count)
        assert not row["masked_lm_ids"][count:].any()
        assert np.all(np.diff(row["masked_lm_positions"][:count]) > 0)
        labels += row["next_sentence_labels"].tolist()
    assert 0.4 < np.mean(labels) < 0.75


@pytest.mark.parametrize("v2", [False, True])
def test_the_model_gardens_loader_reads_them(corpus, vocab_file, tmp_path, v2):
    pytest.importorskip("official")
    from official.nlp.data import pretrain_dataloader

    flags = ["--use_v2_feature_names"] * v2
    make(corpus, vocab_file, f"--output_dir={tmp_path / 'out'}", "--dupe_factor=1", *flags)
    config = pretrain_dataloader.BertPretrainDataConfig(
        input_path=str(tmp_path / "out" / "part-*.tfrecord"),
        global_batch_size=5,
        seq_length=128,
        max_predictions_per_seq=20,
        is_training=False,
        drop_remainder=False,
        use_v2_feature_names=v2,
    )
    batches = list(pretrain_dataloader.BertPretrainDataLoader(config).load())
    manifest = record_directory.read_manifest(tmp_path / "out")
    assert sum(len(batch["input_word_ids"]) for batch in batches) == manifest.count
    batch = batches[0]
    assert batch["input_word_ids"].shape == batch["input_type_ids"].shape == (5, 128)
    assert batch["masked_lm_weights"].shape == (5, 20)
    assert int(tf.reduce_sum(tf.cast(batches[-1]["input_mask"], tf.int32))) > 0


def test_a_dynamic_record_directory(corpus, vocab_file, tmp_path):
    out = tmp_path / "out"
    flags = "--masking=dynamic", "--max_seq_length=48", "--num_shards=3", "--gzip_compress"
    make(corpus, vocab_file, f"--output_dir={out}", *flags)
    assert sorted(path.name for path in out.iterdir()) == [
        "manifest.json",
        *(f"part-0000{i}-of-00003.tfrecord.gz" for i in range(3)),
        "report.html",
        "report.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    assert record_directory.verify(out) == []
    manifest = record_directory.read_manifest(out)
    rows = read(out / shard.file for shard in manifest.shards)
    assert manifest.kind == "dynamic" and manifest.objective == "nsp" and not manifest.packed
    assert len(rows) == manifest.count
    assert sum(len(ints(row, "input_ids")) for row in rows) == manifest.tokens
    assert manifest.flags["masking"] == "dynamic" and manifest.corpus["documents"] == 40
    assert manifest.max_predictions_per_seq is None and manifest.max_seq_length == 48
    pieces = (out / "vocab.txt").read_text().split("\n")
    for row in rows:
        ids, segments = ints(row, "input_ids"), ints(row, "segment_ids")
        starts = ints(row, "word_starts")
        assert set(row.features.feature) == set(manifest.schema)
        assert len(ids) <= 48 and ids.count(3) == 2 and ids[0] == 2 and ids[-1] == 3
        assert segments == [0] * (ids.index(3) + 1) + [1] * (len(ids) - ids.index(3) - 1)
        assert starts == [int(i not in (2, 3) and not pieces[i].startswith("##")) for i in ids]
        assert all(not s or w for s, w in zip(ints(row, "sentence_starts"), starts))


def test_packed_rows(corpus, vocab_file, tmp_path):
    out = tmp_path / "out"
    flags = "--masking=dynamic", "--objective=none", "--pack", "--max_seq_length=96"
    make(corpus, vocab_file, f"--output_dir={out}", *flags)
    manifest = record_directory.read_manifest(out)
    assert manifest.packed and manifest.objective == "none"
    rows = read(out / shard.file for shard in manifest.shards)
    several = 0
    for row in rows:
        ids, documents = ints(row, "input_ids"), ints(row, "document_ids")
        assert "next_sentence_labels" not in row.features.feature
        assert documents == np.cumsum(np.array(ids) == 2).tolist()
        several += documents[-1] > 1
    assert several > 5
    real = sum(len([i for i in ints(row, "input_ids") if i not in (2, 3)]) for row in rows)
    assert real == manifest.corpus["tokens"]


def test_masking_flags_do_what_they_say(corpus, vocab_file, tmp_path):
    def masked(name, *flags):
        make(corpus, vocab_file, f"--output_file={tmp_path / name}", "--dupe_factor=1", *flags)
        return read([tmp_path / name])

    rows = masked("all", "--predict=all", "--max_seq_length=64")
    for row in rows:
        weights = row.features.feature["masked_lm_weights"].float_list.value
        assert len(weights) == 64 and sum(weights) == sum(ints(row, "input_mask")) - 3
    rows = masked("mask", "--mask_share=1", "--random_share=0", "--do_whole_word_mask")
    for row in rows:
        ids, count = (
            ints(row, "input_ids"),
            int(sum(row.features.feature["masked_lm_weights"].float_list.value)),
        )
        assert [ids[p] for p in ints(row, "masked_lm_positions")[:count]] == [4] * count
        assert ids.count(4) == count
    one, other = masked("one", "--random_seed=1"), masked("other", "--random_seed=2")
    assert one != other and masked("again", "--random_seed=1") == one


def test_the_library_is_told_of_json_lines_and_phrases(vocab_file, tmp_path):
    text = [{"body": "the bank was great. it is dull!\nwe saw it."}, {"body": "river bank"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, text)))
    (tmp_path / "phrases").write_text("river bank\n")
    flags = "--masking=dynamic", "--text_field=body", "--split_sentences", "--objective=none"
    flags += (f"--phrase_file={tmp_path / 'phrases'}", f"--output_dir={tmp_path / 'out'}")
    make(tmp_path / "a.jsonl", vocab_file, *flags)
    manifest = record_directory.read_manifest(tmp_path / "out")
    assert manifest.corpus["sentences"] == 4 and manifest.corpus["documents"] == 2
    rows = read(tmp_path / "out" / shard.file for shard in manifest.shards)
    short = min(rows, key=lambda row: len(ints(row, "input_ids")))
    assert ints(short, "word_starts") == [0, 1, 0, 0]
    assert ints(short, "sentence_starts") == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "give one of --output_file, --output_dir"),
        (["--output_file=a", "--output_dir=b"], "give one of --output_file, --output_dir"),
        (
            ["--output_file=a", "--num_shards=2"],
            "--num_shards is for --output_dir; --output_file names the shards",
        ),
        (["--output_file=a,a"], "--output_file names a file twice"),
        (
            ["--output_dir=b", "--masking=dynamic", "--dupe_factor=5"],
            "--dupe_factor is 1 with --masking=dynamic: every epoch draws new masks of each text; "
            "leave it out",
        ),
        (
            ["--output_dir=b", "--masking=dynamic", "--masked_lm_prob=0.4"],
            "--masked_lm_prob is for --masking=static; with dynamic records it is the training's; "
            "leave it out",
        ),
        (
            ["--output_dir=b", "--pack"],
            "--pack puts documents side by side: it needs --objective=none",
        ),
        (
            ["--output_dir=b", "--max_seq_length=4"],
            "--max_seq_length: at least 5 for the special tokens",
        ),
        (
            ["--output_dir=b", "--max_ngram_size=3"],
            "--max_ngram_size needs --do_whole_word_mask or --mask_unit=ngram",
        ),
        (
            ["--output_dir=b", "--phrase_file=p"],
            "--phrase_file has no effect on single tokens: --mask_unit=word",
        ),
        (
            ["--output_dir=b", "--do_whole_word_mask", "--mask_unit=span"],
            "--do_whole_word_mask and --mask_unit contradict each other",
        ),
    ],
)
def test_flags_that_cannot_be(corpus, vocab_file, flags, said):
    with pytest.raises(command.UsageError) as caught:
        make(corpus, vocab_file, *flags)
    assert str(caught.value) == said


def test_what_it_refuses_of_text_vocabulary_and_place(corpus, vocab_file, tmp_path):
    def refused(path, *flags, vocab_file=vocab_file):
        with pytest.raises(InputError) as caught:
            make(path, vocab_file, *(flags or [f"--output_dir={tmp_path / 'out'}"]))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    empty, one, no_mask = tmp_path / "empty", tmp_path / "one", tmp_path / "vocab"
    empty.write_text("\n \n\u0001\n")
    one.write_text("the bank\nwas great\n\n\n\u0001\n")
    tokens = vocab_file.read_text()
    no_mask.write_text(tokens.replace("[MASK]\n", ""))
    assert refused(empty) == f"{empty}: no token; expected text, a sentence a line."
    assert not (tmp_path / "out").exists()
    assert refused(one) == (
        f"{one}: a single document, but --objective=nsp takes random segments from another one; "
        "put a blank line between documents, or choose --objective=sop or none."
    )
    assert refused(corpus, vocab_file=no_mask) == (
        f"{no_mask}: no line [MASK]; BERT needs [PAD] [UNK] [CLS] [SEP] [MASK]."
    )
    assert "no file is called" in refused(tmp_path / "none")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert refused(corpus, f"--output_dir={tmp_path / 'full'}") == (
        f"{tmp_path / 'full'} is not empty; give a new directory."
    )
    assert refused(corpus, f"--output_file={one}") == (
        f"{one} exists already; remove it or choose another place."
    )
    assert refused(corpus, f"--output_file={tmp_path}/no/a") == (
        f"--output_file: there is no directory {pathlib.Path(tmp_path, 'no')}."
    )
