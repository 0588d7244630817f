"""Which variable of ours is which tensor of Hugging Face's BERT classes.

Each row says: our attribute, their name, and whether the matrix is stored the other way round
(torch keeps a dense kernel as [out, in], Keras as [in, out]). Their names stand without the
prefix `bert.`, which every class but `BertModel` puts before the encoder's.
"""

import dataclasses
import functools
from typing import Any

import keras
import numpy as np

Row = tuple[str, str, bool]

AS_IT_IS, TRANSPOSED = False, True

ENCODER_PREFIX = "bert."
HEAD_NAMES = ("cls.", "classifier.", "qa_outputs.", "bilstm.", "layer_sum.")


def _dense(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        (f"{ours}.kernel", f"{theirs}.weight", TRANSPOSED),
        (f"{ours}.bias", f"{theirs}.bias", AS_IT_IS),
    )


def _norm(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        (f"{ours}.gamma", f"{theirs}.weight", AS_IT_IS),
        (f"{ours}.beta", f"{theirs}.bias", AS_IT_IS),
    )


def tf_dense(ours: str, theirs: str) -> tuple[Row, ...]:
    """A dense layer as TensorFlow's programs name and keep it: google's, the Model Garden's."""
    return (
        (f"{ours}.kernel", f"{theirs}/kernel", AS_IT_IS),
        (f"{ours}.bias", f"{theirs}/bias", AS_IT_IS),
    )


def tf_norm(ours: str, theirs: str) -> tuple[Row, ...]:
    """A layer normalization as they name and keep it."""
    return (
        (f"{ours}.gamma", f"{theirs}/gamma", AS_IT_IS),
        (f"{ours}.beta", f"{theirs}/beta", AS_IT_IS),
    )


EMBEDDINGS: tuple[Row, ...] = (
    ("token_embedding", "embeddings.word_embeddings.weight", AS_IT_IS),
    ("position_embedding", "embeddings.position_embeddings.weight", AS_IT_IS),
    ("segment_embedding", "embeddings.token_type_embeddings.weight", AS_IT_IS),
    *_norm("norm", "embeddings.LayerNorm"),
)

# Factorised embeddings alone: no BERT class of transformers has it.
PROJECTION: tuple[Row, ...] = _dense("projection", "embeddings.projection")

# One transformer block; their names follow `encoder.layer.<i>.`.
BLOCK: tuple[Row, ...] = (
    *_dense("attention.query", "attention.self.query"),
    *_dense("attention.key", "attention.self.key"),
    *_dense("attention.value", "attention.self.value"),
    *_dense("attention.merge", "attention.output.dense"),
    *_norm("attention_norm", "attention.output.LayerNorm"),
    *_dense("intermediate", "intermediate.dense"),
    *_dense("output_dense", "output.dense"),
    *_norm("output_norm", "output.LayerNorm"),
)

# Files from before 2020 keep a pooler that their span or tag head never used.
UNUSED_POOLER = "pooler"

POOLER: tuple[Row, ...] = _dense("pooler", "pooler.dense")

MASKED_LM: tuple[Row, ...] = (
    *_dense("masked_lm.dense", "cls.predictions.transform.dense"),
    *_norm("masked_lm.norm", "cls.predictions.transform.LayerNorm"),
    ("masked_lm.output_bias", "cls.predictions.bias", AS_IT_IS),
)

NEXT_SENTENCE: tuple[Row, ...] = _dense("next_sentence.dense", "cls.seq_relationship")

# No BERT class of transformers has LSTMs; their names follow `bilstm.<i>.`.
LSTM: tuple[Row, ...] = tuple(
    (f"{direction}_layer.cell.{name}", f"{direction}.{name}", AS_IT_IS)
    for direction in ("forward", "backward")
    for name in ("kernel", "recurrent_kernel", "bias")
)
LAYER_SUM: tuple[Row, ...] = (
    ("layer_sum.scores", "layer_sum.scores", AS_IT_IS),
    ("layer_sum.scale", "layer_sum.scale", AS_IT_IS),
)

# Second names of one tensor: the decoder of the masked LM is the token embedding itself.
TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

