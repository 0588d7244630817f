"""What a fine-tuned network answers, one module for each kind of head: inputs in, dicts out.

`bert_keras.load(directory).predict(inputs)` takes the one that fits its network.
"""
