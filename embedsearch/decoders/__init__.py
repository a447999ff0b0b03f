"""From bytes to what a network reads: pictures as uint8 H x W x 3, texts as str."""

from embedsearch.decoders.image import decode_image, fit_image, fitted_box, to_rgb
from embedsearch.decoders.text import check_text, decode_text

__all__ = ["check_text", "decode_image", "decode_text", "fit_image", "fitted_box", "to_rgb"]
