"""A small classifier with random weights, large enough in scale that its answers differ."""

import numpy as np

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [chr(ord("a") + i) for i in range(26)]
WORDS = "the film was not good bad very great dull and of we saw bank river same again".split()
LABELS = ["negative", "neutral", "très positif"]

TEXTS = [
    "the film was very good",
    "",
    "dull",
    "Crème BRÛLÉE at the river-bank, 東京 & 3.14!",
    "a\u0000b \ufffd\u200d x",
    "good bad " * 100,
    "unbelievably" * 20,
    "[SEP] [MASK] [CLS]",
]
PAIRS = list(zip(TEXTS, reversed(TEXTS)))


def tiny_text_model(
    directory,
    problem_type="single_label_classification",
    *,
    network="Classifier",
    labels=LABELS,
    dtype=None,
    lora_rank=0,
    seed=7,
    initializer_range=0.6,
    **task,
):
    """A TextModel whose vocabulary is written to `directory`.

    `problem_type` None for a `network` other than a Classifier; it has `labels` or none.
    """
    import keras

    from bert_keras import models
    from bert_keras.config import BertConfig
    from bert_keras.text.tokenizer import Tokenizer
    from bert_keras.text_model import TextModel

    vocabulary = [*SPECIALS, *LETTERS, *("##" + letter for letter in LETTERS), *"0123456789.,!?'-&"]
    vocabulary += [word for word in WORDS if word not in vocabulary]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=48,
        type_vocab_size=2,
        initializer_range=initializer_range,
    )
    keras.utils.set_random_seed(seed)
    labels = None if problem_type == "regression" or labels is None else list(labels)
    sizes = [len(labels or [0])] if network in ("Classifier", "TokenTagger") else []
    network = getattr(models, network)(config, *sizes, lora_rank=lora_rank, dtype=dtype)
    for variable in network.variables:
        if "lora_kernel_b" in variable.name:  # zero after building, which would hide a lost update
            variable.assign(np.random.default_rng(seed).normal(size=variable.shape) * 0.3)
    return TextModel(
        network=network,
        tokenizer=Tokenizer.load(directory / "vocab.txt", lower_case=True),
        labels=labels,
        problem_type=problem_type,
        task=task,
    )
