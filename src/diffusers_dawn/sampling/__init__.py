"""Schedulers, what they and the denoiser say to each other, and the denoising of a clip."""
