"""Weights from files, read without running code that is in them."""
