"""The whole of an index as a plane of points."""
