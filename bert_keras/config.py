"""The numbers of one BERT, and how the two known files spell them.

Hugging Face writes `config.json`, Google wrote `bert_config.json`. The keys are nearly the
same; the meaning of `"gelu"` is not: the erf form in the one, the tanh form in the other.
"""

import dataclasses
import difflib
import os
from collections.abc import Mapping
from typing import Any

from bert_keras import files
from bert_keras.errors import InputError

# Turc et al., 2019, "Well-Read Students Learn Better", table 1, for the 24 miniatures
# (https://arxiv.org/abs/1908.08962); Devlin et al., 2019, section 3, for base and large
# (https://arxiv.org/abs/1810.04805). Heads are D / 64, the feed-forward is 4 D wide.
#   name: (num_hidden_layers, hidden_size)
SIZES: dict[str, tuple[int, int]] = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
    "large": (24, 1024),
    **{
        f"L-{layers}_H-{hidden}": (layers, hidden)
        for layers in (2, 4, 6, 8, 10, 12)
        for hidden in (128, 256, 512, 768)
    },
}

# The activations and their names in Hugging Face's files; Google's say "gelu" for tanh.
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

# Keys of other programs that do not change what the encoder computes. Those of generation
# stand in every config.json that transformers 2 wrote.
KEYS_WITHOUT_EFFECT = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _attn_implementation_internal
    _name_or_path _num_labels architectures attn_implementation bos_token_id directionality
    dtype eos_token_id finetuning_task gradient_checkpointing id2label label2id model_type
    num_labels output_attentions output_hidden_states output_past pooler_fc_size
    pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type
    problem_type return_dict sep_token_id task_specific_params tokenizer_class torch_dtype
    torchscript transformers_version use_cache use_return_dict

    do_sample early_stopping eos_token_ids length_penalty max_length min_length
    no_repeat_ngram_size num_beams num_return_sequences repetition_penalty temperature top_k
    top_p
    """.split()
)

# Keys that do change it, with the only value this encoder computes.
KEYS_WITH_ONE_VALUE: dict[str, Any] = {
    "add_cross_attention": False,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "position_embedding_type": "absolute",
    "pruned_heads": {},
    "tie_encoder_decoder": False,
    "tie_word_embeddings": True,
    "use_bfloat16": False,
}


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The numbers of one BERT, under the names of Hugging Face's `config.json`.

    Attributes:
        vocab_size: V, rows of the token embedding.
        hidden_size: D, width of every token vector; `num_attention_heads` must divide it.
        num_hidden_layers: L, transformer blocks.
        num_attention_heads: N.
        intermediate_size: width inside the feed-forward, 4 D in the paper.
        hidden_act: "gelu" (erf), "gelu_new" or "gelu_pytorch_tanh" (tanh), or "relu".
        hidden_dropout_prob: rate on embeddings and on both sub-layers' outputs.
        attention_probs_dropout_prob: rate on the attention probabilities.
        max_position_embeddings: the longest sequence, in tokens.
        type_vocab_size: rows of the segment embedding; 2 in all released checkpoints.
        initializer_range: standard deviation of the truncated normal that fills kernels.
        layer_norm_eps: added to the variance in LayerNorm.
        pad_token_id: the id of [PAD].
        embedding_size: E, width of the three embedding tables; D when None. A smaller one
            is projected up to D (Lan et al., 2020, section 3.1).
        classifier_dropout: rate before a task's head; `hidden_dropout_prob` when None.
        masked_lm_act: activation of the masked-LM head; `hidden_act` when None. KerasHub's head
            is of its own kind: erf GELU and an epsilon of 1e-5 on any encoder.
        masked_lm_layer_norm_eps: epsilon of that head; `layer_norm_eps` when None.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    embedding_size: int | None = None
    classifier_dropout: float | None = None
    masked_lm_act: str | None = None
    masked_lm_layer_norm_eps: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_value(field.name, getattr(self, field.name))
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                "`num_attention_heads` must divide `hidden_size`. Received "
                f"num_attention_heads={self.num_attention_heads}, hidden_size={self.hidden_size}."
            )
        if not 0 <= self.pad_token_id < self.vocab_size:
            raise InputError(
                "`pad_token_id` must be a row of the token embedding. Received "
                f"pad_token_id={self.pad_token_id}, vocab_size={self.vocab_size}."
            )

    @classmethod
    def from_size(cls, name: str, **changes: Any) -> "BertConfig":
        """Returns a named size, e.g. "tiny", "base" or "L-6_H-512"; `changes` replace fields."""
        if name not in SIZES:
            raise InputError(f"no BERT size is called {name!r}; choose one of {', '.join(SIZES)}.")
        layers, hidden = SIZES[name]
        sizes = {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": hidden // 64,
            "intermediate_size": 4 * hidden,
        }
        return cls(**{**sizes, **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "config.json") -> "BertConfig":
        """Reads Hugging Face's keys.

        Args:
            values: the parsed `config.json`.
            where: what errors call it, e.g. its path.

        Raises:
            InputError: a key is unknown, or asks for what this encoder does not compute.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"{where}: expected a JSON object, got {type(values).__name__}.")
        known = {field.name for field in dataclasses.fields(cls)}
        for key, value in values.items():
            if key in KEYS_WITH_ONE_VALUE:
                if value not in (KEYS_WITH_ONE_VALUE[key], None):
                    raise InputError(
                        f"{where}: {key}={value!r} changes what the model computes; only "
                        f"{KEYS_WITH_ONE_VALUE[key]!r} is supported."
                    )
            elif key not in known and key not in KEYS_WITHOUT_EFFECT:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "remove it if it has no effect."
                raise InputError(f"{where}: unknown key {key!r}; {hint}")
        try:
            return cls(**{key: value for key, value in values.items() if key in known})
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    @classmethod
    def from_google_dict(
        cls, values: Mapping[str, Any], where: str = "bert_config.json"
    ) -> "BertConfig":
        """Reads the keys of google-research/bert, where "gelu" is the tanh form."""
        if isinstance(values, Mapping) and values.get("hidden_act", "gelu") == "gelu":
            values = {**values, "hidden_act": "gelu_new"}
        return cls.from_dict(values, where)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "BertConfig":
        """Reads `config.json` or `bert_config.json`.

        The two are told apart by `model_type` or `architectures`, which only Hugging Face
        writes, and then by the file's name.
        """
        values = files.read_json(path)
        named_google = os.path.basename(os.fspath(path)).startswith("bert_config")
        if isinstance(values, Mapping) and ("model_type" in values or "architectures" in values):
            return cls.from_dict(values, os.fspath(path))
        if named_google:
            return cls.from_google_dict(values, os.fspath(path))
        return cls.from_dict(values, os.fspath(path))

    def to_dict(self) -> dict[str, Any]:
        """Returns Hugging Face's keys, without those that are None."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if value is not None}

    def to_google_dict(self) -> dict[str, Any]:
        """Returns the keys of google-research/bert.

        Raises:
            InputError: a field cannot be said there (erf GELU, another epsilon, factorised
                embeddings, another padding id, a classifier dropout of its own, a masked-LM head
                of another activation or epsilon than the encoder's).
        """
        unsayable = {
            "hidden_act": self.hidden_act == "gelu",
            "layer_norm_eps": self.layer_norm_eps != 1e-12,
            "embedding_size": self.embedding_size not in (None, self.hidden_size),
            "pad_token_id": self.pad_token_id != 0,
            "classifier_dropout": self.classifier_dropout is not None,
            "masked_lm_act": self.masked_lm_act is not None,
            "masked_lm_layer_norm_eps": self.masked_lm_layer_norm_eps is not None,
        }
        for name, lost in unsayable.items():
            if lost:
                raise InputError(
                    f"bert_config.json has no way to say {name}={getattr(self, name)!r}; "
                    "write a Hugging Face directory instead."
                )
        values = self.to_dict()
        for name in ("layer_norm_eps", "pad_token_id", "embedding_size"):
            values.pop(name, None)
        values["hidden_act"] = "relu" if self.hidden_act == "relu" else "gelu"
        return values


def _check_value(name: str, value: Any) -> None:
    """Refuses what no BERT can have, before a framework fails on it far from here."""
    optional = name in ("embedding_size", "classifier_dropout") or name.startswith("masked_lm_")
    if value is None and optional:
        return
    if name.endswith("_act"):
        if value not in ACTIVATIONS:
            raise InputError(
                f"`{name}` must be one of {', '.join(ACTIVATIONS)}. Received {value!r}."
            )
    elif name.endswith(("_prob", "_dropout")):
        if not _is_number(value) or not 0 <= value < 1:
            raise InputError(f"`{name}` must be a rate in [0, 1). Received {value!r}.")
    elif name == "initializer_range" or name.endswith("layer_norm_eps"):
        if not _is_number(value) or not 0 < value < 1:
            raise InputError(f"`{name}` must be a number in (0, 1). Received {value!r}.")
    else:
        least = 0 if name == "pad_token_id" else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"`{name}` must be an integer >= {least}. Received {value!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
