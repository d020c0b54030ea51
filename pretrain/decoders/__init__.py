"""Decoders: from target tokens and what they may look at to the numbers of the tokens that come next."""
