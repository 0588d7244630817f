"""Text to token ids: the vocabulary, and the tokenizer in plain Python and inside a graph."""
