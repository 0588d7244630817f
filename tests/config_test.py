import json

import pytest

from bert_keras.config import SIZES, BertConfig
from bert_keras.errors import InputError

GOOGLE = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "max_position_embeddings": 512,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}


def test_gelu_is_tanh_in_googles_file_and_erf_in_hugging_faces(tmp_path):
    google = tmp_path / "bert_config.json"
    google.write_text(json.dumps(GOOGLE))
    assert BertConfig.from_file(google).hidden_act == "gelu_new"
    face = tmp_path / "config.json"
    face.write_text(json.dumps({**GOOGLE, "model_type": "bert"}))
    assert BertConfig.from_file(face).hidden_act == "gelu"


def test_googles_keys_come_back_as_they_were():
    assert BertConfig.from_google_dict(GOOGLE).to_google_dict() == GOOGLE
    multilingual = {**GOOGLE, "directionality": "bidi", "pooler_fc_size": 768}
    assert BertConfig.from_google_dict(multilingual).to_google_dict() == GOOGLE


def test_hugging_faces_keys_come_back_as_they_were():
    config = BertConfig(hidden_act="gelu_new", classifier_dropout=0.3, embedding_size=128)
    assert BertConfig.from_dict(config.to_dict()) == config


def test_the_real_checkpoints_config_is_read(minilm_dir):
    config = BertConfig.from_file(minilm_dir / "config.json")
    assert (config.num_hidden_layers, config.hidden_size, config.hidden_act) == (6, 384, "gelu")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps"),
        ({"embedding_size": 64}, "embedding_size"),
        ({"classifier_dropout": 0.2}, "classifier_dropout"),
    ],
)
def test_what_googles_file_cannot_say_is_refused_by_name(changes, field):
    with pytest.raises(InputError, match=f"no way to say {field}="):
        BertConfig.from_size("tiny", **{"hidden_act": "gelu_new", **changes}).to_google_dict()


def test_an_unknown_key_is_named_with_its_neighbour():
    with pytest.raises(
        InputError, match=r"c\.json: unknown key 'hiden_size'; did you mean 'hidden"
    ):
        BertConfig.from_dict({"hiden_size": 3}, "c.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("pruned_heads", {"0": [1]}),
        ("tie_word_embeddings", False),
    ],
)
def test_a_key_that_changes_the_numbers_is_refused(key, value):
    with pytest.raises(InputError, match=f"{key}=.* changes what the model computes"):
        BertConfig.from_dict({key: value})


def test_what_a_fine_tuned_directory_says_of_outputs_and_programs_has_no_effect():
    said = {
        "_num_labels": 5,
        "output_hidden_states": True,
        "output_attentions": True,
        "torchscript": True,
        "_attn_implementation_autoset": True,
        "attn_implementation": "sdpa",
        "num_beams": 1,
        "eos_token_ids": 0,
    }
    assert BertConfig.from_dict(said) == BertConfig()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 7}, "must divide `hidden_size`"),
        ({"vocab_size": 0}, "integer >= 1"),
        ({"vocab_size": "30522"}, "integer >= 1"),
        ({"num_hidden_layers": True}, "integer >= 1"),
        ({"hidden_dropout_prob": 1.0}, "rate in"),
        ({"layer_norm_eps": 0}, "number in"),
        ({"hidden_act": "swish"}, "must be one of"),
        ({"pad_token_id": 30522}, "row of the token embedding"),
    ],
)
def test_impossible_numbers_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        BertConfig.from_dict(changes)


def test_a_config_that_is_no_object_or_no_json_names_the_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("[1, 2]")
    with pytest.raises(InputError, match=r"config\.json: expected a JSON object, got list"):
        BertConfig.from_file(path)
    path.write_text('{\n  "hidden_size": 3,\n  oops\n}')
    with pytest.raises(InputError, match=r"config\.json, line 3: not JSON"):
        BertConfig.from_file(path)


def test_the_named_sizes_have_the_published_parameter_counts():
    # Turc et al., 2019, table 1 (in millions); Devlin et al., 2019: 110M and 340M with heads.
    published = {"tiny": 4.4, "mini": 11.3, "small": 29.1, "medium": 41.7, "base": 110.1}
    for name, millions in published.items():
        c = BertConfig.from_size(name)
        d, f = c.hidden_size, c.intermediate_size
        tables = (c.vocab_size + c.max_position_embeddings + c.type_vocab_size) * d
        block = 4 * (d * d + d) + 2 * d * f + f + d + 4 * d
        total = tables + 2 * d + c.num_hidden_layers * block + d * d + d
        assert total / 1e6 == pytest.approx(millions, rel=0.02), name
    assert sum(name.startswith("L-") for name in SIZES) == 24
    assert BertConfig.from_size("L-2_H-128") == BertConfig.from_size("tiny")
    with pytest.raises(InputError, match="no BERT size is called 'huge'"):
        BertConfig.from_size("huge")
