"""Names of the files in an index folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below the folder of one index."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def items(self) -> Path:
        return self.root / "items.lance"

    @property
    def pooled(self) -> Path:
        """Vectors before the projection, while a build that has to fit one is going on."""
        return self.root / "pooled.lance"

    @property
    def pending(self) -> Path:
        """What an unfinished build was asked to do."""
        return self.root / "build.json"

    @property
    def skipped(self) -> Path:
        return self.root / "skipped.jsonl"

    @property
    def skipped_partial(self) -> Path:
        return self.root / "skipped.jsonl.partial"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    def index(self, generation: int, suffix: str) -> Path:
        return self.root / f"index-{generation:06d}{suffix}"

    def rows(self, generation: int) -> Path:
        """Beside an index: the stable id of the row at each of its positions, int64 as .npy."""
        return self.root / f"index-{generation:06d}.rows"

    def postprocess(self, generation: int) -> Path:
        return self.root / f"postprocess-{generation:06d}.safetensors"

    def generation_files(self) -> list[tuple[int, Path]]:
        """Every file that belongs to one generation, with its number."""
        found = [*self.root.glob("index-*.*"), *self.root.glob("postprocess-*.safetensors")]
        return [(int(path.name.split("-")[1][:6]), path) for path in found]
