"""Speech to features at the frame rate of the video."""
