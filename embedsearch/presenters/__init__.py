"""Answers as people and machines read them."""

from embedsearch.presenters.plain import answers_as_data, answers_as_text, layers_as_text
from embedsearch.presenters.sheet import Cell, draw_sheet

__all__ = ["Cell", "answers_as_data", "answers_as_text", "draw_sheet", "layers_as_text"]
