"""An opened index, ready to be asked."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedsearch.artifact import read_manifest
from embedsearch.artifact.adding import unfinished_adds
from embedsearch.artifact.lock import is_being_written
from embedsearch.artifact.pending import unfinished_build
from embedsearch.artifact.skipped import skip_reasons
from embedsearch.engine.asking import Wanted, answers, as_queries, joined_with_answers, source_width
from embedsearch.engine.elsewhere import Elsewhere, fitted_how, load_encoder
from embedsearch.errors import UsageError
from embedsearch.pipeline.search import Searcher, as_ids
from embedsearch.types import Hit, Hits, Modality, NoProgress, Progress
from embedsearch.vectors import Matrix

if TYPE_CHECKING:
    from embedsearch.engine.inputs import Metadata
    from embedsearch.evaluate.judged import Judged
    from embedsearch.pipeline.change.add import AddReport
    from embedsearch.pipeline.change.delete import DeleteReport
    from embedsearch.pipeline.change.optimize import OptimizeReport
    from embedsearch.pipeline.duplicates.groups import Duplicates
    from embedsearch.pipeline.encode import Encoder
    from embedsearch.pipeline.explain.explanation import Explanation
    from embedsearch.pipeline.map.drawing import Map


class Index:
    """One committed generation of an index folder; safe to use from many threads.

    It goes on with its generation, whatever writers do, until `refresh`, or `add`, `delete` or `optimize` of its own;
    a search that is under way then ends on the generation it began on.

    Scores: cosine and ip are inner products, larger is more alike; l2 is the squared Euclidean
    distance, smaller is more alike. Searching by vector or id never loads torch.
    """

    def __init__(self, searcher: Searcher, elsewhere: Elsewhere | None = None) -> None:
        self._searcher = searcher
        self._elsewhere = elsewhere or Elsewhere()
        self._encoder: tuple[Searcher, Encoder] | None = None
        self._encoder_lock = threading.Lock()
        self._refresh_lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._searcher.store)

    def __repr__(self) -> str:
        manifest = self._searcher.manifest
        return f"<Index {self._searcher.root}: {len(self)} x {manifest.dim}, {manifest.recipe.metric}>"

    @property
    def path(self) -> Path:
        """The folder of the index."""
        return self._searcher.root

    def search(
        self,
        query: Any = None,
        *,
        vector: ArrayLike | None = None,
        k: int | None = 10,
        where: str | None = None,
        min_score: float | None = None,
        max_distance: float | None = None,
        recall: float | None = None,
        group: bool = False,
        expand: int = 0,
    ) -> Hits:
        """The k items most like one query, best first.

        query: a path, URL, PIL image or array for an index of pictures; a text for an index of texts; a vector for an
        index of vectors. vector: float D instead, or of the source's width for vectors indexed with pca or whiten.
        where: an SQL condition over the metadata, such as "price < 20", that hits must meet. min_score: leaves out
        hits that score less; max_distance: of an l2 index, those that are farther. k: None for all; with one
        of these, for all that are so near. recall: recall@10 of this search, in place of what the index was
        built for. group: of an index of chunks, the best chunk of each text only. expand: how many of the best answers
        join the query before it is asked again (alpha query expansion, cosine only); the scores are then those of
        the joined query. See docs/evaluate.md for when it helps.
        Returns Hits, a list of Hit whose `note` says why fewer than k came back.
        Raises ItemError when the query cannot be read, UsageError for wrong arguments.
        """
        if (query is None) == (vector is None):
            raise UsageError("search takes either a query or vector=, not both and not none")
        if vector is None and self._is_vector(query):
            vector, query = query, None
        searcher, wanted = self._searcher, Wanted(k, where, min_score, max_distance, recall, group, expand)
        if query is not None:
            return answers(searcher, self._encoder_of(searcher).encode([query]), wanted)[0]
        assert vector is not None
        x = as_queries(searcher, vector)
        if len(x) != 1:
            raise UsageError(f"vector has {len(x)} rows; search takes one, search_many(vectors=...) takes many")
        return answers(searcher, x, wanted)[0]

    def search_many(
        self,
        queries: Sequence[Any] = (),
        *,
        vectors: ArrayLike | None = None,
        k: int | None = 10,
        where: str | None = None,
        min_score: float | None = None,
        max_distance: float | None = None,
        recall: float | None = None,
        group: bool = False,
        expand: int = 0,
    ) -> list[Hits]:
        """One answer a query, encoded and searched as one batch; see `search`.

        vectors: float N x D instead of queries. For arrays without metadata `search_vectors` is faster.
        """
        searcher, wanted = self._searcher, Wanted(k, where, min_score, max_distance, recall, group, expand)
        if vectors is None and len(queries) and self._is_vector(queries[0]):
            vectors = queries
        if vectors is not None:
            return answers(searcher, as_queries(searcher, vectors), wanted)
        if len(queries) == 0:
            return []
        return answers(searcher, self._encoder_of(searcher).encode(queries), wanted)

    def _is_vector(self, query: Any) -> bool:
        """Whether what is asked with is a vector already, as those that the index was built of."""
        return self.modality is Modality.VECTOR and not isinstance(query, str | Path)

    def similar(
        self,
        item_id: str | int,
        *,
        k: int | None = 10,
        where: str | None = None,
        min_score: float | None = None,
        max_distance: float | None = None,
        recall: float | None = None,
        group: bool = False,
        expand: int = 0,
    ) -> Hits:
        """The k items most like an indexed one, itself left out; with group=True, all chunks of its text. It is none of
        those that `expand` joins.

        Raises UnknownNameError when no item has that id.
        """
        searcher, wanted = self._searcher, Wanted(k, where, min_score, max_distance, recall, group, expand)
        own = searcher.rows_of([item_id])
        return answers(searcher, searcher.store.vectors_at(own), wanted, own)[0]

    def similar_many(
        self,
        ids: Sequence[str | int],
        *,
        k: int | None = 10,
        where: str | None = None,
        min_score: float | None = None,
        max_distance: float | None = None,
        recall: float | None = None,
        group: bool = False,
        expand: int = 0,
    ) -> list[Hits]:
        """One answer an id, searched as one batch; see `similar`."""
        searcher, wanted = self._searcher, Wanted(k, where, min_score, max_distance, recall, group, expand)
        own = searcher.rows_of(ids)
        return answers(searcher, searcher.store.vectors_at(own), wanted, own)

    def search_vectors(
        self,
        x: ArrayLike,
        *,
        k: int | None = 10,
        where: str | None = None,
        recall: float | None = None,
        expand: int = 0,
    ) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
        """The fast road: ids (str) and scores (float32), both N x min(k, items to be found), best first.

        x: float32 N x D (or D, as one row). where, recall, expand: as in `search`. Where an approximate index found
        fewer, the id is None and the score NaN. Raises UsageError for another width, NaN, or k < 1.
        """
        searcher = self._searcher
        wanted = Wanted(k, where, recall=recall, expand=expand)
        asked = joined_with_answers(searcher, as_queries(searcher, x), wanted)
        rows, scores = searcher.search(asked, wanted.k or max(len(searcher.store), 1), where, recall)
        if rows.size and rows.min() < 0:
            ids = searcher.store.ids_at(np.maximum(rows, 0))
            ids[rows < 0] = None
            return ids, scores
        return searcher.store.ids_at(rows), scores

    def vectors(self, ids: Sequence[str | int]) -> Matrix:
        """The stored vectors of `ids`, float32 len(ids) x D. Raises UnknownNameError for an unknown id."""
        searcher = self._searcher
        return searcher.store.vectors_at(searcher.rows_of(ids))

    def duplicates(
        self,
        *,
        min_score: float | None = None,
        max_distance: float | None = None,
        where: str | None = None,
        strict: bool = False,
        exact: bool | None = None,
        progress: Progress | None = None,
    ) -> Duplicates:
        """Groups of items that are nearly equal: the connected components of the pairs that score min_score or more.

        min_score: 0.95 where cosine is the metric; ip must be given one, l2 a max_distance (squared). where: an SQL
        condition that the items must meet. strict: every item is near enough to the kept one itself.
        exact: compare all pairs (True), or ask the index (False); None does the first of up to 100,000 items, and of an
        exact index. Memory is a few bytes an item. Iterating over the answer reads the groups, largest first: `.kept`,
        the most central item, and `.others`; `.ids_to_drop()` gives the ids of all others that are near enough to it.
        Raises UsageError for wrong arguments.
        """
        from embedsearch.engine.grouping import duplicates

        return duplicates(self._searcher, min_score, max_distance, where, strict, exact, progress)

    def map(
        self,
        out: str | Path,
        *,
        color: str | None = None,
        labels: Any = None,
        label_folders: bool = False,
        method: str = "umap",
        where: str | None = None,
        sample: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Map:
        """Draws all items as a plane of points in one web page; what was drawn, with `.ids` and `.xy` (float32 n x 2).

        out: FILE.html. color: a metadata column that colours the points; or labels (a file with id,label, or
        {id: label}), or label_folders (the folder that an id lies in). method: umap, tsne (both need the extra `map`)
        or pca. where: an SQL condition that items must meet. sample: at most so many of them, drawn with the seed. The
        same seed gives the same map. Raises UsageError for wrong arguments, MissingExtraError without the extra.
        """
        from embedsearch.engine.evaluating import by_of
        from embedsearch.engine.given import whole
        from embedsearch.pipeline.map.drawing import draw_map

        sample, seed = None if sample is None else whole("sample", sample), whole("seed", seed, least=0)
        is_coloured = color is not None or labels is not None or label_folders
        by = by_of(labels, color, label_folders) if is_coloured else None
        return draw_map(self._searcher, Path(out), by, method, where, sample, seed, progress or NoProgress())

    def explain(self, query: Any, *, id: str | int, item: Any = None) -> Explanation:  # noqa: A002
        """Why the item `id` has its score for a query, as a sum over pairs of places or words; see `Explanation`.

        query: a path, URL, PIL image or array for an index of pictures, a text for one of texts. item: what the id
        stands for, where it is not where it was indexed. Raises UnknownNameError when no item has that id, ItemError
        when either cannot be read or the item has changed, UsageError when the network's layer or the pooling has no
        places (the message says what can be explained instead).
        """
        from embedsearch.engine.explaining import explain

        return explain(self, query, id=id, item=item)

    def save_sheet(self, queries: Sequence[tuple[str, Any]], answers: Sequence[Hits], path: str | Path) -> None:
        """Draws answers as one picture, a row a query.

        queries: a label and what to show for each query: a path, PIL image or text, or None.
        """
        from embedsearch.pipeline.sheet import save_sheet

        save_sheet(queries, answers, self.modality, Path(path))

    def evaluate(
        self,
        labels: Any = None,
        *,
        label_column: str | None = None,
        label_folders: bool = False,
        queries: Any = None,
        query_ids: Sequence[Any] | str | Path | None = None,
        query_where: str | None = None,
        where: str | None = None,
        k: int = 10,
        sample: int | None = 10_000,
        expand: int = 0,
        confusions: str | Path | None = None,
        id_column: str | None = None,
        text_column: str | None = None,
        image_column: str | None = None,
        progress: Progress | None = None,
    ) -> Judged:
        """How good the answers are, by what is known to be right: P@1, recall@k, mAP, nDCG@k and MRR with intervals.

        labels: a table file with the columns id,label (the same label is relevant), or query,id,grade; or a mapping id
        -> label, or query -> {id: grade} or a list of relevant ids. Instead label_column, a metadata column, or
        label_folders, the name of the folder each id lies in.
        queries: a source that `add` would take, encoded by the index's own encoder (query_ids: of a matrix or a file of
        texts); or the folder of another index of the same recipe. By default the items themselves, each left out of its
        own answers. query_where, where: conditions on items that are asked, and on those that are answers.
        sample: at most so many queries, drawn with a seed; None for all. expand: as in `search`; the answers that join
        are the best exact ones for `exact`, those that the index finds for `found`. confusions: a picture of the worst.

        `exact` judges the vectors: all items ranked by float64 scores, ties for the worse. `found` judges the first k
        that the index itself finds. Definitions: `embedsearch.evaluate.ranking`. Whatever is left out stands in
        `notes`. Raises UsageError where nothing can be judged, ContradictionError for an index of another recipe.
        """
        from embedsearch.engine.evaluating import evaluate
        from embedsearch.engine.inputs import Beside
        from embedsearch.sources import Columns

        searcher = self._searcher
        return evaluate(
            searcher,
            labels,
            label_column,
            label_folders,
            queries._searcher if isinstance(queries, Index) else queries,
            Beside(query_ids, None, Columns(id_column, text_column, image_column)),
            lambda: self._encoder_of(searcher),
            query_where=query_where,
            where=where,
            k=k,
            sample=sample,
            expand=expand,
            progress=progress or NoProgress(),
            sheet=None if confusions is None else Path(confusions),
        )

    @property
    def modality(self) -> Modality:
        """What the items are made of."""
        return self._searcher.manifest.recipe.modality

    def item(self, item_id: str | int) -> Hit:
        """One indexed item with its metadata, as a hit of rank 1 whose score is NaN."""
        searcher = self._searcher
        return searcher.store.hits(searcher.rows_of([item_id]), np.array([np.nan], np.float32))[0]

    def info(self) -> dict[str, Any]:
        """The manifest as plain data: recipe, counts, index and its measured recall, versions, sizes, how PCA or
        whitening was fitted, what has changed since the index file was built, adds and a build that have not finished
        (their sources), whether another process is writing now, and how often each reason stands in skipped.jsonl."""
        searcher = self._searcher
        body = searcher.manifest.to_dict()
        sizes = {name: int(record["size"]) for name, record in body.pop("files").items()}
        store = sum(size for name, size in sizes.items() if "/" in name)
        return {
            "path": str(self.path),
            **body,
            "skipped": skip_reasons(self.path),
            "metadata_columns": searcher.store.metadata_types,
            "disk_bytes": sum(sizes.values()),
            "store_bytes": store,
            "index_bytes": sizes[searcher.manifest.index.file],
            "n_added": searcher.store.n_added,
            "projection": fitted_how(self.path, searcher.manifest),
            "drift": asdict(searcher.drift()),
            "unfinished_adds": unfinished_adds(self.path),
            "unfinished_build": unfinished_build(self.path, searcher.manifest.generation),
            "being_written": is_being_written(self.path),
        }

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return self._searcher.store.dim

    @property
    def source_dim(self) -> int:
        """Dimensions of the vectors it was given: more than `dim` where a projection was fitted on them."""
        searcher = self._searcher
        if searcher.manifest.postprocess is None or self.modality is not Modality.VECTOR:
            return searcher.store.dim
        return source_width(searcher)

    @property
    def ids(self) -> list[str]:
        """All ids, in row order."""
        return [str(item_id) for item_id in self._searcher.store.ids.to_pylist()]

    @property
    def encoder(self) -> Encoder:
        """The encoder the index was built with, loaded on first use (this imports torch).

        Raises ContradictionError for an index of plain vectors, WeightsError when its weights are not here.
        """
        return self._encoder_of(self._searcher)

    def _encoder_of(self, searcher: Searcher) -> Encoder:
        with self._encoder_lock:
            if self._encoder is None or not self._encoder[0].encodes_as(searcher):
                with searcher.reading():
                    self._encoder = searcher, load_encoder(self.path, searcher.manifest, self._elsewhere)
            return self._encoder[1]

    def add(
        self,
        source: Any,
        *,
        ids: Sequence[Any] | str | Path | None = None,
        metadata: Metadata = None,
        id_prefix: str | None = None,
        id_column: str | None = None,
        text_column: str | None = None,
        image_column: str | None = None,
        restart: bool = False,
        progress: Progress | None = None,
    ) -> AddReport:
        """Adds what a source gives, of every kind that `build` takes for such an index; known ids are replaced.

        Rows that have no ids are numbered; where such an id is that of other content from another source, it is a
        UsageError: give ids, or id_prefix, a word before each.
        Network, layer, pooling, projection and metric are those of the index. What has not changed is not read again,
        and nothing goes away that the source lacks. Found at once. restart: throws away what an interrupted add of this
        source has extracted, instead of going on with it. For the rest, and the warning when inputs were left out, see
        `build`. Raises EmbedSearchError of all kinds; the index then stays as it was.
        """
        from embedsearch.engine.changing import add
        from embedsearch.engine.inputs import Beside, warn_of_skips
        from embedsearch.sources import Columns

        self.refresh()
        searcher = self._searcher
        report = add(
            self.path,
            searcher.manifest,
            source,
            Beside(ids, metadata, Columns(id_column, text_column, image_column), id_prefix),
            lambda: self._encoder_of(searcher),
            restart=restart,
            progress=progress,
        )
        self.refresh()
        warn_of_skips(self.path, report.n_skipped, report.reasons)
        return report

    def delete(self, ids: Sequence[Any] | str | int = (), *, where: str | None = None) -> DeleteReport:
        """Takes items out, by id, by an SQL condition over the metadata, or both; none of them is an answer any more.

        Of an index of chunks, ids are those of texts, and a text goes with all its chunks. Raises UnknownNameError when
        an id is not there, and deletes nothing then. A later `build` brings back what its source still has.
        """
        from embedsearch.pipeline.change.delete import run_delete

        asked = as_ids([ids] if isinstance(ids, str | int) else ids)
        report = run_delete(self.path, asked, where)
        self.refresh()
        return report

    def optimize(
        self,
        *,
        index: str | None = None,
        recall: float | None = None,
        memory: int | str | None = None,
        latency_ms: float | None = None,
        progress: Progress | None = None,
    ) -> OptimizeReport:
        """Folds what was added and deleted into a fresh index file, made from the stored vectors, and compacts the
        store. The family is chosen anew for the size of now, unless one was asked for.

        index, recall, memory, latency_ms: as in `build`; what is given takes the place of what was asked for before.
        Raises PromiseError when that cannot be kept; the index then stays as it was.
        """
        from embedsearch.index.choose import changed_request
        from embedsearch.pipeline.change.optimize import run_optimize

        asked = changed_request(index, recall, memory, latency_ms)
        report = run_optimize(self.path, progress or NoProgress(), asked)
        self.refresh()
        return report

    def refresh(self) -> bool:
        """Goes over to the newest committed generation; False when this is it."""
        with self._refresh_lock:
            before = self._searcher
            if read_manifest(self.path) == before.manifest:
                return False
            self._searcher = Searcher.open(self.path, before=before)
            return True
