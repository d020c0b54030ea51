"""Where things run: one file a stage, part by part, resumable."""
