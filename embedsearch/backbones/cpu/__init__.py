"""Forward passes on a CPU: what is joined, how weights lie, on which threads."""
