"""Answers as people and machines read them: `plain` for text and JSON, `sheet` for pictures."""
