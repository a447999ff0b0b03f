"""The parts of a score: they sum to it, and are what plain forward passes give."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import embedsearch as es
from embedsearch.backbones.packaged import minilm_folder
from embedsearch.cli.main import run
from embedsearch.decoders import fit_image, fitted_box
from embedsearch.errors import ItemError, UnknownNameError, UsageError
from embedsearch.pipeline.explain.parts import spread_grid, spread_over
from embedsearch.pooling import pool
from embedsearch.pooling.shares import Places, pooled, pooling_shares
from embedsearch.presenters.why import Picture
from embedsearch.presenters.why_drawing import overlaid
from embedsearch.registry import POOLING, SHARES
from embedsearch.types import CLASS, CONTENT, Features

VGG = {"weights": "packaged", "size": 64, "layer": "features.16"}  # a map of 8 x 8 x 256
# of projections: they are fitted on a square of the pooled width, which must not be large here
NARROW = {
    "flatten": {"layer": "features.30"},
    "grid3x3": {"layer": "features.4"},
    "gem-grid3x3": {"layer": "features.4"},
}
SIDES = {"flatten": 2, "grid3x3": 32, "gem-grid3x3": 32}
OF_TOKENS = ("crow", "gem", "max", "mean", "mean-content")  # the others need a map
PROJECTIONS = ({}, {"pca": 4}, {"whiten": 4})
METRICS = ({"metric": "cosine"}, {"metric": "ip", "normalize": False}, {"metric": "l2", "normalize": False})
TEXTS = (
    "my card was stolen, please block it",
    "how long does a transfer take?",
    "I lost my card on holiday",
    "the cash machine took my money and didn't give it back",
    "which currencies can I exchange?",
    "is there a fee for transfers abroad",
    "why was my top-up declined",
    "please close my account",
)
ASKED = "someone stole my card, so it mustn't work anymore"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

CASES = [
    pytest.param(name, {**projection, **METRICS[(i + j) % 3]}, id=f"{name}-{''.join(projection) or 'plain'}")
    for i, name in enumerate(POOLING)
    for j, projection in enumerate(PROJECTIONS)
]


@pytest.fixture(scope="module", autouse=True)
def networks_opened_once():
    """Fifty builds over the same two networks; opening them is tested elsewhere."""
    from embedsearch import backbones

    opened = {}

    def once(*args, **options):
        key = repr((args, sorted(options.items())))
        if key not in opened:
            opened[key] = open_backbone(*args, **options)
        return opened[key]

    open_backbone = backbones.open_backbone
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "open_backbone", once)
        yield


@pytest.fixture(scope="module")
def few(tmp_path_factory, emoji):
    folder = tmp_path_factory.mktemp("few")
    for path in emoji["twitter"][:8]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def faq(tmp_path_factory):
    path = tmp_path_factory.mktemp("faq") / "faq.csv"
    path.write_text("id,text\n" + "".join(f'q{n},"{text}"\n' for n, text in enumerate(TEXTS)))
    return path


@pytest.fixture(scope="module")
def pictures(few, tmp_path_factory):
    return es.build(few, tmp_path_factory.mktemp("pictures") / "index", pooling="mean", **VGG)


@pytest.fixture(scope="module")
def texts(faq, tmp_path_factory):
    return es.build(faq, tmp_path_factory.mktemp("texts") / "index")


def assert_sums(found, index, asked):
    """The score is what a search gives, and the parts sum to it."""
    hits = {hit.id: hit.score for hit in index.search(asked, k=len(index))}
    size = max(1.0, abs(found.lengths), float(np.abs(found.pairs).sum()))
    assert found.score == pytest.approx(hits[found.item.label], abs=1e-5 * size)
    assert abs(found.rounding) <= 1e-4 * max(1.0, abs(found.score)), (found.score, found.total)
    inner = found.pairs.sum() + found.query_mean.sum() + found.item_mean.sum() + found.means
    total = found.lengths - 2 * inner if found.metric is es.Metric.L2 else inner
    assert abs(total - found.score) <= 1e-4 * max(1.0, abs(found.score))


@pytest.mark.parametrize(("pooling", "options"), [case for case in CASES if case.values[0] != "cls"])
def test_the_parts_of_two_pictures_sum_to_their_score(pooling, options, few, emoji, tmp_path):
    layer = NARROW.get(pooling, {"layer": "features.9"})
    index = es.build(few, tmp_path / "index", pooling=pooling, **{**VGG, **layer}, **options)
    found = index.explain(emoji["google"][4], id=index.ids[2])
    assert_sums(found, index, emoji["google"][4])
    side = SIDES.get(pooling, 16)
    assert found.pairs.shape == (side**2, side**2) and found.query.grid == found.item.grid == (side, side)
    projected = "pca" in options or "whiten" in options
    assert bool(found.means) == bool(found.query_mean.any()) == bool(found.item_mean.any()) == projected
    assert bool(found.lengths) == (options["metric"] == "l2")


@pytest.mark.parametrize(("pooling", "options"), [case for case in CASES if case.values[0] in OF_TOKENS])
def test_the_parts_of_two_texts_sum_to_their_score(pooling, options, faq, tmp_path):
    index = es.build(faq, tmp_path / "index", pooling=pooling, **options)
    found = index.explain(ASKED, id="q0")
    assert_sums(found, index, ASKED)
    assert found.pairs.shape == (len(found.query.words), len(found.item.words))
    assert found.item.words == ("[CLS]", *re.findall(r"\w+|,", TEXTS[0]), "[SEP]")


def test_what_has_no_parts_is_refused(faq, tmp_path):
    with pytest.raises(UsageError, match="cls"):
        es.Encoder("vgg16", pooling="cls", **VGG)  # the network gives maps
    for pooling in set(POOLING) - {"cls", *OF_TOKENS}:
        with pytest.raises(UsageError, match=pooling):
            es.Encoder("minilm", pooling=pooling)  # the network gives tokens
    index = es.build(faq, tmp_path / "index", pooling="cls")
    with pytest.raises(UsageError, match="'cls' cannot be explained by places: it takes one token.*mean-content"):
        index.explain(ASKED, id="q0")


def plain_map(vgg16, path):
    """The activations at features.16 as 64 x 256, by a plain forward pass over a drawing of 64 x 64 px."""
    image = Image.open(path).convert("RGBA")
    pixels = np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
    x = torch.from_numpy(((pixels / 255 - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        return vgg16._module.features[:17](x)[0].flatten(1).T.double().numpy()


def test_pairs_of_places_are_those_of_a_plain_forward_pass(pictures, vgg16, emoji, few):
    found = pictures.explain(emoji["google"][4], id=pictures.ids[2])
    a, b = plain_map(vgg16, emoji["google"][4]), plain_map(vgg16, few / pictures.ids[2])
    pairs = a @ b.T / 64**2 / (np.linalg.norm(a.mean(axis=0)) * np.linalg.norm(b.mean(axis=0)))
    np.testing.assert_allclose(found.pairs, pairs, atol=1e-5 * pairs.max())
    assert found.score == pytest.approx(pairs.sum(), abs=1e-5)
    # the strongest pair of single places is what brute force finds
    best = found.strongest(1)[0]
    assert (best.query, best.item) == np.unravel_index(np.argmax(pairs), pairs.shape)
    assert best.share == pytest.approx(pairs.max(), rel=1e-4)


def test_pairs_go_through_whitening_and_the_means_share_stands_apart(few, vgg16, emoji, tmp_path):
    index = es.build(few, tmp_path / "index", pooling="mean", **VGG, whiten=4)
    found = index.explain(emoji["google"][4], id=index.ids[2])
    projection = index._encoder_of(index._searcher).postprocess.projection
    mean, matrix = projection.mean.astype(np.float64), projection.matrix.astype(np.float64)
    sides = []
    for path in (emoji["google"][4], few / index.ids[2]):
        places = plain_map(vgg16, path) / 64
        places /= np.linalg.norm(places.sum(axis=0))
        length = np.linalg.norm((places.sum(axis=0) - mean) @ matrix)
        sides.append((places @ matrix / length, -mean @ matrix / length))
    (a, rest_a), (b, rest_b) = sides
    np.testing.assert_allclose(found.pairs, a @ b.T, atol=1e-4 * np.abs(a @ b.T).max())
    np.testing.assert_allclose(found.query_mean, a @ rest_b, atol=1e-4)
    np.testing.assert_allclose(found.item_mean, b @ rest_a, atol=1e-4)
    assert found.means == pytest.approx(rest_a @ rest_b, abs=1e-4)
    assert found.to_dict()["parts"]["mean"] == pytest.approx(found.score - found.pairs.sum(), abs=1e-4)


def test_pairs_of_words_are_those_of_a_plain_forward_pass(texts):
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(minilm_folder()), AutoModel.from_pretrained(minilm_folder()).eval()
    found = texts.explain(ASKED, id="q6")  # "top-up" is cut at the hyphen, "mustn't" at the apostrophe and joined
    sides = []
    for text, side in ((ASKED, found.query), (TEXTS[6], found.item)):
        encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        offsets = encoded.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            states = model(**encoded).last_hidden_state[0].double().numpy()
        vector = states.mean(axis=0)
        words = np.zeros((len(side.words), states.shape[1]))
        for number, (word, (begin, end)) in enumerate(zip(side.words, side.spans, strict=True)):
            special = {"[CLS]": 0, "[SEP]": len(states) - 1}
            own = [special[word]] if begin < 0 else [i for i, (b, e) in enumerate(offsets) if begin <= b < e <= end]
            assert begin < 0 or text[begin:end] == word
            words[number] = states[own].sum(axis=0)
        np.testing.assert_allclose(words.sum(axis=0), states.sum(axis=0), err_msg="every token is in one word")
        sides.append(words / len(states) / np.linalg.norm(vector))
    np.testing.assert_allclose(found.pairs, sides[0] @ sides[1].T, atol=1e-5)
    assert "mustn't" in found.query.words and found.item.words == (
        *("[CLS]", "why", "was", "my", "top", "-", "up", "declined", "[SEP]"),
    )


@pytest.mark.parametrize("pooling", ["mean", "mean-content", "max", "gem", "grid2x2", "grid3x3", "flatten"])
def test_a_share_is_the_activation_times_the_gradient_of_the_pooling(pooling, rng):
    """Euler's theorem: these poolings are homogeneous of degree 1, so x . gradient sums to them."""
    values = torch.tensor(rng.random((1, 30, 4)) + 0.01, requires_grad=True)
    roles = np.full(30, CONTENT, np.int8)
    roles[0] = CLASS
    features = Features(values, grid=None if pooling == "mean-content" else (5, 6), roles=torch.tensor(roles)[None])
    out = pool(features, pooling)[0]
    shares = pooling_shares(Places(values[0].detach().numpy(), features.grid, roles), pooling)
    np.testing.assert_allclose(pooled(shares), out.detach().numpy(), rtol=1e-5)
    by_place = np.zeros((len(out), 30))
    for share in shares:
        for row, place in enumerate(share.places):
            start = share.start + row * share.values.shape[1] * share.apart
            by_place[start : start + share.values.shape[1], place] += share.values[row]
    for dimension in rng.choice(len(out), 4, replace=False):
        (gradient,) = torch.autograd.grad(out[dimension], values, retain_graph=True)
        expected = (gradient[0] * values[0]).sum(dim=1).detach().numpy()
        np.testing.assert_allclose(by_place[dimension], expected, atol=1e-6)


