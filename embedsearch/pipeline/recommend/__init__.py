"""Recommending: joins the pure scoring of `embedsearch.recommend` with indexes and their stores."""
