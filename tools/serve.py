"""Serve SavedModels over REST and gRPC, with tensorflow_model_server's flags.

    python -m tools.serve --model_name=sentiment --model_base_path=EXPORT_DIR
    python -m tools.serve --model_config_file=models.config

EXPORT_DIR holds numbered versions, as export_savedmodel writes them. The highest that loads is
served; a new one is picked up while the server runs. models.config names several models, which
versions of them, and labels for these, as write_deployment writes it. Stop the server with Ctrl-C
or SIGTERM: requests under way are finished first; a second one ends it at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
from typing import Any

from absl import flags

from tools import command

# How long the ports stay open at least, in seconds, for clients to be told that they close.
LINGER_SECONDS = 0.5

_M_ARENA_MAX = -8  # glibc's malloc.h


def define_flags(flag_values: flags.FlagValues) -> None:
    own = {"flag_values": flag_values}
    _define_models(own)
    _define_limits(own)
    flags.DEFINE_integer("port", 8500, "The gRPC port; 0 is off.", 0, 65535, **own)
    flags.DEFINE_integer("rest_api_port", 8501, "The HTTP port; 0 is off.", 0, 65535, **own)
    flags.DEFINE_string(
        "host",
        "127.0.0.1",
        "The address to listen on: 0.0.0.0 takes requests from other machines; there is no "
        "authentication.",
        **own,
    )
    flags.DEFINE_bool("enable_batching", False, "Let requests share a run of the graph.", **own)
    flags.DEFINE_string(
        "batching_parameters_file", None, "How, as TensorFlow Serving reads it.", **own
    )
    flags.DEFINE_integer(
        "max_batch_tokens", None, "The most tokens in a batch over requests.", 1, **own
    )
    for pool, what in (("intra", "one operation"), ("inter", "operations side by side")):
        flags.DEFINE_integer(
            f"tensorflow_{pool}_op_parallelism",
            0,
            f"Threads for {what}; 0 is one for each core.",
            0,
            **own,
        )
    flags.DEFINE_string(
        "monitoring_config_file",
        None,
        "Whether and where there are metrics for Prometheus; by default at "
        "/monitoring/prometheus/metrics.",
        **own,
    )


def _define_models(own: dict[str, Any]) -> None:
    flags.DEFINE_string("model_name", "default", "The model's name in requests.", **own)
    flags.DEFINE_string("model_base_path", None, "The directory with the numbered versions.", **own)
    flags.DEFINE_string(
        "model_config_file", None, "Models instead of this one: a ModelServerConfig.", **own
    )
    flags.DEFINE_float(
        "model_config_file_poll_wait_seconds",
        0.0,
        "How often to read that file again, in seconds; 0 never.",
        lower_bound=0.0,
        **own,
    )
    flags.DEFINE_bool(
        "allow_version_labels_for_unavailable_models",
        False,
        "A label that is not in use may name a version that is yet to come.",
        **own,
    )
    flags.DEFINE_float(
        "file_system_poll_wait_seconds",
        1.0,
        "How often to look for new versions, in seconds; 0 only at the start.",
        lower_bound=0.0,
        **own,
    )


def _define_limits(own: dict[str, Any]) -> None:
    flags.DEFINE_integer(
        "max_request_bytes", 32 * 1024 * 1024, "The longest request, in bytes.", 1024, **own
    )
    flags.DEFINE_integer(
        "max_batch_size", 1024, "The most texts in one request; memory grows with them.", 1, **own
    )
    flags.DEFINE_integer(
        "max_queued_requests",
        256,
        "The most requests under way and waiting; those that come then are refused at once.",
        1,
        **own,
    )
    flags.DEFINE_integer(
        "rest_api_timeout_in_ms",
        30_000,
        "How long an HTTP request may take to arrive, and then to be answered.",
        1,
        **own,
    )
    flags.DEFINE_float(
        "shutdown_grace_seconds",
        30.0,
        "How long requests under way may take after SIGTERM.",
        lower_bound=0.0,
        **own,
    )


def main(FLAGS: flags.FlagValues) -> None:
    stop = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: _end(stop))
    share_arenas()
    from bert_keras.serving.servable import use_threads
    from bert_keras.serving.server.server import ModelServer

    # TensorFlow alone is half a million Python objects, which the collector would look through now
    # and then, for 0.3 s in which no request is answered. Models, which go again, come after this.
    gc.freeze()
    use_threads(FLAGS.tensorflow_intra_op_parallelism, FLAGS.tensorflow_inter_op_parallelism)
    one = FLAGS.model_config_file is None
    server = ModelServer(
        FLAGS.model_name if one else None,
        FLAGS.model_base_path,
        model_config_file=FLAGS.model_config_file,
        config_poll_seconds=FLAGS.model_config_file_poll_wait_seconds,
        allow_unavailable_labels=FLAGS.allow_version_labels_for_unavailable_models,
        host=FLAGS.host,
        port=FLAGS.port or None,
        rest_api_port=FLAGS.rest_api_port or None,
        poll_seconds=FLAGS.file_system_poll_wait_seconds,
        max_request_bytes=FLAGS.max_request_bytes,
        max_batch_size=FLAGS.max_batch_size,
        max_queued_requests=FLAGS.max_queued_requests,
        rest_timeout_seconds=FLAGS.rest_api_timeout_in_ms / 1000,
        batching=_batching(FLAGS),
        metrics_path=_metrics_path(FLAGS.monitoring_config_file),
    )
    server.start()
    rest, grpc = server.rest_url or "off", server.grpc_address or "off"
    print(f"Serving {', '.join(server.models.names)}: REST {rest}, gRPC {grpc}", flush=True)
    stop.wait()
    if not server.stop(FLAGS.shutdown_grace_seconds, LINGER_SECONDS):
        sys.stderr.write(
            f"serve: requests were under way after {FLAGS.shutdown_grace_seconds:g} s "
            "(--shutdown_grace_seconds); they are not answered\n"
        )
        sys.stderr.flush()
        os._exit(1)  # Python would wait for their threads


def share_arenas() -> None:
    """Has glibc's malloc keep two pools of memory for all threads, not eight for each core.

    Every pool keeps what it once needed, so that a server of many threads would grow for hours.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _end(stop: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # the next one ends the process at once
    stop.set()


def _batching(FLAGS: flags.FlagValues) -> Any:
    more = {name: FLAGS[name].value for name in ("max_batch_tokens",) if FLAGS[name].value}
    path = FLAGS.batching_parameters_file
    if not FLAGS.enable_batching:
        given = [name for name in ("batching_parameters_file", *more) if FLAGS[name].value]
        if given:
            raise command.UsageError(f"--{given[0]} without --enable_batching")
        return None
    from bert_keras.serving.server.batching import BatchingParameters

    return BatchingParameters.read(path, **more) if path else BatchingParameters(**more)


def _metrics_path(path: str | None) -> str | None:
    from bert_keras.serving.server_files import METRICS_PATH, read_metrics_path

    return read_metrics_path(path) if path else METRICS_PATH


if __name__ == "__main__":
    command.run(define_flags, main)
