"""How the beam of a walk grows with the answers that are asked for."""

from __future__ import annotations

import math

from embedsearch.index.base import N_EXTRA, SearchParams

# a search parameter of families that walk a graph: the beam that finds ten answers grows with the k-th part of ten to
# the power of so many percent. How fast it has to grow is a property of the vectors, and is measured.
K_GROWTH = "k_growth_percent"
USUAL_GROWTH = 50
# with the last, more answers than a few dozen are looked for among all rows: no beam finds them in some graphs of inner
# products
GROWTHS = (USUAL_GROWTH, 75, 100, 150, 1000)
# a beam is kept sorted: instead of a larger one than this, all rows are compared
MOST_IN_BEAM = 4096
_K = 10  # the efforts of families are measured for so many answers
# of more, what is met last is never all right: so many times k are met at least
_SPARE = 1.5


def grown(ef_search: float, k: int, params: SearchParams) -> int:
    """The beam for k answers. ef_search: the one for up to ten."""
    n_extra = params.get(N_EXTRA, 0)
    wanted = k - n_extra
    if wanted <= _K:
        return max(math.ceil(ef_search) + n_extra, k)
    factor: float = (wanted / _K) ** (params.get(K_GROWTH, USUAL_GROWTH) / 100)
    return math.ceil(max(ef_search * factor, _SPARE * wanted)) + n_extra
