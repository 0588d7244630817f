"""docs/migration.md: both sides of every pair are run on the same weights and compared.

A pair is a comment `<!-- pair: LIBRARY WHAT -->` and two blocks of Python. What both leave in
variables of the same name is compared, but for models and the like. transformers has no TensorFlow
classes any more, so its torch class of the same name is run; google-research/bert needs
TensorFlow 1, so transformers and a reference give what its side would leave.
"""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import bert_keras
from bert_keras import models
from bert_keras.checkpoint import google, huggingface
from bert_keras.text.tokenizer import Tokenizer
from tests.checkpoint import foreign
from tests.checkpoint import garden as makers
from tests.text import google_reference
from tools import command, run_finetuning

PAGE = Path(__file__).resolve().parents[1] / "docs" / "migration.md"
TEXT = PAGE.read_text(encoding="utf-8")
PAIRS = re.findall(
    r"<!-- pair: (\w+) (\w+) -->\n```python\n(.*?)```\n\n```python\n(.*?)```", TEXT, re.DOTALL
)
TOLERANCE = 1e-5
OBJECTS = {"model", "network", "config", "tokenizer", "output", "row", "inputs", "encoder", "head"}
TEXTS = ["the film is good", "the bad, bad film is is is is is", "good"]
GOOGLE_CONFIG = {**foreign.SIZES, "hidden_act": "gelu"}


def pairs(library):
    found = [(what, old, new) for name, what, old, new in PAIRS if name == library]
    names = [re.search(r"import (\w+)", old)[1] for _, old, _ in found]
    return pytest.mark.parametrize(
        ("what", "old", "new"),
        [pytest.param(*pair, id=f"{pair[0]}-{n}") for n, pair in zip(names, found)],
    )


def batch(what):
    inputs = foreign.inputs(what)
    return {
        "ids": inputs["token_ids"],
        "segments": inputs["segment_ids"],
        "mask": inputs["padding_mask"],
        "texts": TEXTS,
        "np": np,
    }


def run(code, names, places):
    """What a block leaves, after its placeholders became paths."""
    for placeholder, path in places.items():
        code = code.replace(f'"{placeholder}', f'"{path}')
    names = dict(names)
    exec(compile(code, "docs/migration.md", "exec"), names)
    return {name: value for name, value in names.items() if name != "__builtins__"}


def run_new(code, what, places):
    import tensorflow as tf

    return run(code, {**batch(what), "bert_keras": bert_keras, "tf": tf}, places)


def plain(value):
    """A value without its framework: an array, or what it was."""
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    elif keras.ops.is_tensor(value):
        value = keras.ops.convert_to_numpy(value)
    if isinstance(value, list | tuple):
        value = [plain(each) for each in value]
        flat = value and all(isinstance(each, list) for each in value)
        if flat and all(isinstance(x, float) for each in value for x in each):
            value = np.array(value)
    return value


def compare(old, new, what):
    """Asserts that what both sides left is the same, on real tokens where there is a mask."""
    left = batch(what)
    real = left["mask"].astype(bool)
    names = sorted((old.keys() & new.keys()) - OBJECTS - left.keys() - {"bert_keras", "tf"})
    assert names, "the two sides have no result of the same name"
    for name in names:
        expected, found = plain(old[name]), plain(new[name])
        if not isinstance(expected, np.ndarray):
            assert found == expected, name
            continue
        found = np.asarray(found)
        if expected.dtype.kind != "f":
            assert np.array_equal(found, expected), name
            continue
        assert found.shape == expected.shape, name
        if expected.shape[:2] == real.shape and what != "multiple_choice":
            expected, found = expected[real], found[real]
        elif expected.ndim == 4:  # attention maps: rows of real tokens
            expected, found = (x.swapaxes(1, 2)[real] for x in (expected, found))
        assert np.abs(found - expected).max() < TOLERANCE, name


def test_every_heading_of_a_class_has_its_pair():
    """A pair that the pattern does not find is a pair that nobody runs."""
    assert len(PAIRS) == TEXT.count("<!-- pair") >= 18
    assert {name for name, *_ in PAIRS} == {"transformers", "garden", "keras_hub", "google"}
    shown = "".join(old for name, _, old, _ in PAIRS if name == "transformers")
    for _, theirs, _ in foreign.CLASSES.values():
        assert f"TF{theirs}" in shown


# --- transformers ---------------------------------------------------------------------------------


