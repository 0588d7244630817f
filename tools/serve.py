"""Serve a SavedModel over REST and gRPC, with tensorflow_model_server's flags.

    python -m tools.serve --model_name=sentiment --model_base_path=EXPORT_DIR

EXPORT_DIR holds numbered versions, as export_savedmodel writes them. The highest that loads is
served; a new one is picked up while the server runs. Stop it with Ctrl-C or SIGTERM: requests under
way are finished first.
"""

from __future__ import annotations

import signal
import threading

from absl import flags

from tools import command


def define_flags(flag_values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "model_name", "default", "The model's name in requests.", flag_values=flag_values
    )
    flags.DEFINE_string(
        "model_base_path",
        None,
        "The directory with the numbered versions.",
        required=True,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "port", 8500, "The gRPC port; 0 is off.", 0, 65535, flag_values=flag_values
    )
    flags.DEFINE_integer(
        "rest_api_port", 8501, "The HTTP port; 0 is off.", 0, 65535, flag_values=flag_values
    )
    flags.DEFINE_string(
        "host",
        "127.0.0.1",
        "The address to listen on: 0.0.0.0 takes requests from other machines; there is no "
        "authentication.",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "file_system_poll_wait_seconds",
        1.0,
        "How often to look for new versions, in seconds; 0 only at the start.",
        lower_bound=0.0,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "max_request_bytes",
        32 * 1024 * 1024,
        "The longest request, in bytes.",
        lower_bound=1024,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "max_batch_size",
        1024,
        "The most texts in one request; memory grows with them.",
        lower_bound=1,
        flag_values=flag_values,
    )


def main(FLAGS: flags.FlagValues) -> None:
    stop = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    from bert_keras.serving.server import ModelServer

    server = ModelServer(
        FLAGS.model_name,
        FLAGS.model_base_path,
        host=FLAGS.host,
        port=FLAGS.port or None,
        rest_api_port=FLAGS.rest_api_port or None,
        poll_seconds=FLAGS.file_system_poll_wait_seconds,
        max_request_bytes=FLAGS.max_request_bytes,
        max_batch_size=FLAGS.max_batch_size,
    )
    with server:
        rest, grpc = server.rest_url or "off", server.grpc_address or "off"
        print(f"Serving {FLAGS.model_name}: REST {rest}, gRPC {grpc}", flush=True)
        stop.wait()


if __name__ == "__main__":
    command.run(define_flags, main)
