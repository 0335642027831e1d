"""Find a face, measure its state, crop it, track it through a video."""
