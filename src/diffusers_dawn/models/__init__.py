"""DAWN's three networks: motion autoencoder (LFG), pose and blink network, motion denoiser."""