@pairs("transformers")
def test_transformers(what, old, new, tmp_path):
    torch = pytest.importorskip("torch")
    places = {}
    if what != "config":
        places["MODEL_DIR"] = foreign.their_directory(tmp_path / "m", what)
    names = batch(what if what != "config" else "encoder")
    names |= {n: torch.tensor(names[n], dtype=torch.long) for n in ("ids", "segments", "mask")}
    if "output_attentions" in old:  # torch's fused attention has no maps to show
        old = old.replace('("MODEL_DIR")', '("MODEL_DIR", attn_implementation="eager")')
    old = old.replace("TFBert", "Bert").replace('return_tensors="tf"', 'return_tensors="pt"')
    with torch.no_grad():
        theirs = run(old, names, places)
    compare(theirs, run_new(new, what if what != "config" else "encoder", places), what)


# --- the Model Garden -----------------------------------------------------------------------------

# It runs on Keras 2 (tf_keras): in a process of its own, which makes the checkpoints of random
# weights, runs every old block of the page on them, and leaves the results.
GARDEN = """
import json

with open(os.path.join(folder, "blocks.json")) as file:
    blocks = json.load(file)
with np.load(os.path.join(folder, "texts.npz")) as file:
    given = dict(file)


def save(name, model, inputs, /, **items):
    model(inputs)
    fill(model)
    tf.train.Checkpoint(**items).write(os.path.join(folder, name, "ckpt"))


made = encoder()
save("encoder", made, batch, encoder=made)
head = layers.ClassificationHead(inner_dim=33, num_classes=2, name="next_sentence")
made = models.BertPretrainerV2(encoder(), mlm_activation=tanh, classification_heads=[head])
positions = np.array([[2, 3]] * len(given["ids"]))
save("pretraining", made, {**batch, "masked_lm_positions": positions}, model=made)
made = models.BertClassifier(encoder(), num_classes=4)
save("sequence_classification", made, batch, model=made)

for index, (what, code) in enumerate(blocks):
    code = code.replace('"CHECKPOINT"', repr(os.path.join(folder, what, "ckpt")))
    code = code.replace('"VOCAB_FILE"', repr(os.path.join(folder, "encoder", "vocab.txt")))
    names = {"tf": tf, "np": np, **given, "texts": given["texts"].tolist()}
    exec(code, names)
    left = {n: v.numpy() for n, v in names.items() if isinstance(v, tf.Tensor)}
    np.savez(os.path.join(folder, f"old_{index}.npz"), **left)
"""


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    """A folder for each kind of model, and what the old blocks left in old_0.npz, ..."""
    folder = tmp_path_factory.mktemp("garden")
    for name in ("encoder", "pretraining", "sequence_classification"):
        (folder / name).mkdir()
        foreign.write_vocabulary(folder / name)
        (folder / name / "bert_config.json").write_text(json.dumps(GOOGLE_CONFIG))
    np.savez(folder / "inputs.npz", **foreign.inputs("encoder"))
    np.savez(folder / "texts.npz", **{k: v for k, v in batch("encoder").items() if k != "np"})
    blocks = [(what, old) for library, what, old, _ in PAIRS if library == "garden"]
    (folder / "blocks.json").write_text(json.dumps(blocks))
    makers.run(makers.START + GARDEN, folder)
    return folder


@pairs("garden")
def test_model_garden(what, old, new, garden):
    index = [code for library, _, code, _ in PAIRS if library == "garden"].index(old)
    places = {"CHECKPOINT": garden / what / "ckpt", "VOCAB_FILE": garden / "encoder" / "vocab.txt"}
    ours = run_new(new, "encoder", places)
    with np.load(garden / f"old_{index}.npz") as file:
        theirs = dict(file)
    if what == "tokenizer":  # theirs is padded to the 7 that it was asked for
        for name in ("token_ids", "padding_mask"):
            width = ours[name].shape[1]
            assert not theirs[name][:, width:].any()
            theirs[name] = theirs[name][:, :width]
    compare(theirs, ours, "encoder")


# --- KerasHub -------------------------------------------------------------------------------------


