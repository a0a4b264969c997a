"""The exercises of notebook 07 that find the closest vectors: search, zero_shot."""

import torch
from torch import Tensor

from ddpm_core.course.exercises.compare import Compare, Exercise, NotYet, noise
from ddpm_core.support.guards import describe


def _whole_numbers(output: object) -> Tensor:
    """As floats, to be compared. Raises NotYet where it is no tensor of whole numbers."""
    if isinstance(output, (tuple, list)) and len(output) == 2 and all(isinstance(each, Tensor) for each in output):
        raise NotYet("it returns two things, as max, sort and topk do: return only where the numbers stand, .indices.")
    if not isinstance(output, Tensor):
        raise NotYet(f"it should return a tensor of whole numbers; it returns {describe(output)}.")
    if output.is_floating_point() or output.dtype == torch.bool:
        raise NotYet(f"it should return whole numbers; it returns a {describe(output)}.")
    return output.double()


# ---- search: the k vectors closest to a query ------------------------------------------------------------------------


def my_search(query_vector, vectors, k):
    scores = vectors @ query_vector / vectors.norm(dim=1)  # the query's length is the same for all
    return scores.topk(k).indices


def _search_spelled_out(query_vector, vectors, k):
    lengths = vectors.norm(dim=1)
    scores = vectors @ query_vector / lengths
    return scores.argsort(descending=True)[:k]


def _rows(output: object, query_vector: Tensor, vectors: Tensor, k: int) -> Tensor:
    if isinstance(output, Tensor) and output.shape == (k, len(query_vector)):
        raise NotYet("it returns vectors; return the numbers of the rows in which they stand.")
    if isinstance(output, Tensor) and output.is_floating_point() and (output != output.round()).any():
        raise NotYet("it returns scores; return the rows in which they stand, such as topk(k).indices.")
    rows = _whole_numbers(output)
    if rows.ndim == 1 and len(rows) != k:
        raise NotYet(f"it returns {len(rows)} rows for k = {k}, among {len(vectors)} vectors.")
    return rows


_scores = "vectors @ query_vector / lengths"

SEARCH = Exercise(
    answer=my_search,
    on_shapes=(
        "vectors (N, dim) @ query_vector (dim,) is one product for each row, (N,). To divide the rows of a table, "
        "lengths must be a column, keepdim=True."
    ),
    hint=(
        "vectors @ query_vector has one product for each row of vectors; divided by the length of that row it is "
        "larger the smaller the angle is. topk(k) finds the k largest and where they stand."
    ),
    sketch="scores = vectors @ ... / ...\nreturn scores.topk(...).indices",
    examine=Compare(
        _search_spelled_out,
        cases=[
            (noise(8, seed=1), noise(40, 8, seed=2) * noise(40, 1, seed=3).exp(), 6),
            (5 * noise(5, seed=4), noise(30, 5, seed=5) * noise(30, 1, seed=6).exp(), 4),
            (noise(12, seed=7) / 9, noise(50, 12, seed=8) * noise(50, 1, seed=9).exp(), 5),
        ],
        to_tensor=_rows,
        bugs={
            (" / lengths", ""): (
                "the vectors are not normalised: that is the order of the dot products. A product is larger for longer "
                "vectors, whatever they point to; divide each by its length."
            ),
            (" / lengths", " / lengths**2"): "the products are divided by the square of the length: a root is missing.",
            (" / lengths", " * lengths"): "the products are multiplied with the lengths; divide by them.",
            (_scores, "vectors / vectors.norm(dim=0) @ query_vector"): (
                "the columns are normalised, each number of a vector over all rows; each row is divided by its own "
                "length, norm(dim=1)."
            ),
            (_scores, f"({_scores}).abs()"): (
                "the sign of the product is lost: what points the opposite way is least similar, and not most."
            ),
            (_scores, "-(vectors - query_vector).norm(dim=1)"): (
                "the distance is taken between vectors of any length. Divide them all by their lengths first, the "
                "query, too; or compare angles: the dot product, divided by the lengths."
            ),
            (_scores, "(vectors - query_vector).norm(dim=1)"): (
                "the farthest come first: a distance is small where a score is large. And the vectors have any length: "
                "compare angles."
            ),
            (_scores, "-(vectors - query_vector / query_vector.norm()).norm(dim=1)"): (
                "only the query is normalised. Divide the vectors by their lengths as well."
            ),
            ("descending=True", ""): (
                "the least similar come first. For similarities descending=True, or topk; only distances are best "
                "where they are smallest."
            ),
            ("descending=True)[:k]", ")[:k].flip(0)"): (
                "these are the k least similar; take the other end of the order."
            ),
            ("[:k]", "[:k].flip(0)"): "these are the right rows, and the best of them is last: turn the order round.",
            ("[:k]", "[:k].sort().values"): (
                "these are the right rows, in the order in which they stand in vectors; the best should be first."
            ),
            ("[:k]", "[1 : k + 1]"): (
                "the best one is left out. Only where the query is itself a row of vectors may the first one be "
                "skipped; here it is none of them."
            ),
            ("[:k]", "[:k] + 1"): "the rows are counted from 1; they are counted from 0.",
            ("(descending=True)", "(descending=True).argsort()"): (
                "that says which place each of the first rows has in the order. Return which rows have the first k "
                "places: one argsort, not two."
            ),
        },
    ),
)

