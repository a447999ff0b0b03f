"""Groups of items that are nearly equal, as pure functions on arrays: without an index or a store."""
