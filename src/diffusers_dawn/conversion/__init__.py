"""Published DAWN checkpoints, translated to this package's models."""