# ---- zero_shot: a class is what its prompts have in common -----------------------------------------------------------


def my_zero_shot(image_vectors, prompt_vectors):
    classes = prompt_vectors.mean(dim=1)  # (K, dim), one vector for the P prompts of a class
    classes = classes / classes.norm(dim=1, keepdim=True)
    return (image_vectors @ classes.T).argmax(dim=1)


def _zero_shot_spelled_out(image_vectors, prompt_vectors):
    classes = prompt_vectors.mean(dim=1)
    classes = classes / classes.norm(dim=1, keepdim=True)
    scores = image_vectors @ classes.T
    return scores.argmax(dim=1)


def _prompt_by_prompt(image_vectors, prompt_vectors):
    return torch.einsum("kpd,bd->bkp", prompt_vectors, image_vectors)


def _best_prompt(image_vectors, prompt_vectors):
    return _prompt_by_prompt(image_vectors, prompt_vectors).amax(dim=2).argmax(dim=1)


def _worst_prompt(image_vectors, prompt_vectors):
    return _prompt_by_prompt(image_vectors, prompt_vectors).amin(dim=2).argmax(dim=1)


def _number_of_prompt(image_vectors, prompt_vectors):
    return _prompt_by_prompt(image_vectors, prompt_vectors).flatten(1).argmax(dim=1)


def _vote(image_vectors, prompt_vectors):
    return _prompt_by_prompt(image_vectors, prompt_vectors).argmax(dim=1).mode(dim=1).values


def _classes_found(output: object, image_vectors: Tensor, prompt_vectors: Tensor) -> Tensor:
    B, K, P = len(image_vectors), *prompt_vectors.shape[:2]
    shape = getattr(output, "shape", None)
    if isinstance(output, Tensor) and output.is_floating_point() and shape == (B, K):
        raise NotYet("that is the table of scores, (B, K). Which class has the largest score? argmax(dim=1).")
    if isinstance(output, Tensor) and output.is_floating_point() and shape == (B,):
        raise NotYet("it returns the largest score of each picture; return the class that has it: argmax.")
    if shape == (K,):
        raise NotYet(
            f"it returns {K} numbers, one for each class: argmax goes over the pictures. Each picture has one class: "
            "argmax(dim=1) of the table (B, K)."
        )
    if shape == (B, P):
        raise NotYet(
            "it returns a class for each picture and prompt, (B, P). First make one vector of a class's P prompts."
        )
    return _whole_numbers(output)


