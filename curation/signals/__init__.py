"""One signal a file; a recipe names it by its import path."""
