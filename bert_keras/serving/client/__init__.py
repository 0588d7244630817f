"""Asking a model over REST, over gRPC or in this process: examples, files of millions, load tests.

`connect("http://localhost:8501/v1/models/NAME").predict(["a fine film"])` is all that most need.
"""

from bert_keras.serving.client.client import connect

__all__ = ["connect"]
