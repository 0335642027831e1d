"""Convert the published DAWN checkpoints to this package's models."""
