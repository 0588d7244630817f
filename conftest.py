"""What the examples in docstrings may use without saying where it comes from.

`directory`: a tiny classifier with random weights and the labels negative and positive, saved.
`new_directory`: a path at which nothing is yet.
"""

from pathlib import Path

import pytest

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a an the and of film movie warm funny dull long bank river"
PIECES = "##s ##ing ##ly ##ed . , ! ? '"


@pytest.fixture(scope="session")
def saved_classifier(tmp_path_factory) -> Path:
    """The directory of a classifier of 2 layers and 32 entries, written once."""
    import bert_keras
    from bert_keras import models
    from bert_keras.text_model import TextModel

    folder = tmp_path_factory.mktemp("doctest")
    entries = f"{WORDS} {PIECES}".split()
    (folder / "vocab.txt").write_text("\n".join(entries) + "\n", encoding="utf-8")
    config = bert_keras.BertConfig(
        vocab_size=len(entries),
        hidden_size=33,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=47,
        max_position_embeddings=61,
    )
    model = TextModel(
        models.Classifier(config, 2),
        bert_keras.Tokenizer.load(folder / "vocab.txt"),
        labels=["negative", "positive"],
        problem_type="single_label_classification",
    )
    bert_keras.save(model, folder / "model")
    return folder / "model"


@pytest.fixture(autouse=True)
def _names_in_doctests(request, tmp_path):
    if isinstance(request.node, pytest.DoctestItem):
        namespace = request.getfixturevalue("doctest_namespace")
        # Made only for the examples that mention it: the file that imports no framework stays so.
        if "directory" in request.node.dtest.docstring:
            namespace["directory"] = request.getfixturevalue("saved_classifier")
            namespace["new_directory"] = tmp_path / "new"
