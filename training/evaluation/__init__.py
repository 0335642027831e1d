"""Judge videos: metrics, readings of faces, sections of the report, validation while training."""
