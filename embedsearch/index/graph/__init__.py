"""A graph over 8-bit codes, walked by compiled code."""
