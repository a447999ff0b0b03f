import io

import numpy as np
import pictures
import pytest
from PIL import Image

import embedsearch as es
from embedsearch.decoders import check_text, decode_image, decode_text, fit_image, image, to_rgb
from embedsearch.errors import ItemError


def colours(data: bytes) -> np.ndarray:
    decoded = decode_image(data)
    assert decoded.mode == "RGB"
    return np.asarray(decoded)


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_transparency_is_laid_on_white(mode):
    x = colours(pictures.transparent(mode))
    assert (x[:, 5] == (255, 0, 0)).all() and (x[:, -5] == 255).all()


def test_grey_with_alpha_is_laid_on_white():
    x = colours(pictures.transparent("LA"))
    assert (x[:, 5] == 76).all() and (x[:, -5] == 255).all()  # 76 is the luma of red


def test_16_bit_grey_is_scaled_and_not_clipped():
    x = colours(pictures.grey16())
    np.testing.assert_allclose(x[0, :, 0], np.rint(pictures.gradient(np.uint16, 65535)[0] / 257), atol=1)
    assert len(np.unique(x)) == pictures.W


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pictures.gradient(np.int32, 65535), 255),
        (pictures.gradient(np.int32, 200), 200),
        (pictures.gradient(np.float32, 1), 255),
    ],
)
def test_32_bit_grey_is_scaled(array, expected):
    form = Image.fromarray(array)
    assert np.asarray(to_rgb(form)).max() == expected


def test_nan_in_a_picture_is_told():
    with pytest.raises(ItemError, match="NaN"):
        decode_image(pictures.encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"))


def test_cmyk_becomes_rgb():
    x = colours(pictures.cmyk())
    np.testing.assert_allclose(x.reshape(-1, 3).mean(axis=0), (255, 0, 0), atol=6)


def test_the_first_frame_of_an_animation_counts():
    assert (colours(pictures.animated()) == (255, 0, 0)).all()


def test_exif_rotation_is_applied():
    x = colours(pictures.rotated())
    assert x.shape == (40, 20, 3)
    np.testing.assert_allclose(x[2, 10], (255, 0, 0), atol=12)
    np.testing.assert_allclose(x[-2, 10], (0, 0, 255), atol=12)


def test_200_megapixels_are_read_and_pillows_own_limit_is_left_as_it_was():
    before = Image.MAX_IMAGE_PIXELS
    x = fit_image(decode_image(pictures.huge()), 32)
    assert x.shape == (32, 32, 3) and (x == 255).all()
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("turned", [False, True])
def test_large_pictures_are_reduced_while_they_are_read_and_still_turned_upright(turned):
    decoded = decode_image(pictures.huge_jpeg(turned))
    assert decoded.height > decoded.width and 2048 <= decoded.width < 6000
    x = fit_image(decoded, 64, "squash")
    np.testing.assert_allclose(x[5, 32], (255, 0, 0), atol=12)
    np.testing.assert_allclose(x[-5, 32], (0, 0, 255), atol=12)


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA"])
def test_large_transparent_pictures_are_laid_on_white(mode):
    clear = Image.new("RGBA", (7000, 6000), (0, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 3500, 6000))
    image = clear.convert("LA") if mode == "LA" else clear
    if mode == "P":
        image = Image.new("P", (7000, 6000), 1)
        image.putpalette([255, 0, 0, 0, 0, 0])
        image.paste(0, (0, 0, 3500, 6000))
    data = pictures.encoded(image, "PNG", compress_level=1, **({"transparency": 1} if mode == "P" else {}))
    x = np.asarray(decode_image(data))
    left = (76, 76, 76) if mode == "LA" else (255, 0, 0)
    assert x.shape[0] >= 2048 and (x[:, :100] == left).all() and (x[:, -100:] == 255).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\xff\xd8\xff" + b"nonsense" * 50, "not a picture|damaged"),
        (b"hello, I am a text", "not a picture"),
        (pictures.truncated(), "truncated|damaged"),
        (pictures.zero_size(), "zero size|damaged|not a picture"),
    ],
    ids=["empty", "garbage", "text", "truncated", "zero-size"],
)
def test_unreadable_pictures_say_why(data, reason):
    with pytest.raises(ItemError, match=reason):
        decode_image(data)


def test_too_many_pixels_are_refused_by_number(monkeypatch):
    monkeypatch.setattr(image, "MAX_PIXELS", 1000)
    with pytest.raises(ItemError, match="40 x 40 pixels"):
        decode_image(pictures.encoded(Image.new("RGB", (40, 40)), "PNG"))


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (64, 64), (17, 200), (3, 2000), (1, 1), (2000, 3)])
def test_crop_is_what_torchvision_does(size, rng):
    from torchvision.transforms import v2

    noise = Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    resize = v2.Resize(32, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    expected = np.asarray(v2.CenterCrop(32)(resize(noise)))
    if max(size) <= 4 * min(size):
        np.testing.assert_array_equal(fit_image(noise, 32), expected)
    else:  # extreme strips are cropped before they are resized; the pictures agree up to the edge pixels' place
        assert fit_image(noise, 32).shape == (32, 32, 3)


def test_pad_keeps_everything_on_white_and_squash_fills():
    red = Image.new("RGB", (40, 20), "red")
    padded = fit_image(red, 20, "pad")
    assert (padded[5:15] == (255, 0, 0)).all() and (padded[:5] == 255).all() and (padded[15:] == 255).all()
    assert (fit_image(red, 20, "squash") == (255, 0, 0)).all()


def test_texts():
    assert decode_text("\ufeffgrüße".encode()) == "grüße"
    for bad, reason in ((b"", "empty"), (b" \n", "empty"), (b"ab\xff", "byte 3")):
        with pytest.raises(ItemError, match=reason):
            decode_text(bad)
    with pytest.raises(ItemError, match="surrogate"):
        check_text("a\ud800")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_is_decoded_smaller_and_keeps_its_vector(mode):
    datasets = pytest.importorskip("sklearn.datasets")
    photo = Image.fromarray(datasets.load_sample_image("china.jpg")).resize((1280, 854)).convert(mode)
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=92)
    whole, small = decode_image(file.getvalue()), decode_image(file.getvalue(), 64)
    assert whole.size == (1280, 854) and small.mode == "RGB"
    assert min(small.size) == 214  # a quarter: half of that again would be less than twice 64
    assert decode_image(file.getvalue(), 256).size == (1280, 854)
    encoder = es.Encoder("vgg16", weights="packaged", size=64, precision="float32")
    x = encoder.encode([whole, file.getvalue()])
    assert x[0] @ x[1] > 0.999
