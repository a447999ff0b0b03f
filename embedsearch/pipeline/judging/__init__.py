"""Judging an index by labels or pairs: joins the measures of `embedsearch.evaluate` with a store and its index."""
