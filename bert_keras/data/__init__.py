"""From labelled texts to batches: features, their schema, and the order of rows."""
