"""Memory allocator, free memory, exact and fast float32 products, output files, timing, machine in words."""
