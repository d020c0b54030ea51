"""Embeddings: from raw input to a sequence of tokens (or normalised pixels)."""
