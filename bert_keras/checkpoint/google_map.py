"""Which variable of ours is which variable of google-research/bert.

The names are those of its modeling.py, run_pretraining.py, run_classifier.py and run_squad.py:
https://github.com/google-research/bert
"""

from collections.abc import Collection

from bert_keras import models
from bert_keras.checkpoint import weight_map
from bert_keras.checkpoint.weight_map import AS_IT_IS, TRANSPOSED, Row, Slot, tf_dense, tf_norm
from bert_keras.encoder import BertEncoder


def _output(ours: str, theirs: str) -> tuple[Row, ...]:
    """A last layer: google's code keeps its matrix as [outputs, D]."""
    return (
        (f"{ours}.kernel", f"{theirs}output_weights", TRANSPOSED),
        (f"{ours}.bias", f"{theirs}output_bias", AS_IT_IS),
    )


EMBEDDINGS: tuple[Row, ...] = (
    ("token_embedding", "bert/embeddings/word_embeddings", AS_IT_IS),
    ("position_embedding", "bert/embeddings/position_embeddings", AS_IT_IS),
    ("segment_embedding", "bert/embeddings/token_type_embeddings", AS_IT_IS),
    *tf_norm("norm", "bert/embeddings/LayerNorm"),
)

# One transformer block; their names follow `bert/encoder/layer_<i>/`.
BLOCK: tuple[Row, ...] = (
    *tf_dense("attention.query", "attention/self/query"),
    *tf_dense("attention.key", "attention/self/key"),
    *tf_dense("attention.value", "attention/self/value"),
    *tf_dense("attention.merge", "attention/output/dense"),
    *tf_norm("attention_norm", "attention/output/LayerNorm"),
    *tf_dense("intermediate", "intermediate/dense"),
    *tf_dense("output_dense", "output/dense"),
    *tf_norm("output_norm", "output/LayerNorm"),
)

POOLER: tuple[Row, ...] = tf_dense("pooler", "bert/pooler/dense")

MASKED_LM: tuple[Row, ...] = (
    *tf_dense("masked_lm.dense", "cls/predictions/transform/dense"),
    *tf_norm("masked_lm.norm", "cls/predictions/transform/LayerNorm"),
    ("masked_lm.output_bias", "cls/predictions/output_bias", AS_IT_IS),
)

NEXT_SENTENCE: tuple[Row, ...] = _output("next_sentence.dense", "cls/seq_relationship/")

# Each head's rows, from the network on. The last two are read under the names of a classifier,
# as forks of run_classifier.py write them, where `head` says what they are.
HEADS: dict[str, tuple[Row, ...]] = {
    "encoder": (),
    "pretraining": MASKED_LM + NEXT_SENTENCE,
    "masked_lm": MASKED_LM,
    "next_sentence": _output("head.dense", "cls/seq_relationship/"),
    "sequence_classification": _output("head.dense", ""),
    "question_answering": _output("head.dense", "cls/squad/"),
    "token_classification": _output("head.dense", ""),
    "multiple_choice": _output("head.dense", ""),
}
# What all heads' names begin with.
HEAD_PREFIXES = ("cls", "output_weights", "output_bias")
NAMELESS_HEADS = ("token_classification", "multiple_choice")

# What AdamWeightDecayOptimizer, TensorFlow's own Adam and LAMB keep beside the weights.
OPTIMIZER_ENDINGS = ("/adam_m", "/adam_v", "/Adam", "/Adam_1", "/lamb_m", "/lamb_v")
OPTIMIZER_NAMES = frozenset({"global_step", "beta1_power", "beta2_power"})


def encoder_slots(encoder: BertEncoder) -> dict[str, Slot]:
    """Returns the places of google's variables in an encoder, without the pooler."""
    slots = weight_map.row_slots(encoder.embeddings, EMBEDDINGS)
    for i, block in enumerate(encoder.blocks):
        slots |= weight_map.row_slots(block, BLOCK, f"bert/encoder/layer_{i}/")
    return slots


def pooler_slots(encoder: BertEncoder) -> dict[str, Slot]:
    """Returns the places of the pooler; none where the encoder was built without one."""
    return {} if encoder.pooler is None else weight_map.row_slots(encoder, POOLER)


def network_slots(
    network: models.EncoderModel, head: str, tensors: Collection[str] | None = None
) -> dict[str, Slot]:
    """Returns the places of google's variables in a network, encoder first.

    Args:
        tensors: the names that a checkpoint holds, on reading. A masked language model takes a
            pooler that is there, and does without; modeling.py always makes and saves one.
    """
    slots = encoder_slots(network.encoder)
    pooler = pooler_slots(network.encoder)
    if head != "masked_lm" or tensors is None or set(tensors).issuperset(pooler):
        slots |= pooler
    return slots | weight_map.row_slots(network, HEADS[head])


def head_of(tensors: Collection[str]) -> str:
    """Returns the head that a checkpoint's variables are of; "encoder" where there is none."""
    if "cls/squad/output_weights" in tensors:
        return "question_answering"
    if "output_weights" in tensors:
        return "sequence_classification"
    masked_lm = any(name.startswith("cls/predictions/") for name in tensors)
    next_sentence = any(name.startswith("cls/seq_relationship/") for name in tensors)
    if masked_lm:
        return "pretraining" if next_sentence else "masked_lm"
    return "next_sentence" if next_sentence else "encoder"


def holds_all_of_pretraining(tensors: Collection[str]) -> bool:
    """Tells whether what a masked language model does without is there: pooler and second head."""
    return all(name in tensors for _, name, _ in POOLER + NEXT_SENTENCE)


def is_optimizers(name: str) -> bool:
    """Tells whether a variable is the optimizer's, and no weight."""
    return name in OPTIMIZER_NAMES or name.endswith(OPTIMIZER_ENDINGS)
