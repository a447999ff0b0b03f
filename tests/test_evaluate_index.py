"""Judging an index, against rankings and measures that are computed apart from the package."""

from __future__ import annotations

import json
from dataclasses import replace
from unicodedata import normalize

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.errors import ContradictionError, UnknownNameError, UsageError
from embedsearch.pipeline.judging import exact
from embedsearch.pipeline.search import Searcher

N, K = 200, 5


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 8, N)
    x = (rng.normal(size=(8, 12))[labels] + rng.normal(size=(N, 12))).astype(np.float32)
    return x, [f"set/{label}/{at}" for at, label in enumerate(labels)], labels


def built(tmp_path_factory, drawn, metric):
    x, ids, labels = drawn
    table = {"kind": [str(label) for label in labels], "part": ["ab"[at % 2] for at in range(N)]}
    return es.build(x, tmp_path_factory.mktemp(metric) / "index", ids=ids, metadata=table, metric=metric)


@pytest.fixture(scope="module")
def index(tmp_path_factory, drawn):
    return built(tmp_path_factory, drawn, "cosine")


def scores_of(xq, xb, metric):
    xq, xb = xq.astype(np.float64), xb.astype(np.float64)
    if metric == "l2":
        return -((xq[:, None] - xb[None]) ** 2).sum(axis=2)
    if metric == "cosine":
        xq, xb = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (xq, xb))
    return xq @ xb.T


def oracle(scores, grades, k):
    """Means of the measures of queries whose rows hold scores and grades of all that may be an answer."""
    found = {"P@1": [], f"recall@{k}": [], "mAP": [], f"nDCG@{k}": [], "MRR": []}
    for s, g in zip(scores, grades, strict=True):
        order = np.argsort(-s, kind="stable")
        right = g[order] > 0
        values = (
            right[0],
            right[:k].sum() / right.sum(),
            average_precision_score(g > 0, s),
            ndcg_score([g], [s], k=k),
            1 / (np.flatnonzero(right)[0] + 1),
        )
        for name, value in zip(found, values, strict=True):
            found[name].append(value)
    return {name: np.mean(values) for name, values in found.items()}


def means(figures):
    return {name: figure.mean for name, figure in figures.items()}


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_leave_one_out_is_that_of_scikit_learn(tmp_path_factory, drawn, metric, monkeypatch):
    x, _, labels = drawn
    monkeypatch.setattr(exact, "_BLOCK_VALUES", 7 * N)  # several blocks, the last one shorter
    judged = built(tmp_path_factory, drawn, metric).evaluate(label_folders=True, k=K)
    others = ~np.eye(N, dtype=bool)
    scores = scores_of(x, x, metric)[others].reshape(N, N - 1)
    grades = (labels[:, None] == labels)[others].reshape(N, N - 1)
    truth = oracle(scores, grades.astype(float), K)
    assert means(judged.exact) == pytest.approx(truth, abs=1e-6)
    # a small index is exact, so nothing is lost
    assert means(judged.found) == pytest.approx({name: truth[name] for name in judged.found}, abs=1e-6)
    assert judged.notes == [] and judged.n_items == len(judged.query_ids) == N


def test_what_the_index_loses_is_told(index, drawn, monkeypatch):
    """An index that misses the best answer of every query, judged by what it returns."""
    x, _, labels = drawn
    search = Searcher.search

    def worse(self, x, k, *args, **kwargs):
        rows, scores = search(self, x, k + 1, *args, **kwargs)
        rows[:, -1] = -1  # and has found fewer than it was asked for
        return np.delete(rows, 1, axis=1), np.delete(scores, 1, axis=1)  # the first is the query itself

    monkeypatch.setattr(Searcher, "search", worse)
    judged = index.evaluate(label_column="kind", k=K)
    scores = scores_of(x, x, "cosine")
    np.fill_diagonal(scores, -np.inf)
    right = labels[np.argsort(-scores, axis=1)] == labels[:, None]
    n = np.bincount(labels)[labels] - 1
    assert judged.found["P@1"].mean == pytest.approx(right[:, 1].mean())
    assert judged.found[f"recall@{K}"].mean == pytest.approx((right[:, 1:K].sum(axis=1) / n).mean())
    assert judged.exact["P@1"].mean == pytest.approx(right[:, 0].mean())
    assert judged.lost["P@1"].mean == pytest.approx(right[:, 0].mean() - right[:, 1].mean())


