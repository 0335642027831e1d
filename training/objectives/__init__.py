"""Losses and targets, where they are weighted, and a discriminator."""
