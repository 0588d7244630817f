"""Tokenizing English text on one core, ours beside other libraries; one JSON line.

    python -m benchmarks.tokenization --text_file=corpus.txt --vocab_file=vocab.txt

A text is a line. Every peer runs in this one process, one after the other in each repetition,
with all libraries held to one thread. Megabytes (10^6 bytes of UTF-8) per second of CPU time,
which a busy machine disturbs less than wall time; both are medians. TensorFlow's peers start from
string tensors, as in a server.

    graph_uncased, graph_cased   GraphTokenizer.tokenize, exact rules, compiled, batches of 256
    python_uncased, python_cased Tokenizer.token_ids of a new tokenizer each time, which has not
                                 seen the words before; python_offsets is Tokenizer.tokenize
    tf_text_fast                 FastBertTokenizer with its own lower-casing
    tf_text_bert                 BertTokenizer
    hugging_face                 tokenizers' BertWordPieceTokenizer, encode_batch
    google_rules                 google-research/bert's rules in plain Python, a fresh reading
"""

import argparse
import functools
import gc
import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable

BATCH = 256
SLOW = ("google_rules", "hugging_face", "tf_text_bert", "python_uncased", "python_cased")
SLOW += ("python_offsets",)


def main() -> None:
    """Runs all peers and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text_file", required=True, help="UTF-8, a text a line")
    parser.add_argument("--vocab_file", required=True, help="an uncased vocab.txt")
    parser.add_argument("--cased_vocab_file", help="a cased one, for the cased peers")
    parser.add_argument("--megabytes", type=float, default=3, help="how much of the file is read")
    parser.add_argument("--slow_megabytes", type=float, default=0.5, help="what slow peers read")
    parser.add_argument("--repetitions", type=int, default=5)
    flags = parser.parse_args()
    hold_to_one_thread()
    run = peers(flags.vocab_file, flags.cased_vocab_file)
    texts = read(flags.text_file, flags.megabytes)
    slow_texts = read(flags.text_file, flags.slow_megabytes)
    work = {name: slow_texts if name in SLOW else texts for name in run}
    for name, function in run.items():
        function(work[name][: 2 * BATCH])
    gc.collect()
    gc.disable()  # as timeit does: what one peer left must not cost the next
    cpu: dict[str, list[float]] = {name: [] for name in run}
    wall: dict[str, list[float]] = {name: [] for name in run}
    for _ in range(flags.repetitions):
        for name, function in run.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            function(work[name])
            cpu[name].append(time.process_time() - cpu_began)
            wall[name].append(time.perf_counter() - began)
    sizes = {name: sum(len(text.encode("utf-8")) for text in work[name]) / 1e6 for name in run}
    result = {"benchmark": "tokenization", "batch": BATCH, "repetitions": flags.repetitions}
    result |= {"megabytes": round(sizes["graph_uncased"], 2)}
    result |= {"cpus": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 2)}
    for key, seconds in (("cpu", cpu), ("wall", wall)):
        speeds = {name: sizes[name] / statistics.median(seconds[name]) for name in run}
        result[f"megabytes_per_{key}_second"] = {n: round(s, 2) for n, s in speeds.items()}
    print(json.dumps(result))


def hold_to_one_thread() -> None:
    """One core for every library; before any of them starts its threads."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def read(path: str, megabytes: float) -> list[str]:
    """Whole lines from the file's beginning, empty ones left out."""
    texts, size = [], 0.0
    for line in pathlib.Path(path).read_text("utf-8").split("\n"):
        if size >= megabytes * 1e6:
            break
        if line:
            texts.append(line)
            size += len(line.encode("utf-8"))
    return texts


def peers(vocab_file: str, cased_vocab_file: str | None) -> dict[str, Callable[[list[str]], None]]:
    """Each peer as a function of texts."""
    import tensorflow as tf
    import tensorflow_text
    import tokenizers

    from bert_keras.text.graph_tokenizer import GraphTokenizer
    from bert_keras.text.tokenizer import Tokenizer
    from bert_keras.text.vocabulary import Vocabulary
    from tests.text import google_reference

    @functools.cache
    def tensors(texts: tuple[str, ...]) -> list[tf.Tensor]:
        return [tf.constant(texts[k : k + BATCH]) for k in range(0, len(texts), BATCH)]

    def in_batches(tokenize: Callable) -> Callable[[list[str]], None]:
        spec = tf.TensorSpec([None], tf.string)
        compiled = tf.function(tokenize, input_signature=[spec], autograph=False)

        def run(texts: list[str]) -> None:
            for batch in tensors(tuple(texts)):
                compiled(batch)

        return run

    def one_by_one(tokenize: Callable) -> Callable[[list[str]], None]:
        return lambda texts: [tokenize(text) for text in texts] and None

    uncased = Tokenizer(Vocabulary.load(vocab_file), True)
    ids = uncased.vocabulary.ids
    pieces = list(uncased.vocabulary)
    fast = tensorflow_text.FastBertTokenizer(
        pieces, token_out_type=tf.int32, lower_case_nfd_strip_accents=True
    )
    slow = tensorflow_text.BertTokenizer(vocab_file, token_out_type=tf.int32, lower_case=True)
    hugging_face = tokenizers.BertWordPieceTokenizer(vocab_file, lowercase=True)
    run = {
        "graph_uncased": in_batches(GraphTokenizer(uncased).tokenize),
        "python_uncased": lambda texts: one_by_one(Tokenizer(uncased.vocabulary, True).token_ids)(
            texts
        ),
        "python_offsets": lambda texts: one_by_one(Tokenizer(uncased.vocabulary, True).tokenize)(
            texts
        ),
        "tf_text_fast": in_batches(lambda text: fast.tokenize(text).flat_values),
        "tf_text_bert": in_batches(lambda text: slow.tokenize(text).flat_values),
        "hugging_face": lambda texts: hugging_face.encode_batch(texts) and None,
        "google_rules": one_by_one(lambda text: google_reference.tokenize(text, ids, True)),
    }
    if cased_vocab_file:
        cased = Tokenizer(Vocabulary.load(cased_vocab_file), False)
        run["graph_cased"] = in_batches(GraphTokenizer(cased).tokenize)
        run["python_cased"] = lambda texts: one_by_one(
            Tokenizer(cased.vocabulary, False).token_ids
        )(texts)
    return run


if __name__ == "__main__":
    main()
