"""The three learned parts of DAWN: motion autoencoder, pose and blink network, motion denoiser."""
