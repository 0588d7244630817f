"""The peers of `served_models`: each reads one checkpoint and becomes a function of a batch."""

import json
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks import interleaved

Arrays = Mapping[str, np.ndarray]  # token_ids, padding_mask: int64 [B, T]
Prepare = Callable[[Arrays], Callable[[], np.ndarray]]  # a batch -> what computes its logits

# Ours, and transformers' in the order of its `forward`, which is that of an exported graph.
INPUTS = ("token_ids", "padding_mask", "segment_ids")
TORCH_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def serve(folder: pathlib.Path, kind: str, dtype: str) -> None:
    """A worker: builds one peer, leaves its logits in the folder, then runs what it is asked."""
    settings = json.loads((folder / "settings.json").read_text())
    make = {"bert_keras": bert_keras_export, "keras_hub": keras_hub_export}
    make |= {"onnxruntime": onnx_session, "torch": torch_eager, "torch_compile": torch_compiled}
    prepare = make[kind](folder, dtype, settings["threads"])
    batches: dict[str, list[Callable[[], np.ndarray]]] = {}
    for file in sorted(folder.glob("*x*.npz")):
        with np.load(file) as arrays:
            batch = {"segment_ids": np.zeros_like(arrays["token_ids"]), **arrays}
        batches.setdefault(file.name.partition(".")[0], []).append(prepare(batch))
    logits = np.concatenate([run() for run in batches["32xmixed"]]).astype("float32")
    np.save(folder / f"{kind}.{dtype}.npy", logits)
    least = settings["seconds"]
    interleaved.serve({name: partial(timed, runs, least) for name, runs in batches.items()})


def timed(runs: list[Callable[[], np.ndarray]], least: float) -> float:
    """The median seconds of a batch, over passes that take `least` seconds together, or one.

    What other processes left in the caches and in spinning threads meets a first pass, which does
    not count where there are several.
    """
    seconds: list[float] = []
    while sum(seconds) < least:
        began = time.perf_counter()
        for run in runs:
            run()
        seconds.append((time.perf_counter() - began) / len(runs))
    return statistics.median(seconds[1:] or seconds)


def bert_keras_export(folder: pathlib.Path, dtype: str, threads: int) -> Prepare:
    """Ours: the export's `token_ids` signature, in TensorFlow."""
    tf = _tensorflow(threads)
    import bert_keras
    from bert_keras.serving.export.export import export_saved_model

    model = bert_keras.load(folder / "checkpoint", dtype=dtype)
    path = export_saved_model(model, folder / f"bert_keras.{dtype}")
    del model
    return _signature(tf, path, "token_ids", "int32")


def keras_hub_export(folder: pathlib.Path, dtype: str, threads: int) -> Prepare:
    """KerasHub's classifier with the same weights, saved by its own `export`."""
    tf = _tensorflow(threads)
    import keras_hub
    from safetensors.numpy import load_file

    backbone = keras_hub.models.BertBackbone.from_preset(str(folder / "checkpoint"), dtype=dtype)
    model = keras_hub.models.BertTextClassifier(backbone, num_classes=2, dtype=dtype)
    weights = load_file(folder / "checkpoint" / "model.safetensors")
    head = model.get_layer("logits")
    head.kernel.assign(weights["classifier.weight"].T)
    head.bias.assign(weights["classifier.bias"])
    path = folder / f"keras_hub.{dtype}"
    model.export(str(path), format="tf_saved_model", verbose=False)
    del model, backbone
    return _signature(tf, path, "serving_default", None)


def _tensorflow(threads: int) -> Any:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def _signature(tf: Any, path: pathlib.Path, name: str, dtype: str | None) -> Prepare:
    """A SavedModel's signature with one output; the types of its inputs are its own."""
    loaded = tf.saved_model.load(str(path))
    specs = loaded.signatures[name].structured_input_signature[1]

    def prepare(batch: Arrays) -> Callable[[], np.ndarray]:
        tensors = {key: tf.constant(batch[key], dtype or spec.dtype) for key, spec in specs.items()}

        def answer() -> np.ndarray:
            # By the model, which alone holds the variables.
            (logits,) = loaded.signatures[name](**tensors).values()
            return logits.numpy()

        return answer

    return prepare


def onnx_session(folder: pathlib.Path, dtype: str, threads: int) -> Prepare:
    """transformers' model as ONNX, fused by ONNX Runtime's transformer optimizer."""
    import onnxruntime
    import torch
    from onnxruntime.transformers import optimizer

    # The optimizer knows attention as the older exporter writes it from separate products.
    network = _transformers(folder, "float32", threads, "eager")
    example = torch.ones(2, 16, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "tokens"} for name in TORCH_INPUTS}
    file = str(folder / "model.onnx")
    torch.onnx.export(
        network,
        (),
        file,
        kwargs=dict.fromkeys(TORCH_INPUTS, example),
        input_names=list(TORCH_INPUTS),
        output_names=["logits"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    config = network.config
    fused = optimizer.optimize_model(
        file,
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=0,
        use_gpu=False,
    )
    counts, layers = fused.get_fused_operator_statistics(), config.num_hidden_layers
    if (counts["Attention"], counts["BiasGelu"]) != (layers, layers):
        raise RuntimeError(f"ONNX Runtime's optimizer has not fused all layers: {counts}")
    fused.save_model_to_file(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def prepare(batch: Arrays) -> Callable[[], np.ndarray]:
        inputs = {theirs: batch[ours] for theirs, ours in zip(TORCH_INPUTS, INPUTS)}
        return lambda: session.run(["logits"], inputs)[0]

    return prepare


def torch_eager(folder: pathlib.Path, dtype: str, threads: int) -> Prepare:
    """transformers' model as it is."""
    return _torch_calls(_transformers(folder, dtype, threads, "sdpa"))


def torch_compiled(folder: pathlib.Path, dtype: str, threads: int) -> Prepare:
    """The same through Inductor; frozen, its weights are laid out for the products beforehand."""
    import torch
    import torch._inductor.config as inductor

    inductor.freezing = True
    network = _transformers(folder, dtype, threads, "sdpa")
    return _torch_calls(torch.compile(network))


def _transformers(folder: pathlib.Path, dtype: str, threads: int, attention: str) -> Any:
    import torch
    import transformers

    torch.set_num_threads(threads)
    return transformers.BertForSequenceClassification.from_pretrained(
        folder / "checkpoint", dtype=getattr(torch, dtype), attn_implementation=attention
    ).eval()


def _torch_calls(network: Any) -> Prepare:
    import torch

    def prepare(batch: Arrays) -> Callable[[], np.ndarray]:
        inputs = {
            theirs: torch.from_numpy(batch[ours]) for theirs, ours in zip(TORCH_INPUTS, INPUTS)
        }

        def answer() -> np.ndarray:
            with torch.inference_mode():
                return network(**inputs).logits.float().numpy()

        return answer

    return prepare
