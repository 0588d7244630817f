"""The same model to the same bytes, as far as TensorFlow goes.

Two processes that export the same model write the same files. In one process the numbers at the
end of TensorFlow's own names (`__inference__answer_text_2855`) count on, so that there the second
saved_model.pb differs from the first in them, and in nothing else.
"""

import pathlib

from tensorflow.core.protobuf import saved_model_pb2


def settle(directory: pathlib.Path) -> None:
    """Rewrites what TensorFlow leaves to chance in a SavedModel that it has just written.

    The maps in saved_model.pb are sorted. fingerprint.pb goes, as it has a random number in it and
    a checksum of the file as it was; TensorFlow loads models without, and SHA256SUMS says more.
    """
    file = directory / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    file.write_bytes(model.SerializeToString(deterministic=True))
    (directory / "fingerprint.pb").unlink(missing_ok=True)
