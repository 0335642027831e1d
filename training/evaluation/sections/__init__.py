"""The parts of a report: each judges one side of a pipeline, clip by clip."""