@pytest.mark.parametrize("pooling", sorted(set(POOLING) - {"cls"}))
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5)])
def test_shares_sum_to_every_pooling(pooling, size, rng):
    values = rng.normal(size=(size[0] * size[1], 6)).clip(-0.5)
    roles = np.full(len(values), CONTENT, np.int8)
    features = Features(torch.tensor(values)[None].float(), grid=size, roles=torch.tensor(roles)[None])
    np.testing.assert_allclose(
        pooled(pooling_shares(Places(values, size, roles), pooling)), pool(features, pooling)[0].numpy(), atol=1e-5
    )


def test_a_maximum_belongs_to_the_places_that_attain_it_in_equal_parts():
    (share,) = pooling_shares(Places(np.array([[1.0, 5.0], [3.0, 5.0], [3.0, 2.0]])), "max")
    assert share.values.tolist() == [[0, 2.5], [1.5, 2.5], [1.5, 0]]


def test_every_pooling_is_split_or_refused_by_name():
    assert set(SHARES) == set(POOLING) - {"cls"}
    with pytest.raises(UsageError, match="no split of it is registered.*can"):
        pooling_shares(Places(np.ones((4, 2)), (2, 2)), "my-own")


@pytest.mark.parametrize(
    "options",
    [
        {"scales": (1.0, 0.7), "flip": True, "pooling": "gem"},
        {"layer": ("features.9", "features.16"), "layer_weights": (1.0, 0.3), "whiten": 4},
        {"layer": ("features.12", "features.14"), "combine": "mean", "flip": True},
    ],
    ids=["views", "layers", "layers-averaged"],
)
def test_views_and_several_layers_sum_as_well(options, few, emoji, tmp_path):
    index = es.build(few, tmp_path / "index", **{**VGG, **options})
    assert_sums(index.explain(emoji["google"][4], id=index.ids[2]), index, emoji["google"][4])