def preset(folder, what):
    """A preset of KerasHub's own saving, with random weights."""
    from keras_hub.models import (
        BertBackbone,
        BertMaskedLM,
        BertTextClassifier,
        BertTextClassifierPreprocessor,
        BertTokenizer,
    )

    backbone = BertBackbone(
        vocabulary_size=101,
        num_layers=2,
        num_heads=3,
        hidden_dim=33,
        intermediate_dim=47,
        max_sequence_length=61,
    )
    tokenizer = BertTokenizer(vocabulary=foreign.VOCABULARY, lowercase=True)
    preprocessor = BertTextClassifierPreprocessor(tokenizer, sequence_length=16)
    model = BertTextClassifier(backbone, num_classes=3, preprocessor=preprocessor)
    foreign.randomise(model)
    masked_lm = foreign.randomise(BertMaskedLM(backbone), seed=8)
    tasks = {"sequence_classification": model, "masked_lm": masked_lm}
    if what in tasks:
        tasks[what].save_to_preset(str(folder))
        if what == "masked_lm":
            tokenizer.save_to_preset(str(folder))
    else:
        backbone.save_to_preset(str(folder))
        tokenizer.save_to_preset(str(folder))
    return folder


@pairs("keras_hub")
def test_keras_hub(what, old, new, tmp_path):
    pytest.importorskip("keras_hub")
    foreign.write_vocabulary(tmp_path)
    places = {"VOCAB_FILE": tmp_path / "vocab.txt"}
    if what != "tokenizer":
        places["PRESET_DIR"] = preset(tmp_path / "preset", what)
    ours = run_new(new, "encoder", places)
    compare(run(old, batch("encoder"), places), ours, "encoder")


# --- google-research/bert -------------------------------------------------------------------------


@pairs("google")
def test_google_research_bert(what, old, new, tmp_path):
    """Its TensorFlow 1 is not installed: others say what the old side leaves."""
    compile(old, "docs/migration.md", "exec")
    foreign.write_vocabulary(tmp_path)
    if what == "tokenizer":
        tokenizer = Tokenizer.load(tmp_path / "vocab.txt")
        ids = tokenizer.vocabulary.ids
        theirs = {
            "token_ids": [
                [ids[piece] for piece in google_reference.tokenize(text, ids, True)]
                for text in TEXTS
            ]
        }
        compare(theirs, run_new(new, "encoder", {"VOCAB_FILE": tmp_path / "vocab.txt"}), "encoder")
        return
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = bert_keras.BertConfig.from_dict({**GOOGLE_CONFIG, "hidden_act": "gelu_new"})
    network = foreign.randomise(models.Pretrainer(config))
    google.save_network(network, tmp_path)
    (tmp_path / "theirs").mkdir()
    huggingface.save_network(network, tmp_path / "theirs")
    inputs = foreign.inputs("encoder")
    with torch.no_grad():
        output = transformers.BertModel.from_pretrained(tmp_path / "theirs")(
            input_ids=torch.tensor(inputs["token_ids"], dtype=torch.long),
            token_type_ids=torch.tensor(inputs["segment_ids"], dtype=torch.long),
            attention_mask=torch.tensor(inputs["padding_mask"], dtype=torch.long),
        )
    theirs = {"sequence": output.last_hidden_state, "pooled": output.pooler_output}
    compare(theirs, run_new(new, "encoder", {"CHECKPOINT_DIR": tmp_path}), "encoder")


# run_classifier.py's flags, from its documentation, with those that only a TPU's runtime reads.
GOOGLE_FLAGS = """
    data_dir bert_config_file task_name vocab_file output_dir init_checkpoint do_lower_case
    max_seq_length do_train do_eval do_predict train_batch_size eval_batch_size predict_batch_size
    learning_rate num_train_epochs warmup_proportion save_checkpoints_steps iterations_per_loop
    use_tpu tpu_name tpu_zone gcp_project master num_tpu_cores
""".split()


def flag_rows():
    table = TEXT[TEXT.index("| flag of run_classifier.py |") :]
    return [[cell.strip() for cell in line.split("|")[1:4]] for line in table.splitlines()[2:]]


def test_every_flag_of_run_classifier_is_in_the_table():
    old = [name for row in flag_rows() for name in re.findall(r"--(\w+)", row[0])]
    assert sorted(old) == sorted(GOOGLE_FLAGS)


def test_the_flags_that_the_table_names_exist_with_the_defaults_it_names():
    required = ["--task_name=MRPC", "--output_dir=out"]
    flags = command.parse(run_finetuning.define_flags, ["run_finetuning", *required])
    for _, new, differs in flag_rows():
        for name in re.findall(r"--(?:no)?(\w+)", new):
            assert name in flags, name
            stated = re.match(r"[\d.e-]+(?= |;|$)", differs)
            if stated:
                assert float(flags[name].value) == float(stated[0]), name
