"""Raw text: files to documents of sentences, to tokens, and the report on all of it."""