def test_a_mirrored_view_lies_where_it_came_from(tmp_path):
    """What is at the left of a picture alone is at the left of its shares, though half of them are of its mirror."""
    pixels = np.full((64, 64, 3), 255, np.uint8)
    pixels[24:40, 4:20] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    (tmp_path / "p").mkdir()
    Image.fromarray(pixels).save(tmp_path / "p" / "left.png")
    index = es.build(tmp_path / "p", tmp_path / "index", flip=True, pooling="max", **VGG)
    shares = index.explain(Image.fromarray(pixels), id="left.png").query_shares.reshape(8, 8)
    assert shares[:, :4].sum() > 0.7 * shares.sum()


def test_long_texts_windows_chunks_and_what_is_cut(tmp_path):
    path = tmp_path / "letters.jsonl"
    long = " ".join(f"word{n} of the letter" for n in range(30))
    path.write_text(json.dumps({"id": "a", "text": long}) + "\n" + json.dumps({"id": "b", "text": "short"}))
    small = {"max_tokens": 32, "overlap": 4}
    whole = es.build(path, tmp_path / "whole", **small)
    found = whole.explain("the letter", id="a")
    assert_sums(found, whole, "the letter")
    assert found.item.words.count("[CLS]") == 1 and "word29" in found.item.words and not found.notes
    chunked = es.build(path, tmp_path / "chunked", long_texts="chunk", **small)
    found = chunked.explain("the letter", id="a#3")
    assert_sums(found, chunked, "the letter")
    about = chunked.item("a#3").metadata
    assert found.item.read == (about["chunk_start"], about["chunk_end"])
    cut = es.build(path, tmp_path / "cut", long_texts="cut", **small)
    found = cut.explain("the letter", id="a")
    assert_sums(found, cut, "the letter")
    assert "word29" not in found.item.words and re.search(
        r"'a' [\d,]+ characters after \d+ were not read", found.notes[0]
    )


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (64, 640), (57, 57)])
def test_the_square_lies_where_its_pixels_came_from(fit, size):
    """A picture that tells its own coordinates, brought to the square, has in each cell those of the cell's box."""
    width, height = size
    across, down = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    told = np.stack([across * 255, down * 255, np.zeros_like(across)], axis=2).round().astype(np.uint8)
    square = fit_image(Image.fromarray(told), 96, fit).astype(np.float64)
    left, top, right, bottom = fitted_box(width, height, 96, fit)
    for row, column in ((24, 48), (48, 48), (60, 40), (48, 70)):
        x, y = left + (column + 0.5) * (right - left) / 96, top + (row + 0.5) * (bottom - top) / 96
        if 4 < x < width - 4 and 4 < y < height - 4:
            assert square[row, column, 0] / 255 * width == pytest.approx(x, abs=0.02 * width)
            assert square[row, column, 1] / 255 * height == pytest.approx(y, abs=0.02 * height)
        elif not (0 <= x < width and 0 <= y < height):
            assert fit == "pad" and square[row, column].tolist() == [255, 255, 255]
    assert fit != "squash" or (left, top, right, bottom) == (0, 0, width, height)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_the_overlay_of_a_place_lies_on_the_original_picture(fit, tmp_path):
    """A red spot in a wide grey picture, turned by EXIF: the boxes of a place that holds it do so in the picture."""
    pixels = np.full((90, 240, 3), 128, np.uint8)
    pixels[40:50, 115:125] = np.array([255, 0, 0])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, so that it stands upright as 90 x 240
    (tmp_path / "p").mkdir()
    Image.fromarray(pixels).save(tmp_path / "p" / "spot.png", exif=exif)
    index = es.build(tmp_path / "p", tmp_path / "index", fit=fit, pooling="max", **VGG)
    found = index.explain(tmp_path / "p" / "spot.png", id="spot.png")
    assert found.query.size == (90, 240) and found.score == pytest.approx(1, abs=1e-4)
    # the spot is in the middle of the picture, so in one of the four places that meet in the middle of the square
    boxes = found.query.boxes()
    around = boxes[[27, 28, 35, 36]]
    assert [around[:, 0].min(), around[:, 2].max()] == pytest.approx([45 - (w := around[0, 2] - around[0, 0]), 45 + w])
    assert [around[:, 1].min(), around[:, 3].max()] == pytest.approx(
        [120 - (h := around[0, 3] - around[0, 1]), 120 + h]
    )
    assert (w, h) == pytest.approx(
        {"crop": (90 / 8,) * 2, "pad": (240 / 8,) * 2, "squash": (90 / 8, 240 / 8)}[fit], rel=0.05
    )
    heat = np.zeros((8, 8))
    heat[3, 3] = 1.0
    side = found.query
    drawn, shown, scale = overlaid(Picture("", Image.new("RGB", side.size, (128, 128, 128)), side.box, heat), 1.0)
    colours = np.asarray(drawn).astype(int)
    rows, columns = np.nonzero((colours[..., 0] - colours[..., 2] > 60) & (colours[..., 1] < 110))
    middle = columns.mean() / scale + shown[0], rows.mean() / scale + shown[1]
    assert middle == pytest.approx(((boxes[27, 0] + boxes[27, 2]) / 2, (boxes[27, 1] + boxes[27, 3]) / 2), abs=4)


