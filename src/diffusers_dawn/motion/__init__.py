"""Tracks of head pose and blinks: kept in files, edited, and directed by a few words."""
