"""Which format a path is, and that a model goes through all of them with its bits."""

import dataclasses
import importlib.util

import keras
import numpy as np
import pytest

import bert_keras
from bert_keras import models
from bert_keras.checkpoint import formats
from bert_keras.config import BertConfig
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import Vocabulary
from bert_keras.text_model import TextModel
from tests.checkpoint import foreign

CONFIG = BertConfig(**foreign.SIZES, hidden_act="gelu_new")


def text_model(kind=models.EncoderModel, config=CONFIG, head=None, **changes):
    network = foreign.randomise(kind(config, **changes))
    return TextModel(
        network=network, tokenizer=Tokenizer(Vocabulary(foreign.VOCABULARY)), head=head
    )


def weights(model):
    return {
        each.path: keras.ops.convert_to_numpy(each).tobytes()
        for each in model.network.weights
        if "seed" not in each.path
    }


@pytest.mark.parametrize("kind", ["encoder", "classifier"])
def test_a_model_goes_through_every_format_with_its_bits(tmp_path, kind):
    if kind == "encoder":
        model = text_model()
    else:
        model = text_model(models.Classifier, num_labels=3)
        model = dataclasses.replace(model, problem_type="single_label_classification")
    expected = weights(model)
    route = ("huggingface", "keras_hub", "huggingface", "google", "huggingface")
    for step, format in enumerate(route):
        if format == "keras_hub":
            pytest.importorskip("keras_hub")
        if format == "google":
            pytest.importorskip("tensorflow")
        directory = tmp_path / str(step)
        bert_keras.save(model, directory, format=format)
        assert formats.sniff(directory) == format
        model = bert_keras.load(directory)
        assert weights(model) == expected, (step, format)
        assert model.network.config == CONFIG, (step, format)
        assert model.tokenizer.vocabulary.tokens == tuple(foreign.VOCABULARY)
        assert model.tokenizer.lower_case


def test_a_checkpoint_is_known_by_its_files(tmp_path):
    assert formats.sniff(tmp_path) == "huggingface"  # nothing at all: its errors say most
    assert formats.sniff(tmp_path / "nothing") == "huggingface"
    bert_keras.save(text_model(), tmp_path / "google", format="google")
    prefix = tmp_path / "google" / "bert_model.ckpt"
    for path in (tmp_path / "google", prefix, f"{prefix}.index"):
        assert formats.sniff(path) == "google"
        assert bert_keras.load(path).network.config == CONFIG
    config, left_to_right = bert_keras.checkpoint.read_encoder_config(prefix)
    assert (config, left_to_right) == (CONFIG, False)
    # An index beside a whole Hugging Face directory does not change what that is.
    bert_keras.save(text_model(), tmp_path / "both")
    (tmp_path / "both" / "bert_model.ckpt.index").write_bytes(b"x")
    assert formats.sniff(tmp_path / "both") == "huggingface"


def test_an_encoder_is_filled_from_a_google_checkpoint(tmp_path):
    model = text_model()
    bert_keras.save(model, tmp_path / "google", format="google")
    network = models.Classifier(CONFIG, 2)
    bert_keras.checkpoint.load_encoder_weights(network, tmp_path / "google")
    assert np.array_equal(network.encoder.pooler.kernel, model.network.encoder.pooler.kernel)


def test_fine_tuning_starts_from_any_format(tmp_path):
    import tasks
    from tasks import starting
    from tasks.finetune_settings import FinetuneSettings

    model = text_model()
    bert_keras.save(model, tmp_path / "google", format="google")
    places = [tmp_path / "google", tmp_path / "google" / "bert_model.ckpt"]
    if importlib.util.find_spec("keras_hub"):
        bert_keras.save(model, tmp_path / "preset", format="keras_hub")
        places.append(tmp_path / "preset")
    for place in places:
        settings = FinetuneSettings(str(place), max_seq_length=16)
        pretrained = starting.open_pretrained(settings)
        begun = starting.start(tasks.make_task("sst-2"), settings, pretrained)
        table = begun.network.encoder.embeddings.token_embedding
        assert np.array_equal(table, model.network.encoder.embeddings.token_embedding)
        assert begun.tokenizer.vocabulary == model.tokenizer.vocabulary
    with pytest.raises(InputError, match="no such folder"):
        starting.open_pretrained(FinetuneSettings(str(tmp_path / "google" / "other.ckpt")))


def test_two_models_of_two_formats_do_not_share_a_directory(tmp_path):
    bert_keras.save(text_model(), tmp_path / "model")
    with pytest.raises(InputError, match="holds a model in the format huggingface; choose another"):
        bert_keras.save(text_model(), tmp_path / "model", format="google")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    bert_keras.save(text_model(), tmp_path / "notes", format="google")
    bert_keras.save(text_model(), tmp_path / "notes", format="google")
    assert (tmp_path / "notes" / "notes.txt").read_text() == "mine"
    assert bert_keras.load(tmp_path / "notes").head == "encoder"


def test_what_a_format_cannot_say_leaves_nothing_behind(tmp_path):
    erf = text_model(config=dataclasses.replace(CONFIG, hidden_act="gelu"))
    for format in ("google", "keras_hub"):
        with pytest.raises(InputError, match="no way to say hidden_act='gelu'"):
            bert_keras.save(erf, tmp_path / format, format=format)
    with pytest.raises(InputError, match="format='model_garden' is not written; choose one of"):
        bert_keras.save(erf, tmp_path / "garden", format="model_garden")
    with pytest.raises(InputError, match="format='onnx' is unknown"):
        formats.module_of("onnx")
    assert not list(tmp_path.iterdir())


def test_keras_hubs_masked_lm_head_goes_through_our_directory_alone(tmp_path):
    own = dataclasses.replace(CONFIG, masked_lm_act="gelu", masked_lm_layer_norm_eps=1e-5)
    model = text_model(models.Pretrainer, own, head="masked_lm")
    bert_keras.save(model, tmp_path / "ours")
    assert '"model_type": "bert_keras"' in (tmp_path / "ours" / "config.json").read_text()
    assert bert_keras.load(tmp_path / "ours").network.config == own
    with pytest.raises(InputError, match="no way to say masked_lm_act='gelu'"):
        bert_keras.save(model, tmp_path / "google", format="google")
