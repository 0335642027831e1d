"""Turn speech into features at the video's frame rate."""
