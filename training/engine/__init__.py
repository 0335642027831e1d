"""The loop that all trainings share: settings, checkpoints, signals, tracker, upload."""
