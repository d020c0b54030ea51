"""Generators of texts, one file each; a recipe names them, or those of other packages, by import path."""
