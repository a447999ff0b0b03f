"""Inverted lists of 4-bit codes in memory, and float16 vectors on disk to rank the best of them by."""