def test_spreading_keeps_sums_and_turns_back():
    for n, cells in ((7, 3), (3, 7), (8, 8), (1, 4)):
        at = spread_over(n, cells)
        np.testing.assert_allclose(at.sum(axis=0), 1)
        np.testing.assert_allclose(spread_over(n, cells, mirrored=True), at[:, ::-1])
    assert spread_over(2, 3).tolist() == pytest.approx(np.array([[2 / 3, 0], [1 / 3, 1 / 3], [0, 2 / 3]]))
    assert (spread_grid((2, 3), (2, 3), mirrored=True) @ np.arange(6)).tolist() == [2, 1, 0, 5, 4, 3]


def test_what_cannot_be_explained_says_why(pictures, texts, few, emoji, rng, tmp_path):
    with pytest.raises(UnknownNameError, match="'nobody'"):
        pictures.explain(emoji["google"][0], id="nobody")
    with pytest.raises(ItemError, match="does not exist"):
        pictures.explain("nowhere.png", id=pictures.ids[0])
    with pytest.raises(ItemError, match="empty"):
        texts.explain("", id="q0")
    vectors = es.build(rng.normal(size=(20, 4)).astype(np.float32), tmp_path / "vectors")
    with pytest.raises(UsageError, match="holds plain vectors.*neither pixels nor words"):
        vectors.explain(np.ones(4), id="3")


