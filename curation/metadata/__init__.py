"""Lists of metadata entries, and the scripts that made them."""
