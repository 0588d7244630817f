"""From a fine-tuned model to an answer over the network.

`export.py` writes a SavedModel that takes text, `server.py` serves it with TensorFlow Serving's
API, `client.py` asks a server. Nothing here but the export needs Keras.
"""