def test_the_table_stays_aligned_and_shows_no_negative_nothing(index):
    judged = index.evaluate(label_folders=True, k=1000)
    found = {name: values + 1e-9 for name, values in judged.per_query["found"].items()}
    lines = str(replace(judged, per_query={**judged.per_query, "found": found})).splitlines()[1:7]
    assert {line.index("(") for line in lines[1:]} == {lines[1].index("(")} and "-0.0000" not in "".join(lines)
    assert lines[0].index("found") == lines[1].index(judged.found["P@1"].__str__(), 30)


def test_chunks_are_refused(tmp_path):
    (tmp_path / "texts.csv").write_text("id,text\na,a short text\nb,another one\n")
    chunks = es.build(tmp_path / "texts.csv", tmp_path / "index", backbone="minilm", long_texts="chunk")
    with pytest.raises(UsageError, match="chunks"):
        chunks.evaluate({"a": "x", "b": "x"})


def test_the_three_ways_to_give_labels_agree(index, drawn, tmp_path):
    _, ids, labels = drawn
    (tmp_path / "labels.csv").write_text(
        "id,label\n" + "".join(f"{i},{label}\n" for i, label in zip(ids, labels, strict=True))
    )
    by_file = index.evaluate(tmp_path / "labels.csv")
    assert by_file.exact == index.evaluate(label_column="kind").exact == index.evaluate(label_folders=True).exact
    assert by_file.exact == index.evaluate(dict(zip(ids, labels.tolist(), strict=True))).exact


def test_some_items_ask_and_others_answer(index, drawn):
    x, _, labels = drawn
    judged = index.evaluate(label_column="kind", query_where="part = 'a'", where="part = 'b'", k=K)
    scores = scores_of(x[::2], x[1::2], "cosine")
    truth = oracle(scores, (labels[::2, None] == labels[None, 1::2]).astype(float), K)
    assert means(judged.exact) == pytest.approx(truth, abs=1e-6)


def test_graded_pairs_with_queries_of_their_own(index, drawn, tmp_path, rng):
    x, ids, _ = drawn
    asked = rng.normal(size=(9, 12)).astype(np.float32)
    grades = rng.integers(0, 4, (9, N)) * (rng.random((9, N)) < 0.1)
    lines = [f"q{q},{ids[at]},{grades[q, at]}" for q in range(9) for at in range(N) if grades[q, at]]
    (tmp_path / "pairs.csv").write_text("\n".join(["query,id,grade", *lines, f"q0,{ids[np.argmin(grades[0])]},-1"]))
    judged = index.evaluate(tmp_path / "pairs.csv", queries=asked, query_ids=[f"q{q}" for q in range(9)], k=K)
    assert means(judged.exact) == pytest.approx(
        oracle(scores_of(asked, x, "cosine"), grades.astype(float), K), abs=1e-6
    )
    assert judged.notes == ["1 pair of grade 0 or less: not relevant"]
    assert judged.labels is None and judged.classes == []


def test_another_index_asks(index, drawn, tmp_path, rng):
    x, ids, labels = drawn
    near = x + 0.1 * rng.normal(size=x.shape).astype(np.float32)
    other = es.build(near, tmp_path / "other", ids=ids, metadata={"kind": [str(label) for label in labels]})
    by_id = {item_id: item_id for item_id in ids}
    truth = oracle(scores_of(near, x, "cosine"), np.eye(N), K)
    for queries in (other, tmp_path / "other"):
        assert means(index.evaluate(by_id, queries=queries, k=K).exact) == pytest.approx(truth, abs=1e-6)
    assert index.evaluate(label_column="kind", queries=other).exact["P@1"].mean > 0.9
    apart = es.build(near, tmp_path / "apart", ids=ids, metric="l2")
    with pytest.raises(ContradictionError, match="another recipe"):
        index.evaluate(by_id, queries=apart)


