"""From a fine-tuned model to an answer over the network.

`export` writes a SavedModel that takes text, `server` serves it with TensorFlow Serving's API,
`client` asks a server, `deployment` writes what runs one elsewhere. What they share lies here.
Nothing but the export needs Keras.
"""
