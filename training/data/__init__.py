"""Prepared data sets: make, store, read, and cut samples out of them."""
