"""What loops that numba compiles have in common. Nothing here is imported before such a loop is needed."""
