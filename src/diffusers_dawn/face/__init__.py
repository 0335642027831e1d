"""Find a face, measure its state, crop it, follow it through a video."""