def test_a_layer_of_one_vector_an_item_has_no_places(faq, tmp_path):
    index = es.build(faq, tmp_path / "index", layer="pooler")
    with pytest.raises(UsageError, match=r"layer 'pooler\S*' gives one vector an item.*layer of maps or tokens"):
        index.explain(ASKED, id="q0")


def test_moved_missing_and_changed_files(emoji, tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    for path in emoji["twitter"][:3]:
        shutil.copy(path, folder)
    index = es.build(folder, tmp_path / "index", **VGG)
    name, asked = index.ids[1], emoji["google"][1]
    before = index.explain(asked, id=name)
    (folder / name).rename(tmp_path / "moved.png")
    with pytest.raises(ItemError, match=f"'{re.escape(name)}' .*does not exist; where it has moved.*--item FILE"):
        index.explain(asked, id=name)
    moved = index.explain(asked, id=name, item=tmp_path / "moved.png")
    np.testing.assert_allclose(moved.pairs, before.pairs)
    with pytest.raises(ItemError, match="what is given for .* cannot be read: .*does not exist$"):
        index.explain(asked, id=name, item="nothing.png")
    with pytest.raises(
        ItemError, match="what is given for .* is not what was indexed: .*give the file or text that was$"
    ):
        index.explain(asked, id=name, item=asked)
    shutil.copy(asked, folder / name)
    with pytest.raises(ItemError, match=f"'{re.escape(name)}' .*its content has changed; run the build again"):
        index.explain(asked, id=name)
    (folder / name).write_bytes(b"no picture")
    with pytest.raises(ItemError, match="cannot be read|content has changed"):
        index.explain(asked, id=name)


def test_a_text_that_was_a_file_of_its_own_is_read_again(tmp_path):
    folder = tmp_path / "letters"
    folder.mkdir()
    for n, text in enumerate(TEXTS[:3]):
        (folder / f"{n}.txt").write_text(text)
    index = es.build(folder, tmp_path / "index", modality="text")
    assert_sums(index.explain(ASKED, id="0.txt"), index, ASKED)
    (folder / "0.txt").rename(tmp_path / "0.txt")
    with pytest.raises(ItemError, match="where it has moved"):
        index.explain(ASKED, id="0.txt")
    for item in (tmp_path / "0.txt", TEXTS[0]):
        assert_sums(index.explain(ASKED, id="0.txt", item=item), index, ASKED)
    (folder / "0.txt").write_text("something else")
    with pytest.raises(ItemError, match="its content has changed"):
        index.explain(ASKED, id="0.txt")


def explained(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        run(["explain", *map(str, arguments)])
    return end.value.code, *capsys.readouterr()


def test_the_command_prints_the_score_that_query_prints(pictures, texts, emoji, capsys):
    for index, asked in ((pictures, str(emoji["google"][4])), (texts, ASKED)):
        with pytest.raises(SystemExit):
            run(["query", str(index.path), asked, "-k", "1", "--json"])
        answer = json.loads(capsys.readouterr().out)
        hit = (answer[0] if isinstance(answer, list) else answer)["hits"][0]
        code, out, _ = explained(capsys, index.path, asked, "--id", hit["id"], "--json")
        told = json.loads(out)
        assert code == 0 and told["score"] == pytest.approx(hit["score"], abs=2e-6) and told["id"] == hit["id"]
        assert told["parts"]["sum"] + told["parts"]["rounding"] == pytest.approx(told["score"], abs=2e-6)
        assert len(told["pairs"]) == 8 and sorted(told["pairs"], key=lambda p: -p["share"]) == told["pairs"]
        code, out, _ = explained(capsys, index.path, asked, "--id", hit["id"])
        assert code == 0 and out.startswith(
            f"{hit['id']}: score {hit['score']:.4f} (cosine) = pairs {hit['score']:.4f}\n"
        )


def test_files_that_are_drawn_and_kept(texts, pictures, emoji, capsys, tmp_path):
    asked = emoji["google"][4]
    found = pictures.explain(asked, id=pictures.ids[2])
    for index, name, query in ((pictures, "p", str(asked)), (texts, "t", "who <b>stole</b> my card?")):
        item = index.ids[2]
        for suffix in ("png", "html", "npz"):
            out = tmp_path / f"{name}.{suffix}"
            code, printed, _ = explained(capsys, index.path, query, "--id", item, "--out", out)
            assert code == 0 and printed.rstrip().endswith(f"{'kept' if suffix == 'npz' else 'drawn'} in {out}")
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width > 900 and image.height > 400 and len(image.getcolors(10**6)) > 100
        page = (tmp_path / f"{name}.html").read_text()
        assert "<script" not in page and not re.search(r"(?:src|href)=\"(?!data:)", page), (
            "one file, nothing from elsewhere"
        )
        assert page.count('class="n"') == 8
    assert "&lt;" in page and "<b>" not in page
    with np.load(tmp_path / "p.npz", allow_pickle=False) as kept:
        np.testing.assert_allclose(kept["pairs"], found.pairs, atol=1e-7)
        np.testing.assert_allclose(kept["query_places"], found.query.boxes())
        assert json.loads(str(kept["about"]))["score"] == round(found.score, 6)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as kept:
        assert kept["query_places"].shape == (len(kept["pairs"]), 2)


def test_wrong_usage_is_told_before_the_network_runs(pictures, texts, emoji, capsys, tmp_path):
    asked, item = emoji["google"][4], pictures.ids[2]
    (tmp_path / "a.npz").mkdir()
    for arguments, code, message in (
        ((pictures.path, asked, "--id", item, "--out", tmp_path / "a.npz"), 2, "cannot be written: it is a folder"),
        ((pictures.path, asked, "--id", item, "--out", tmp_path / "why.gif"), 2, "must end in one of .png"),
        ((pictures.path, asked, "--id", item, "--out", tmp_path / "no" / "why.png"), 2, "the folder .* does not exist"),
        ((pictures.path, asked, "--id", "nobody"), 2, "'nobody' is not known; valid"),
        ((tmp_path / "none", asked, "--id", item), 1, "there is no index"),
        ((texts.path, ASKED, "--id", "q0", "--item", tmp_path / "gone.txt"), 1, "does not exist"),
    ):
        got, out, told = explained(capsys, *arguments)
        assert (got, out) == (code, "") and re.search(message, told), (arguments, told)


def test_an_answer_far_away_is_told_in_numbers_and_not_in_per_cents(few, emoji, tmp_path):
    """Whitened scores near 0 or below are small rests of large parts."""
    index = es.build(few, tmp_path / "index", whiten=6, **VGG)
    last = index.search(emoji["google"][4], k=len(index))[-1]
    found = index.explain(emoji["google"][4], id=last.id)
    assert last.score < 0 and found.whole is None
    found.save(tmp_path / "far.html")
    assert "%" not in re.sub(
        r"<style>.*?</style>|data:[^\"]+|style=\"[^\"]*\"", "", (tmp_path / "far.html").read_text(), flags=re.DOTALL
    )
