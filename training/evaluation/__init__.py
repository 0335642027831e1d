"""Judge videos: metrics, face readings, sections of the report, validation during training."""