def test_one_vector_for_everything_is_worth_nothing(tmp_path):
    x = np.ones((20, 4), np.float32)
    index = es.build(x, tmp_path / "index", ids=[f"{at // 10}/{at}" for at in range(20)])
    judged = index.evaluate(label_folders=True, k=5)
    assert means(judged.exact)["P@1"] == means(judged.exact)["recall@5"] == 0
    assert judged.exact["MRR"].mean == pytest.approx(1 / 11)


def test_nothing_is_left_out_silently(index, drawn):
    _, ids, _ = drawn
    given = {ids[0]: "a", ids[1]: "a", ids[2]: "alone", "strange": "a", ids[3]: ""}
    judged = index.evaluate(given)
    assert judged.query_ids == [ids[0], ids[1]] and judged.n_items == 3
    told = "\n".join(judged.notes)
    assert "1 labelled id not in the index (such as strange)" in told
    assert "1 id given with an empty label" in told
    assert f"{N - 3} items without a label left out of all rankings (such as {ids[3]}" in told
    assert f"{N - 3} queries without a label left out" in told
    assert "1 query left out, whose label no other item has: 1 label (such as alone)" in told
    assert "seed" in index.evaluate(label_folders=True, sample=10).notes[0]


def test_pairs_that_cannot_count_are_told(index, drawn):
    _, ids, _ = drawn
    pairs = {ids[0]: [ids[0], ids[1], ids[2], "gone"], ids[4]: [ids[1]], "nobody": [ids[1]]}
    judged = index.evaluate(pairs, where="part = 'a'", query_where="part = 'a'")
    assert judged.query_ids == [ids[0]]  # ids[2] is all that is left
    told = "\n".join(judged.notes)
    assert "1 query judged, but not among those asked (such as nobody)" in told
    assert "98 queries without a judgement left out" in told
    assert "1 judged id not in the index, and not counted (such as gone)" in told
    assert "1 pair of an item with itself not counted" in told
    assert "2 relevant pairs not counted, whose item does not meet the condition" in told
    assert "1 query left out, to which no item of the index is relevant" in told


def test_queries_that_find_themselves_are_told(index, drawn):
    x, ids, _ = drawn
    judged = index.evaluate(label_folders=True, queries=x[:4], query_ids=ids[:4])
    assert "4 queries in the index with the same id and vector" in judged.notes[0]


def test_classes_and_confusions(index, drawn):
    x, _, labels = drawn
    judged = index.evaluate(label_column="kind", k=K)
    scores = scores_of(x, x, "cosine")
    np.fill_diagonal(scores, -np.inf)
    first = labels[scores.argmax(axis=1)]
    wrong = first != labels
    for each in judged.classes:
        mine = labels == int(each.label)
        assert each.n_items == each.n_queries == mine.sum()
        assert each.means["P@1"] == pytest.approx((first[mine] == labels[mine]).mean())
        assert each.n_taken == max(np.bincount(first[mine & wrong], minlength=1))
    assert [each.means["P@1"] for each in judged.classes] == sorted(each.means["P@1"] for each in judged.classes)
    pairs = {(each.query_label, each.wrong_label): each.n for each in judged.confusions}
    assert len(pairs) == len(judged.confusions) and sum(pairs.values()) == wrong.sum()
    most = judged.confusions[0]
    q = index.ids.index(most.query)
    assert most.wrong == index.ids[scores[q].argmax()] and most.n == max(pairs.values())
    assert most.wrong_score == pytest.approx(scores[q].max(), abs=1e-6)


