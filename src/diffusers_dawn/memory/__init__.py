"""Estimate the memory that a clip needs, and find out how much is free."""
