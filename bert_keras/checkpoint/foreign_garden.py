"""What the Model Garden computes from a checkpoint of its own; runs on Keras 2 (tf_keras).

Its layers are made anew and filled by TensorFlow's own restoring, at the places where the
checkpoint's graph has them; nothing may be left unfilled.
"""

import os
from collections.abc import Mapping
from typing import Any

from bert_keras.checkpoint import model_garden, model_garden_map, tf_checkpoint


def compute(path: str, head: str, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns hidden states and the head's outputs as NumPy, by our names.

    Args:
        path: the checkpoint.
        head: a key of `weight_map.HEADS`; a part of it that the checkpoint lacks is left out.
        batch: the inputs by our names, and the model's numbers as `config/...`.

    Raises:
        AssertionError: the checkpoint's objects are not those of the Model Garden's layers.
    """
    import tensorflow as tf

    prefix = tf_checkpoint.required_prefix(path)
    tensors, graph, _ = model_garden.open_checkpoint(prefix)
    parts = model_garden_map.find_parts(graph, tensors)
    names = {"token_ids": "input_word_ids", "segment_ids": "input_type_ids"}
    names["padding_mask"] = "input_mask"
    given = {theirs: tf.constant(batch[ours]) for ours, theirs in names.items()}
    encoder = _encoder(batch)
    encoder(given)

    def dense(node: int | None, activation: str | None = None) -> Any:
        """A dense layer as large as the one at a node of the graph; None where there is none."""
        spec = None if node is None else tensors.get(graph.name(node, "kernel"))
        return None if spec is None else _dense(spec.shape, activation)

    own_pooler = graph.child(parts.encoder, "_pooler_layer")
    pooler = parts.poolers[0] if parts.poolers and parts.poolers[0] != own_pooler else None
    wants_words = head in ("pretraining", "masked_lm") and parts.masked_lm is not None
    masked_lm = _masked_lm(batch, encoder) if wants_words else None
    pool, last = dense(pooler, "tanh"), dense(parts.last_layer(head))
    made = {parts.encoder: encoder, parts.masked_lm: masked_lm, pooler: pool}
    made[parts.last_layer(head)] = last
    places = {graph.path(node): layer for node, layer in made.items() if node is not None and layer}
    restored = _checkpoint(places).read(os.fspath(prefix))
    restored.assert_existing_objects_matched().expect_partial()

    output = encoder(given)
    sequence = output["sequence_output"]
    pooled = pool(sequence[:, 0]) if pool else output["pooled_output"]
    states = [output["word_embeddings"], *output["encoder_outputs"]]
    values = {f"hidden_states[{i}]": state for i, state in enumerate(states)}
    values["sequence_output"] = sequence
    if head in ("encoder", *model_garden_map.POOLED_HEADS):
        values["pooled_output"] = pooled
    if masked_lm:
        positions = tf.constant(batch["masked_positions"])
        values["masked_lm_logits"] = masked_lm(sequence, masked_positions=positions)
    if last:
        logits = last(pooled if head in model_garden_map.POOLED_HEADS else sequence)
        if head == "question_answering":
            values["start_logits"], values["end_logits"] = tf.unstack(logits, axis=-1)
        else:
            values["next_sentence_logits" if head == "pretraining" else "logits"] = logits
    return {name: value.numpy() for name, value in values.items()}


def _encoder(batch: Mapping[str, Any]) -> Any:
    from official.nlp.modeling import networks

    return networks.BertEncoderV2(
        vocab_size=_number(batch, "vocab_size"),
        hidden_size=_number(batch, "hidden_size"),
        num_layers=_number(batch, "num_hidden_layers"),
        num_attention_heads=_number(batch, "num_attention_heads"),
        max_sequence_length=_number(batch, "max_position_embeddings"),
        type_vocab_size=_number(batch, "type_vocab_size"),
        inner_dim=_number(batch, "intermediate_size"),
        inner_activation=_activation(_number(batch, "hidden_act")),
        embedding_width=_number(batch, "embedding_size"),
        return_word_embeddings=True,
    )


def _masked_lm(batch: Mapping[str, Any], encoder: Any) -> Any:
    from official.nlp.modeling import layers

    table = encoder.get_embedding_table()
    activation = _number(batch, "masked_lm_act") or _number(batch, "hidden_act")
    layer = layers.MaskedLM(table, activation=_activation(activation))
    layer.build(None)
    layer.dense.build((None, _number(batch, "hidden_size")))
    layer.layer_norm.build((None, table.shape[1]))
    return layer


def _dense(shape: tuple[int, ...], activation: str | None) -> Any:
    import tf_keras

    layer = tf_keras.layers.Dense(shape[1], activation)
    layer.build((None, shape[0]))
    return layer


def _number(batch: Mapping[str, Any], name: str) -> Any:
    return batch[f"config/{name}"].item() if f"config/{name}" in batch else None


def _activation(name: str) -> Any:
    import tensorflow as tf

    return tf.nn.relu if name == "relu" else lambda x: tf.nn.gelu(x, approximate=name != "gelu")


def _checkpoint(places: Mapping[str, Any]) -> Any:
    """Returns a checkpoint with each object at the end of its path of names."""
    import tensorflow as tf

    if "" in places:  # the root itself: nothing stands beside it
        return tf.train.Checkpoint(root=places[""])
    below: dict[str, dict[str, Any]] = {}
    children: dict[str, Any] = {}
    for path, made in places.items():
        name, _, rest = path.partition("/")
        if rest:
            below.setdefault(name, {})[rest] = made
        else:
            children[name] = made
    children |= {name: _checkpoint(inner) for name, inner in below.items()}
    return tf.train.Checkpoint(**children)
