"""Groups of items of an index that are nearly equal."""
