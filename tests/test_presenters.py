import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from PIL import Image

from embedsearch.errors import UsageError
from embedsearch.presenters.plain import aligned, answers_as_data, answers_as_text
from embedsearch.presenters.sheet import MAX_ROWS, Cell, draw_sheet
from embedsearch.types import Hit, Hits

AWKWARD = {
    "nan": float("nan"), "when": datetime(2024, 1, 2, tzinfo=UTC), "day": date(2024, 1, 2), "raw": b"\xff",
    "price": Decimal("1.50"), "nested": {"list": [1, float("inf"), date(2024, 1, 2)]}, "none": None, "text": "a\nb",
}  # fmt: skip


def test_any_metadata_becomes_json():
    data = answers_as_data(["q"], [Hits([Hit("a", 0.5, 1, AWKWARD)], "a note")])
    back = json.loads(json.dumps(data, allow_nan=False))
    assert back[0]["note"] == "a note"
    assert back[0]["hits"][0]["metadata"] == {
        "nan": None, "when": "2024-01-02T00:00:00+00:00", "day": "2024-01-02", "raw": "ff", "price": "1.50",
        "nested": {"list": [1, None, "2024-01-02"]}, "none": None, "text": "a\nb",
    }  # fmt: skip


def test_a_table_keeps_one_line_a_hit_and_aligns():
    text = answers_as_text(["a long\nquery", "b"], [Hits([Hit("a", 0.5, 1, {"t": "x\ny" * 60})]), Hits([], "nothing")])
    lines = text.splitlines()
    assert lines[0] == "a long query" and lines[1].split() == ["rank", "score", "id", "t"] and lines[2].endswith("…")
    assert lines[3:] == ["", "b", "  (nothing)"]
    assert aligned([["a", "bb"], ["ccc", "d"]]) == ["  a    bb", "  ccc  d"]


def test_a_sheet_has_a_row_a_query_and_survives_odd_words(tmp_path):
    words = Cell(("caption " * 30, ""), text="word " * 300 + "w" * 3000)
    image = Cell(("a", "b"), image=Image.new("RGB", (3, 900), "red"))
    draw_sheet([[words, image, image], [image]], tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as drawn:
        assert drawn.size == (12 + 3 * 180 + 12, 12 + 2 * 220)
    draw_sheet([], tmp_path / "empty.png")
    with pytest.raises(UsageError, match=r"\.png, \.jpg or \.webp"):
        draw_sheet([[image]], tmp_path / "s.txt")
    with pytest.raises(UsageError, match=str(MAX_ROWS)):
        draw_sheet([[image]] * (MAX_ROWS + 1), tmp_path / "s.png")


def test_of_a_path_that_is_too_long_the_end_remains():
    from PIL import Image, ImageDraw, ImageFont

    from embedsearch.presenters.sheet import on_one_line

    draw, font = ImageDraw.Draw(Image.new("RGB", (1, 1))), ImageFont.load_default(13)
    for width in (60, 120, 400):
        cut = on_one_line(draw, "asked: /home/someone/pictures/fruit/Kiwi_001.jpg", font, width)
        assert cut.startswith("asked: ") and draw.textlength(cut, font) <= width
        assert cut.endswith("…") or "/home/someone/pictures/fruit/Kiwi_001.jpg".endswith(
            cut.split("…")[-1].removeprefix("asked: ")
        )
    assert on_one_line(draw, "a/b.jpg", font, 200) == "a/b.jpg" and on_one_line(draw, "", font, 200) == ""
    for word in ("balance_not_updated_after_bank_transfer", "w" * 5000 + "end"):
        cut = on_one_line(draw, word, font, 80)
        first, last = cut.split("…")
        assert first and last and word.startswith(first) and word.endswith(last) and draw.textlength(cut, font) <= 80
    assert on_one_line(draw, "card_arrival", font, 400) == "card_arrival"
    assert on_one_line(draw, "my card has not arrived yet", font, 80).endswith("…")


def test_a_picture_that_its_format_cannot_hold_is_told(tmp_path):
    rows = [[Cell("q", text="a")] for _ in range(MAX_ROWS)]
    with pytest.raises(UsageError, match=r"sheet.webp cannot hold .* 16,383 a side; take .png"):
        draw_sheet(rows, tmp_path / "sheet.webp")
    draw_sheet(rows, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 16_383
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_path_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    from embedsearch.presenters import out_path

    out_path.check_writable(tmp_path / "a.png", "sheet a.png")
    (tmp_path / "a.png").touch()
    out_path.check_writable(tmp_path / "a.png", "sheet a.png")
    for path, told in ((tmp_path, "it is a folder"), (tmp_path / "a.png" / "b.png", "a.png does not exist")):
        with pytest.raises(UsageError, match=f"sheet x cannot be written: .*{told}"):
            out_path.check_writable(path, "sheet x")
    monkeypatch.setattr(out_path.os, "access", lambda path, mode: False)
    for name in ("a.png", "b.png"):
        with pytest.raises(UsageError, match="is read-only"):
            out_path.check_writable(tmp_path / name, "sheet x")
