"""`tools.serve` with a toy model that it writes first: a process, but one import of TensorFlow.

python -m tests.serving.toy_server BASE_PATH [flags of tools.serve]
"""

import pathlib
import sys

from tests.serving.toy_model import save_toy_model
from tools import command, serve

if __name__ == "__main__":
    serve.share_arenas()  # before TensorFlow starts its threads, as in tools.serve
    base_path = pathlib.Path(sys.argv.pop(1))
    save_toy_model(base_path / "1")
    sys.argv += ["--model_name=toy", f"--model_base_path={base_path}"]
    command.run(serve.define_flags, serve.main)