def _zero_shot_case(B: int, K: int, P: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Prompts that agree in some classes and hardly in others; all vectors have length 1."""
    spread = torch.linspace(0.1, 3, K)[:, None, None]
    prompts = noise(K, 1, dim, seed=seed) + spread * noise(K, P, dim, seed=seed + 1)
    pictures = noise(B, dim, seed=seed + 2)
    return tuple(vectors / vectors.norm(dim=-1, keepdim=True) for vectors in (pictures, prompts))


_length = "classes.norm(dim=1, keepdim=True)"

ZERO_SHOT = Exercise(
    answer=my_zero_shot,
    on_shapes=(
        "prompt_vectors (K, P, dim) have one vector for each class after a mean over dim=1, (K, dim); the table of "
        "scores is image_vectors (B, dim) @ classes.T, (B, K)."
    ),
    hint=(
        "The mean over the P prompts of each class; each of the K means divided by its length; a table of products, "
        "pictures by classes; and in each row the place of the largest."
    ),
    sketch=(
        "classes = prompt_vectors.mean(dim=...)\nclasses = classes / ...\nreturn (image_vectors @ ...).argmax(dim=...)"
    ),
    examine=Compare(
        _zero_shot_spelled_out,
        cases=[_zero_shot_case(60, 5, 3, 8, seed=1), _zero_shot_case(70, 7, 4, 6, seed=11)],
        to_tensor=_classes_found,
        bugs={
            (f" / {_length}", ""): (
                "the means of the classes' prompts are not normalised (to divide all by one number, or to average "
                "cosines, comes to the same). A mean of several directions is shorter than 1, and shorter the less the "
                "prompts agree, so that such a class is seldom chosen: divide each by its own length again."
            ),
            (f" / {_length}", f" / {_length.replace('1', '0')}"): (
                "the columns are normalised, each number of a vector over the classes; each class's vector is divided "
                "by its own length: norm(dim=1, keepdim=True)."
            ),
            (f" / {_length}", f" / {_length} ** 2"): "the means are divided by the square of their length.",
            (f" / {_length}", f" * {_length}"): "the means are multiplied with their lengths; divide by them.",
            ("prompt_vectors.mean(dim=1)", "prompt_vectors[:, 0]"): (
                "only the first prompt of each class is used; take the mean of all."
            ),
            ("prompt_vectors.mean(dim=1)", "prompt_vectors[:, -1]"): (
                "only the last prompt of each class is used; take the mean of all."
            ),
            ("prompt_vectors.mean(dim=1)", "prompt_vectors.mean(dim=0)"): (
                "the mean goes over the classes, and what is found is the number of a prompt. In prompt_vectors the "
                "classes are the first axis and the prompts the second: mean(dim=1)."
            ),
            ("prompt_vectors.mean(dim=1)", "prompt_vectors.amax(dim=1)"): (
                "the largest number of each place is taken, and that is no direction: mean, not max."
            ),
            ("prompt_vectors.mean(dim=1)", "prompt_vectors.median(dim=1).values"): (
                "the median of the prompts is taken; a class's vector is their mean."
            ),
            ("argmax", "argmin"): "argmin finds the class that fits least: argmax.",
            (".argmax(dim=1)", ".abs().argmax(dim=1)"): (
                "the sign of the cosine is lost: what points the opposite way fits least, and not best."
            ),
            (".argmax(dim=1)", ".argmax(dim=1) + 1"): "the classes are counted from 1; they are counted from 0.",
            _best_prompt: (
                "the one prompt that fits best decides for its class. A class is one vector, the mean of its prompts."
            ),
            _worst_prompt: (
                "the one prompt that fits worst decides for its class. A class is one vector, the mean of its prompts."
            ),
            _number_of_prompt: (
                "it returns the number of a prompt, from 0 to K * P - 1. Join a class's prompts to one vector, their "
                "mean, and return the number of the class."
            ),
            _vote: (
                "every prompt has a vote, and the majority decides. A class is one vector, the mean of its prompts."
            ),
        },
    ),
)
