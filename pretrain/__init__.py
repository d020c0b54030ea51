"""Pre-training on sealed dataset versions: streams (embedding + encoder), targets, the loop, and evaluation."""
