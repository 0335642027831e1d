"""What all trainings share: settings, loop, checkpoints, signals, tracker, upload."""
