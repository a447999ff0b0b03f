"""What a history says about items, as pure functions on arrays: scoring, fusion, variety."""
