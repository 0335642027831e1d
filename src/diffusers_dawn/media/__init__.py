"""Read pictures, recordings and videos; write videos."""