def test_what_cannot_be_judged_is_refused(index, drawn, tmp_path):
    _, ids, _ = drawn

    def file(text, name="x.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    for text, told in [
        ("", "is empty"),
        ("id,label\n", "labels nothing"),
        ("query,id,grade\n", "judges nothing"),
        ("id,name\na,b\n", "has the columns 'id', 'name'; labels need the columns id,label"),
        ("id, label\na,b\n", "has the columns 'id', ' label'"),
        ("id;label\na;b\n", "has the columns 'id;label'; .*; a CSV file has commas between them"),
        ("id,label\na,\nb,  \n", "labels nothing"),
        (f"id,label\n{ids[0]},a\n{ids[0]},b\n", "row 2: .* is labelled 'b', and 'a' before"),
        ("id,label\n,a\n", "row 1: id is empty"),
        ("id,label\na\n", "row 1: the row has 1 cells"),
        ("query,id,grade\na,b,much\n", "row 1: the grade 'much' is no number"),
        ("id,label\nno,a\nnone,a\n", "no query can be judged: 2 labelled ids not in the index"),
    ]:
        with pytest.raises(es.EmbedSearchError, match=told):
            index.evaluate(file(text))
    with pytest.raises(UsageError, match="must be a table"):
        index.evaluate(file("", "labels.txt"))
    with pytest.raises(UnknownNameError, match="did you mean 'kind'"):
        index.evaluate(label_column="knd")
    for wrong in ({}, {"label_folders": True, "label_column": "kind"}):
        with pytest.raises(UsageError, match="give one of"):
            index.evaluate(**wrong)
    with pytest.raises(UsageError, match=r"row 2: .* is labelled \['a', 'b'\]; an item has one label"):
        rows = [{"id": ids[0], "label": "a"}, {"id": ids[1], "label": ["a", "b"]}]
        index.evaluate(file("".join(json.dumps(row) + "\n" for row in rows), "x.jsonl"))
    for wrong, told in (
        ({"k": 0}, "k is 0"), ({"sample": 0}, "sample is 0"), ({"k": "5"}, "k is '5'; it must be a whole number"),
        ({"sample": 2.5}, "sample is 2.5"), ({"where": "kind = 'none'"}, "no item of .* meets .* to be an answer"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=told):
            index.evaluate(label_column="kind", **wrong)


def test_ids_in_another_unicode_form_are_told(tmp_path, rng):
    names = [normalize("NFD", f"caf\u00e9{n}") for n in range(4)]
    index = es.build(rng.normal(size=(4, 8)).astype(np.float32), tmp_path / "i", ids=names)
    with pytest.raises(UsageError, match="4 labelled ids not in the index .*; 4 of them are there in another Unicode"):
        index.evaluate({normalize("NFC", name): "a" for name in names})
    with pytest.raises(UnknownNameError, match="is, in another Unicode form"):
        index.similar(normalize("NFC", names[0]))


def test_the_command_asks_with_pictures_and_draws(photo_index, emoji, tmp_path, capsys):
    names = [path.name for path in emoji["twitter"][:60]]
    (tmp_path / "labels.csv").write_text("id,label\n" + "".join(f"{name},{name}\n" for name in names))
    queries = tmp_path / "google"
    queries.mkdir()
    for path in emoji["google"][:60]:
        (queries / path.name).symlink_to(path)
    (queries / "broken.png").write_bytes(b"no picture")
    arguments = ["evaluate", str(photo_index.path), "--labels", str(tmp_path / "labels.csv"), "--queries", str(queries)]
    with pytest.raises(SystemExit) as end:
        run([*arguments, "--json"])
    body = json.loads(capsys.readouterr().out)
    assert end.value.code == 0 and body["n_queries"] == 60
    vectors = photo_index.encoder.encode([queries / name for name in names])
    stored = photo_index.vectors(names)
    assert body["exact"]["P@1"]["mean"] == pytest.approx(
        ((vectors @ stored.T).argmax(axis=1) == np.arange(60)).mean(), abs=1e-9
    )
    assert any("1 query input left out; 1 x " in note and "(such as broken.png)" in note for note in body["notes"])
    with pytest.raises(SystemExit) as end:
        run([*arguments, "--per-class", "--confusions", str(tmp_path / "worst.png")])
    out = capsys.readouterr().out
    assert end.value.code == 0 and "drawn in" in out and "first answer most often wrong as" in out
    assert (tmp_path / "worst.png").stat().st_size > 10_000
