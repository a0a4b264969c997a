"""The exercise of notebook 07 on pairs of a picture and a caption: keep_pairs."""

import torch
from torch import Tensor

from ddpm_core.course.exercises.compare import Compare, Exercise, NotYet, noise
from ddpm_core.support.guards import describe

# ---- keep_pairs: how LAION was filtered ------------------------------------------------------------------------------


def my_keep_pairs(image_vectors, text_vectors, threshold):
    return torch.cosine_similarity(image_vectors, text_vectors) >= threshold  # row i with row i


def _keep_spelled_out(image_vectors, text_vectors, threshold):
    images = image_vectors / image_vectors.norm(dim=1, keepdim=True)
    texts = text_vectors / text_vectors.norm(dim=1, keepdim=True)
    cosines = (images * texts).sum(dim=1)
    return cosines >= threshold


def _kept(output: object, image_vectors: Tensor, text_vectors: Tensor, threshold: float) -> Tensor:
    N = len(image_vectors)
    if isinstance(output, Tensor) and output.dtype != torch.bool:
        if output.shape == (N, N):
            raise NotYet("that is the table of all pictures by all captions; only its diagonal are pairs.")
        if output.shape == (N,) and ((output == 0) | (output == 1)).all():
            raise NotYet("it returns 0 and 1; return True and False, as >= gives them.")
        if output.shape == (N,) and output.is_floating_point():
            raise NotYet("it returns a score for each pair; True or False is wanted: compare it with threshold.")
        if output.ndim == 2 and output.shape[1] == image_vectors.shape[1]:
            raise NotYet("it returns vectors; return which are kept, True or False for each pair.")
        if output.ndim <= 2 and not output.is_floating_point():
            raise NotYet("it returns the rows of the kept pairs; return True or False for each pair.")
    if isinstance(output, Tensor) and output.shape == (N, N):
        raise NotYet(
            "it says for every picture and every caption whether they fit, (N, N). What is needed is whether each "
            "picture fits its own caption, the one in the same row: (N,)."
        )
    if not isinstance(output, Tensor) or output.dtype != torch.bool:
        raise NotYet(f"it should return a tensor of True and False, one for each pair; it returns {describe(output)}.")
    return output.double()  # to be compared


def _of_any_length(N: int, dim: int, seed: int) -> Tensor:
    return noise(N, dim, seed=seed) * noise(N, 1, seed=seed + 1).exp()


_cosines = "(images * texts).sum(dim=1)"
_images, _texts = (f"{name}_vectors / {name}_vectors.norm(dim=1, keepdim=True)" for name in ("image", "text"))
_at_least = f"{_cosines}\n    return cosines >="
_all_captions = "(images @ texts.T)"
_LONG_ONES = "A product is larger for longer vectors, whatever they point to; divide each by its length."
_FAR = "a distance or an angle is large where they do not fit; compare the cosine itself with threshold."
_NO_COSINE = "a distance or an angle is compared with threshold, which is meant for the cosine itself."
_THE_OWN = "A pair is a picture and its own caption, the one in the same row."

