"""The pipeline: one call from portrait and recording to frames, and each of its stages."""
