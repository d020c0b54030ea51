"""Video and audio as numbers: shots, segments, speech, loudness, motion, fingerprints, subtitles. Pure functions."""
