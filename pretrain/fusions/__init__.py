"""Fusions: from the tokens of several streams to tokens that know of each other."""
