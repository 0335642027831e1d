"""The machine: memory allocator, exact and fast float32 products, wall-clock time."""
