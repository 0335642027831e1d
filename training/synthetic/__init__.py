"""Procedural talking heads with exact ground truth."""
