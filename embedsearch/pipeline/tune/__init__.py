"""Which layers, pooling and projection suit a user's data: one pass over a sample, then arithmetic on pooled arrays."""