# Not weights: torch buffers that count 0, 1, 2 ... or hold zeros.
BUFFERS = frozenset({"embeddings.position_ids", "embeddings.token_type_ids"})


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One class of transformers' `modeling_bert` and the network of ours that computes it.

    Attributes:
        head: what the user calls it, e.g. `head="sequence_classification"`.
        network: our class in `bert_keras.models`.
        pooled: whether the class has a pooler.
        rows: its head's weights, from the network on.
        labelled: whether its config.json says `id2label`.
        prefix: what stands before the encoder's names.
    """

    head: str
    network: str
    pooled: bool
    rows: tuple[Row, ...]
    labelled: bool = False
    prefix: str = ENCODER_PREFIX


ARCHITECTURES: dict[str, Architecture] = {
    "BertModel": Architecture("encoder", "EncoderModel", True, (), prefix=""),
    "BertForPreTraining": Architecture(
        "pretraining", "Pretrainer", True, MASKED_LM + NEXT_SENTENCE
    ),
    "BertForMaskedLM": Architecture("masked_lm", "Pretrainer", False, MASKED_LM),
    # Google's next-sentence head is a classifier of pairs: 0 follows, 1 does not.
    "BertForNextSentencePrediction": Architecture(
        "next_sentence", "Classifier", True, _dense("head.dense", "cls.seq_relationship")
    ),
    "BertForSequenceClassification": Architecture(
        "sequence_classification", "Classifier", True, _dense("head.dense", "classifier"), True
    ),
    "BertForQuestionAnswering": Architecture(
        "question_answering", "SpanPredictor", False, _dense("head.dense", "qa_outputs")
    ),
    "BertForTokenClassification": Architecture(
        "token_classification", "TokenTagger", False, _dense("head.dense", "classifier"), True
    ),
    "BertForMultipleChoice": Architecture(
        "multiple_choice", "MultipleChoice", True, _dense("head.dense", "classifier")
    ),
}

HEADS: dict[str, str] = {each.head: name for name, each in ARCHITECTURES.items()}


@dataclasses.dataclass(frozen=True)
class Slot:
    """A weight of ours as the place of one of their tensors.

    Attributes:
        owner: the layer.
        attribute: its weight.
        transposed: whether the file keeps the matrix the other way round.
        folded: the shape in the file where it has another number of axes, e.g. a kernel as
            [D, N, H] where ours is [D, N * H].
    """

    owner: Any
    attribute: str
    transposed: bool
    folded: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """Our weight's path in its network, such as "encoder/block_0/attention/query/kernel"."""
        return self._variable.path

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        if self.folded is not None:
            return self.folded
        shape = tuple(getattr(self.owner, self.attribute).shape)
        return shape[::-1] if self.transposed else shape

    def assign(self, tensor: np.ndarray) -> None:
        """Takes the file's tensor; under LoRA it becomes the frozen kernel."""
        variable = self._variable
        value = tensor.T if self.transposed else tensor
        variable.assign(value.reshape(variable.shape))

    @property
    def _variable(self) -> Any:
        under_lora = self.attribute == "kernel" and getattr(self.owner, "lora_enabled", False)
        return self.owner._kernel if under_lora else getattr(self.owner, self.attribute)

    def tensor(self) -> np.ndarray:
        """Returns the tensor for the file; under LoRA the kernel with its update merged in."""
        value = keras.ops.convert_to_numpy(getattr(self.owner, self.attribute))
        return value.T if self.transposed else value.reshape(self.shape)


def encoder_slots(encoder: Any, *, pooled: bool = True) -> dict[str, Slot]:
    """Returns the encoder's slots by their names, without prefix."""
    slots = row_slots(encoder.embeddings, EMBEDDINGS)
    if encoder.embeddings.projection is not None:
        slots |= row_slots(encoder.embeddings, PROJECTION)
    for i, block in enumerate(encoder.blocks):
        slots |= row_slots(block, BLOCK, f"encoder.layer.{i}.")
    if pooled:
        slots |= pooler_slots(encoder)
    return slots


def pooler_slots(encoder: Any) -> dict[str, Slot]:
    """Returns the pooler's slots; none where the encoder was built without one."""
    return {} if encoder.pooler is None else row_slots(encoder, POOLER)


def writes_pooler(architectures: Any) -> bool:
    """Tells whether the class that config.json names has a pooler, or may have one."""
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    return named not in ARCHITECTURES or ARCHITECTURES[named].pooled


def network_slots(network: Any, architecture: str) -> dict[str, Slot]:
    """Returns every slot of `network` seen as `architecture`, encoder first, without prefix."""
    kind = ARCHITECTURES[architecture]
    encoder = encoder_slots(network.encoder, pooled=kind.pooled)
    return encoder | bilstm_slots(network) | row_slots(network, kind.rows)


def bilstm_slots(network: Any) -> dict[str, Slot]:
    """Returns the slots of what stands between encoder and head, as a rule none."""
    slots = {} if network.layer_sum is None else row_slots(network, LAYER_SUM)
    for i, layer in enumerate(network.bilstm.layers if network.bilstm else ()):
        slots |= row_slots(layer, LSTM, f"bilstm.{i}.")
    return slots


def optional_slots(network: Any, architecture: str) -> dict[str, Slot]:
    """Returns what the class does without but a file of it may hold.

    Google's checkpoints, published as masked language models, have a pooler and the
    next-sentence head too.
    """
    if ARCHITECTURES[architecture].head != "masked_lm":
        return {}
    return pooler_slots(network.encoder) | row_slots(network, NEXT_SENTENCE)


def plain_name(name: str) -> str:
    """Returns a file's name for a tensor as this table spells it.

    Drops the prefix `bert.` and turns `LayerNorm.gamma` and `.beta`, the names of checkpoints
    that were converted from TensorFlow before 2019, into `.weight` and `.bias`.
    """
    name = name.removeprefix(ENCODER_PREFIX)
    for legacy, modern in (("gamma", "weight"), ("beta", "bias")):
        if name.endswith(f"LayerNorm.{legacy}"):
            name = name.removesuffix(legacy) + modern
    return name


def file_name(name: str, prefix: str) -> str:
    """Returns a plain name as a file spells it, with `prefix` before the encoder's alone."""
    return name if name.startswith(HEAD_NAMES) else prefix + name


def row_slots(root: Any, rows: tuple[Row, ...], prefix: str = "") -> dict[str, Slot]:
    """Returns the slots of a table's rows by their names, each after `prefix`."""
    slots = {}
    for ours, theirs, transposed in rows:
        *path, attribute = ours.split(".")
        owner = functools.reduce(getattr, path, root)
        slots[prefix + theirs] = Slot(owner, attribute, transposed)
    return slots
