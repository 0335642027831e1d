"""Schedulers, presets, conversions between predictions, and the denoising loop."""
