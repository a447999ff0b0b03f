"""What `make demo` shows: two indexes over the repository's own pictures and texts, built and asked.

Pictures: 300 emoji as Twitter draws them; asked with Google's drawings, the same emoji is the one right
answer. Texts: 616 questions to a bank with their intents; asked with 231 others, an answer of the same
intent is right. All weights come from installed packages, so no model hub is needed.
"""

from __future__ import annotations

import csv
import os
import shlex
import sys
from pathlib import Path

import embedsearch as es
from embedsearch.cli.main import run

ROOT = Path(__file__).resolve().parent.parent
DATA = Path("tests/data")
PICTURES = DATA / "emoji"
TEXTS = DATA / "banking77"


def command(line: str) -> None:
    """Runs one command of the package as a shell would, and shows it."""
    print(f"\n$ embedsearch {line}", flush=True)
    try:
        run(shlex.split(line))
    except SystemExit as end:
        sys.stdout.flush()
        if end.code:
            sys.exit(f"the demo failed: exit code {end.code}")


def pictures_first() -> float:
    """How often the same emoji comes first."""
    queries = sorted((PICTURES / "google").glob("*.png"))
    answers = es.open("indexes/emoji").search_many(queries, k=1)
    return sum(hits[0].id == query.name for query, hits in zip(queries, answers, strict=True)) / len(queries)


def texts_first() -> float:
    """How often the first answer has the intent of the question."""
    with (TEXTS / "questions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    answers = es.open("indexes/faq").search_many([row["text"] for row in rows], k=1)
    return sum(hits[0].metadata["intent"] == row["intent"] for row, hits in zip(rows, answers, strict=True)) / len(rows)


def main() -> None:
    os.chdir(ROOT)
    drawn = PICTURES / "google"
    command(
        f"build {PICTURES}/twitter --out indexes/emoji --weights packaged --size 96 --layer features.20 --pooling gem"
    )
    command(f"query indexes/emoji {drawn}/1f422.png {drawn}/1f682.png {drawn}/1f98b.png -k 5 --sheet indexes/emoji.png")
    command(f"build {TEXTS}/faq.csv --out indexes/faq")
    command("query indexes/faq 'Someone stole my wallet, what about my card?' 'how do I top up?' -k 3")
    command("info indexes/emoji")
    pictures, texts = pictures_first(), texts_first()
    print("\n300 emoji drawn by Google ask 300 drawn by Twitter:")
    print(f"the same emoji comes first {pictures:.0%} of the time.")
    print("231 questions ask 616 others of 77 intents:")
    print(f"the intent of the first answer is right {texts:.0%} of the time.")
    print("The picture answers are drawn in indexes/emoji.png.")


if __name__ == "__main__":
    main()