KEEP_PAIRS = Exercise(
    answer=my_keep_pairs,
    on_shapes="Both are (N, dim). What should divide their rows is a column, (N, 1): keepdim=True.",
    hint=(
        "torch.cosine_similarity divides the product of two vectors by both lengths, row by row. A comparison with "
        "threshold then says True or False for each."
    ),
    sketch="cosines = torch.cosine_similarity(..., ...)\nreturn cosines >= ...",
    examine=Compare(
        _keep_spelled_out,
        cases=[
            (_of_any_length(50, 4, seed=1), _of_any_length(50, 4, seed=3), 0.15),
            (_of_any_length(40, 16, seed=5), _of_any_length(40, 16, seed=7) + noise(40, 16, seed=5), 0.6),
            (noise(45, 6, seed=9), 0.2 * noise(45, 6, seed=10), 0.01),
        ],
        to_tensor=_kept,
        bugs={
            (_images, "image_vectors", _texts, "text_vectors"): (
                f"the vectors are not normalised: that compares dot products with threshold. {_LONG_ONES}"
            ),
            (_images, "image_vectors"): f"image_vectors are not normalised, text_vectors are. {_LONG_ONES}",
            (_texts, "text_vectors"): f"text_vectors are not normalised, image_vectors are. {_LONG_ONES}",
            ("norm(dim=1, keepdim=True)", "norm(dim=0, keepdim=True)"): (
                "the columns are normalised, each number of a vector over all pairs; each vector is divided by its own "
                "length: norm(dim=1, keepdim=True)."
            ),
            ("norm(dim=1, keepdim=True)", "norm()"): (
                "all vectors are divided by one number, the length of the whole table; each is divided by its own "
                "length: norm(dim=1, keepdim=True)."
            ),
            (">=", "<="): "it is upside down: kept are the pairs that do not fit. A large cosine means that they do.",
            (_cosines, f"{_cosines}.abs()"): (
                "the sign of the cosine is lost: a picture and a caption that point opposite ways do not fit."
            ),
            (_cosines, f"1 - {_cosines}"): _FAR,
            (_cosines, f"{_cosines}.acos()"): _FAR,
            (_cosines, "(images - texts).norm(dim=1)"): _FAR,
            (_at_least, f"1 - {_cosines}\n    return cosines <="): _NO_COSINE,
            (_at_least, f"{_cosines}.acos()\n    return cosines <="): _NO_COSINE,
            (_at_least, "(images - texts).norm(dim=1)\n    return cosines <="): _NO_COSINE,
            (_cosines, "(images * texts).mean(dim=1)"): (
                "the cosine is the sum of the products, and not their mean: it is dim times too small."
            ),
            (_cosines, f"100 * {_cosines}"): (
                "the cosine is multiplied with 100; threshold is meant for the cosine itself."
            ),
            (_cosines, f"2.5 * {_cosines}"): (
                "the cosine is multiplied with 2.5, as in CLIPScore (Hessel et al. 2021); threshold is meant for the "
                "cosine itself."
            ),
            (_cosines, f"({_cosines} + 1) / 2"): (
                "the cosine is moved to [0, 1]; threshold is meant for the cosine itself, from -1 to 1."
            ),
            (_cosines, f"{_all_captions}.amax(dim=1)"): (
                f"a picture is kept where any of all the captions fits it. {_THE_OWN}"
            ),
            (_cosines, f"{_all_captions}.amax(dim=0)"): (
                f"a caption is kept where any of all the pictures fits it. {_THE_OWN}"
            ),
            (_cosines, f"{_all_captions}.mean(dim=1)"): (
                f"the mean over all the captions is compared with threshold. {_THE_OWN}"
            ),
            (_cosines, f"{_all_captions}.softmax(dim=1).diagonal()"): (
                "a softmax is taken over all the captions, so that a pair's score depends on who else is there; "
                "threshold is meant for the cosine itself."
            ),
            (
                f"{_at_least} threshold",
                f"{_all_captions}.argmax(dim=1)\n    return cosines == torch.arange(len(cosines))",
            ): (
                "a pair is kept where its caption is the best of all. Among so few captions that is often so even if "
                "it hardly fits, and among billions next to never: compare its cosine with threshold."
            ),
            (_cosines, "(images * texts.roll(1, dims=0)).sum(dim=1)"): (
                f"each picture meets its neighbour's caption. {_THE_OWN}"
            ),
            ("cosines >= threshold", "cosines >= cosines.quantile(threshold)"): (
                "threshold is taken as a share of the pairs; it is a value of the cosine."
            ),
            ("cosines >= threshold", "cosines >= -torch.inf"): "it keeps every pair, also those that do not fit.",
            ("cosines >= threshold", "cosines >= torch.inf"): "it keeps not a single pair, and many of them fit.",
        },
    ),
)
