"""The exercise of notebook 09 on what the prior has drawn: best_candidate."""

import torch
from torch import Tensor

from ddpm_core.course.exercises.compare import Compare, Exercise, NotYet, noise


def of_length_1(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


# ---- best_candidate: of what the prior drew, that which fits the text best -------------------------------------------


def my_best_candidate(candidates, text_vectors):
    candidates = candidates / candidates.norm(dim=2, keepdim=True)
    cosines = (candidates * text_vectors).sum(dim=2)
    best = cosines.argmax(dim=0)  # one number per text
    return candidates[best, torch.arange(len(best), device=best.device)]


def _best_spelled_out(candidates, text_vectors):
    lengths = candidates.norm(dim=2, keepdim=True)
    drawn = candidates / lengths
    cosines = (drawn * text_vectors).sum(dim=2)
    best = cosines.argmax(dim=0)
    return drawn[best, torch.arange(len(best))]


def _of_all_texts(candidates, text_vectors):
    drawn = of_length_1(candidates).flatten(0, 1)
    return drawn[(text_vectors @ drawn.T).argmax(dim=1)]


def _by_distance(candidates, text_vectors):
    best = (candidates - text_vectors).norm(dim=2).argmin(dim=0)
    return of_length_1(candidates)[best, torch.arange(len(best))]


def _misread(candidates, text_vectors):
    K, B, D = candidates.shape
    drawn = of_length_1(candidates).reshape(B, K, D)
    best = (drawn * text_vectors[:, None]).sum(dim=2).argmax(dim=1)
    return drawn[torch.arange(B), best]


def _candidates_case(K: int, B: int, D: int, seed: int) -> tuple[Tensor, Tensor]:
    """Candidates of all lengths; the longest are seldom those that fit."""
    lengths = torch.linspace(0.3, 4, K * B)[torch.randperm(K * B, generator=torch.Generator().manual_seed(seed))]
    candidates = of_length_1(noise(K, B, D, seed=seed + 1)) * lengths.reshape(K, B, 1)
    return candidates, of_length_1(noise(B, D, seed=seed + 2))


def _vectors_kept(output: object, candidates: Tensor, text_vectors: Tensor) -> object:
    K, B, D = candidates.shape
    if not isinstance(output, Tensor):
        return output
    shape = tuple(output.shape)
    if shape == (B,) and not output.is_floating_point():
        raise NotYet("it returns the numbers of the candidates; return their vectors, (B, D).")
    if shape == (B,):
        raise NotYet("it returns one number per text, a cosine; return the vectors of the best candidates, (B, D).")
    if shape == (K, B):
        raise NotYet("it returns the cosines of all candidates; return the vectors of the best, (B, D).")
    if shape == (D,):
        raise NotYet("it returns a single vector; return one for each text, (B, D).")
    if shape == (B, B, D):
        raise NotYet(
            "it returns the shape (B, B, D): candidates[best] picks a candidate's vectors for all the texts. Give the "
            "number of the text as well: candidates[best, torch.arange(B)]."
        )
    if shape == (K, B, D):
        raise NotYet("it returns all the candidates; return one vector for each text, (B, D).")
    return output


_drawn, _cosines, _best = "candidates / lengths", "(drawn * text_vectors).sum(dim=2)", "cosines.argmax(dim=0)"
_picked = "drawn[best, torch.arange(len(best))]"
_LONG = (
    "a long vector would win by its length alone, and CLIP's vectors have length 1: only the direction says something."
)

BEST_CANDIDATE = Exercise(
    answer=my_best_candidate,
    general="draw_vectors",
    general_is="draws the candidates as well, and keeps the best so far",
    on_shapes=(
        "candidates (K, B, D) times text_vectors (B, D) is (K, B, D), each candidate with its own text: shapes are "
        "lined up from the right. What divides the vectors is (K, B, 1), keepdim=True; and the cosines are (K, B)."
    ),
    hint=(
        "Divide each candidate by its length, norm(dim=2, keepdim=True). The cosine with a vector of length 1 is then "
        "a sum of products, over dim=2: (K, B). argmax(dim=0) finds for each text the number of its best candidate, "
        "and candidates[best, torch.arange(B)] picks it."
    ),
    sketch=(
        "candidates = candidates / candidates.norm(dim=..., keepdim=True)\n"
        "cosines = (... * ...).sum(dim=...)\n"
        "best = cosines.argmax(dim=...)\n"
        "return candidates[..., torch.arange(...)]"
    ),
    examine=Compare(
        _best_spelled_out,
        cases=[
            _candidates_case(4, 9, 5, seed=1),
            _candidates_case(2, 7, 6, seed=14),
            _candidates_case(6, 8, 3, seed=17),
        ],
        to_tensor=_vectors_kept,
        on_nan="is there a division by 0? No candidate is of length 0.",
        bugs={
            (_drawn, "candidates"): (
                f"the candidates are not normalised, neither to choose nor in the end: {_LONG} Divide each by its "
                "length first."
            ),
            (_cosines, "(candidates * text_vectors).sum(dim=2)"): (
                f"the choice is made before the candidates are normalised: {_LONG}"
            ),
            (_picked, _picked.replace("drawn", "candidates")): (
                "the right ones are chosen, but returned as they were drawn: the decoder knows vectors of length 1."
            ),
            (_cosines, "lengths[..., 0]"): "the longest candidate is chosen; the cosine with the text decides.",
            ("dim=2, keepdim=True", "dim=0, keepdim=True"): (
                "the lengths go over the candidates of a text, number by number; each vector has a length of its own: "
                "norm(dim=2, keepdim=True)."
            ),
            ("dim=2, keepdim=True", "dim=1, keepdim=True"): (
                "the lengths go over the texts, number by number; each vector has a length of its own: norm(dim=2, "
                "keepdim=True)."
            ),
            ("dim=2, keepdim=True", ""): (
                "all candidates are divided by one number, the length of the whole tensor; each vector has a length of "
                "its own: norm(dim=2, keepdim=True)."
            ),
            (_drawn, "candidates / lengths**2"): "the candidates are divided by the squares of their lengths.",
            (_drawn, "candidates * lengths"): "the candidates are multiplied with their lengths; divide by them.",
            ("argmax", "argmin"): (
                "argmin finds the candidate that fits least. (With distances it would be argmin, with cosines argmax.)"
            ),
            (_cosines, f"{_cosines}.abs()"): (
                "the sign of the cosine is lost: what points the opposite way fits least, and not best."
            ),
            (_best, "cosines.mean(dim=1).argmax().expand(len(text_vectors))"): (
                "one candidate's number is chosen for the whole batch; each text has a best one of its own: "
                "argmax(dim=0)."
            ),
            (_best, "(cosines.argmax() // len(text_vectors)).expand(len(text_vectors))"): (
                "one candidate's number is chosen for the whole batch, that of the largest cosine of all; each text "
                "has a best one of its own: argmax(dim=0)."
            ),
            (_picked, "drawn[0]"): "the first candidate is taken, whatever its cosine.",
            (_picked, "drawn[-1]"): "the last candidate is taken, whatever its cosine.",
            (_picked, "drawn.mean(dim=0)"): (
                "the mean of the candidates is taken. Between two pictures that fit there need not be one that fits; "
                "and it is shorter than 1."
            ),
            (_picked, "drawn.mean(dim=0) / drawn.mean(dim=0).norm(dim=1, keepdim=True)"): (
                "the mean of the candidates is taken. Between two pictures that fit there need not be one that fits: "
                "keep the best one."
            ),
            (_picked, "(cosines.softmax(dim=0)[..., None] * drawn).sum(dim=0)"): (
                "the candidates are mixed, with weights of softmax; keep the best one."
            ),
            (_picked, "drawn.amax(dim=0)"): (
                "the largest number of each place is taken, from any candidate: that is no direction. Find the best "
                "candidate, and take all its numbers."
            ),
            (_picked, "text_vectors"): "it returns the texts' vectors; candidates are wanted, vectors of pictures.",
            _of_all_texts: (
                "each text chooses among the candidates of all texts; it chooses among its own K, candidates[:, i]."
            ),
            _by_distance: (
                f"the distance is taken from vectors of any length, in which length counts: {_LONG} Normalise first."
            ),
            _misread: (
                "candidates is read as (B, K, D), which mixes up the texts. It is (K, B, D): candidates[k, i] is the "
                "k-th one of text i. reshape does not swap axes; transpose(0, 1) does."
            ),
            (_cosines, "(drawn * text_vectors.roll(1, dims=0)).sum(dim=2)"): (
                "each candidate is compared with the vector of its neighbour's text."
            ),
        },
    ),
)
