"""The same tiny BERT on both sides: transformers' classes, and inputs for ours and theirs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
import transformers

from bert_keras.errors import InputError

# our head: (the Auto class that opens it, the class that wrote it, extra config)
CLASSES = {
    "encoder": ("AutoModel", "BertModel", {}),
    "pretraining": ("AutoModelForPreTraining", "BertForPreTraining", {}),
    "masked_lm": ("AutoModelForMaskedLM", "BertForMaskedLM", {}),
    "next_sentence": ("AutoModelForNextSentencePrediction", "BertForNextSentencePrediction", {}),
    "sequence_classification": (
        "AutoModelForSequenceClassification",
        "BertForSequenceClassification",
        {
            "id2label": {0: "bad", 1: "fair", 2: "good"},
            "label2id": {"bad": 0, "fair": 1, "good": 2},
        },
    ),
    "question_answering": ("AutoModelForQuestionAnswering", "BertForQuestionAnswering", {}),
    "token_classification": (
        "AutoModelForTokenClassification",
        "BertForTokenClassification",
        {
            "id2label": {0: "O", 1: "B", 2: "I", 3: "X"},
            "label2id": {"O": 0, "B": 1, "I": 2, "X": 3},
        },
    ),
    "multiple_choice": ("AutoModelForMultipleChoice", "BertForMultipleChoice", {}),
}

# Distinct odd sizes, so that no axis passes for another.
SIZES = {
    "vocab_size": 101,
    "hidden_size": 33,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 47,
    "max_position_embeddings": 61,
    "type_vocab_size": 2,
}

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "is", "good", "bad"]
VOCABULARY += [f"[unused{i}]" for i in range(SIZES["vocab_size"] - len(VOCABULARY))]


def write_vocabulary(directory):
    (directory / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")


def their_model(head, **changes):
    """A transformers model whose every weight is random, biases and norms included."""
    _, name, extra = CLASSES[head]
    config = transformers.BertConfig(**{**SIZES, **extra, **changes})
    model = getattr(transformers, name)(config).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(0.2 * noise + (1 if weight.ndim == 1 else 0))
    model.tie_weights()
    return model


def their_directory(directory, head, **changes):
    their_model(head, **changes).save_pretrained(directory)
    write_vocabulary(directory)
    return directory


def randomise(network, seed=7):
    """Gives every weight of ours, biases and norms included, a value of its own."""
    rng = np.random.default_rng(seed)
    for variable in network.weights:
        offset = 1 if len(variable.shape) == 1 else 0
        variable.assign(0.2 * rng.standard_normal(variable.shape) + offset)
    return network


def inputs(head, batch=3, tokens=11):
    """Our inputs, with padding of a different length in every row."""
    rng = np.random.default_rng(3)
    shape = (batch, 2, tokens) if head == "multiple_choice" else (batch, tokens)
    token_ids = rng.integers(1, SIZES["vocab_size"], shape).astype("int32")
    lengths = tokens - np.arange(np.prod(shape[:-1])).reshape(*shape[:-1], 1) % 5
    padding_mask = (np.arange(tokens) < lengths).astype("int32")
    batch_inputs = {
        "token_ids": token_ids * padding_mask,
        "segment_ids": (np.arange(tokens) > 4).astype("int32") * padding_mask,
        "padding_mask": padding_mask,
    }
    return batch_inputs


def our_outputs(network, head):
    """Outputs by transformers' names, as NumPy."""
    batch = inputs(head)
    if head in ("pretraining", "masked_lm"):
        rows, tokens = batch["token_ids"].shape
        batch["masked_positions"] = np.tile(np.arange(tokens, dtype="int32"), (rows, 1))
    names = {
        "sequence_output": "last_hidden_state",
        "pooled_output": "pooler_output",
        "masked_lm_logits": "logits" if head == "masked_lm" else "prediction_logits",
        "next_sentence_logits": "seq_relationship_logits",
    }
    outputs = network(batch, training=False)
    return {
        names.get(name, name): keras.ops.convert_to_numpy(value) for name, value in outputs.items()
    }


def their_outputs(model, head):
    batch = inputs(head)
    with torch.no_grad():
        output = model(
            input_ids=torch.tensor(batch["token_ids"], dtype=torch.long),
            token_type_ids=torch.tensor(batch["segment_ids"], dtype=torch.long),
            attention_mask=torch.tensor(batch["padding_mask"], dtype=torch.long),
        )
    return {name: value.numpy() for name, value in output.items()}


def line(call, *arguments, **named):
    """The one line of an InputError."""
    with pytest.raises(InputError) as error:
        call(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


def largest_difference(ours, theirs, head):
    """The largest over all outputs that the class of transformers has, on real tokens."""
    real = inputs(head)["padding_mask"].astype(bool)
    worst = 0.0
    for name, expected in theirs.items():
        found = ours[name]
        assert found.shape == expected.shape, name
        if found.shape[:2] == real.shape and head != "multiple_choice":
            found, expected = found[real], expected[real]
        worst = max(worst, float(np.abs(found - expected).max()))
    return worst
