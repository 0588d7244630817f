"""What an export is asked before it is in place: texts that break tokenizers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bert_keras import feature_extraction
from bert_keras.answers.fill_mask import MASK
from bert_keras.errors import InputError
from bert_keras.models import EncoderModel, Pretrainer
from bert_keras.serving import received
from bert_keras.serving.export.agreement import differs
from bert_keras.serving.export.embedding_signature import Embedding
from bert_keras.serving.export.signatures import TEXT_SIGNATURE, Limits
from bert_keras.serving.servable import Servable
from bert_keras.serving.status import ServingError
from bert_keras.text_model import TextModel

# Texts that the reloaded model has to answer as the Keras model does: short, long, mixed in one
# batch, and what tends to break a tokenizer.
PROBES = (
    "A warm and funny film.",
    "it was not good , and I am never going back to that bank by the river",
    "",
    "Crème brûlée, naïve façade; STRASSE Straße 东京 2024?!",
    "x\u0000y \ufffd z\u200d\u00ad\t\n  [SEP] [MASK] ##ing @@@ 3.14 e-mail@example.org",
    "the same words again and again " * 60,
    "unbelievably" * 30,
)

# The most that a number may differ; in bfloat16, where the order of sums shows, the most that it
# may differ in proportion to the largest.
_TOLERANCE = 1e-4
_BFLOAT16_TOLERANCE = 5e-2


def probes(model: TextModel) -> list[Any]:
    """What the reloaded model is asked: `PROBES`, in the form that the model takes."""
    turned = list(reversed(PROBES))
    if isinstance(model.network, Pretrainer):
        return [f"{MASK} a {MASK} {text}" for text in PROBES]
    if model.inputs == ("text",):
        return list(PROBES)
    if model.inputs == ("context", "endings"):
        pairs = zip(PROBES, turned, strict=True)
        return [(text, [other or "no", "yes", text or "maybe"]) for text, other in pairs]
    return list(zip(PROBES, turned, strict=True))


def compare(model: TextModel, servable: Servable, limits: Limits, embedding: Embedding) -> None:
    """Raises InputError if the SavedModel answers a probe otherwise than the Keras model.

    Args:
        model: that was exported, with all its settings.
        servable: the SavedModel.
        limits: what it refuses need not be answered.
        embedding: what an encoder without a head answers with.
    """
    tolerance = _TOLERANCE
    if model.network.compute_dtype != "float32":
        tolerance = _BFLOAT16_TOLERANCE
    examples = probes(model)
    wanted = _answers(model, examples, embedding)
    for example, one, other in _asked(model, servable, examples, wanted, limits):
        difference = differs(one, other, tolerance, model.setting("threshold"))
        if difference:
            raise InputError(
                f"the SavedModel answers {example!r:.60} with {difference} than the Keras model; "
                "nothing was written."
            )


def _asked(
    model: TextModel,
    servable: Servable,
    examples: Sequence[Any],
    wanted: Sequence[dict[str, Any]],
    limits: Limits,
) -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """The examples with what is wanted and what is given, all in one batch.

    Where a limit refuses that, each alone; what is refused alone is left out.
    """
    try:
        outputs = servable.run(TEXT_SIGNATURE, request_inputs(model, examples))
    except ServingError as error:
        if not limits.refused(str(error)):
            raise
        for k in range(len(examples)) if len(examples) > 1 else ():
            alone = slice(k, k + 1)
            yield from _asked(model, servable, examples[alone], wanted[alone], limits)
        return
    given = received.answers(outputs, examples, lambda count: list(model.labels or ()))
    yield from zip(examples, wanted, given, strict=True)


def _answers(
    model: TextModel, examples: Sequence[Any], embedding: Embedding
) -> list[dict[str, Any]]:
    """What the library gives for what the SavedModel is asked."""
    if isinstance(model.network, Pretrainer):
        return model.fill_mask(examples)
    if type(model.network) is not EncoderModel:
        return model.predict(examples)
    found = feature_extraction.extract(
        model,
        examples,
        layers=[embedding.layer],
        pooling=embedding.pooling,
        normalize=embedding.normalize,
        max_seq_length=model.max_seq_length,
    )
    return [{"embedding": each.values.tolist()} for each in found]


def request_inputs(model: TextModel, examples: Sequence[Any]) -> dict[str, np.ndarray]:
    """Examples as the arrays of a request."""
    found = received.columns(model.inputs or (), examples)
    return {name: received.array(values) for name, values in found.items()}
