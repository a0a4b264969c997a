"""The exercise of notebook 09 that moves vectors by what distinguishes two texts: text_difference."""

from torch import Tensor

from ddpm_core.course.exercises.compare import Compare, Exercise, NotYet, noise
from ddpm_core.course.exercises.prior_09 import of_length_1
from ddpm_core.systems.dalle2 import slerp

# ---- text_difference: what turns one text into the other, done to a picture ------------------------------------------


def my_text_difference(vectors, before, after, share):
    difference = after - before
    difference = difference / difference.norm(dim=1, keepdim=True)
    return slerp(vectors, difference, share)


def _difference_spelled_out(vectors, before, after, share):
    difference = after - before
    towards = difference / difference.norm(dim=1, keepdim=True)
    angle = (vectors * towards).sum(dim=1, keepdim=True).clamp(-1, 1).acos()
    of_vectors, of_towards = ((1 - share) * angle).sin(), (share * angle).sin()
    moved = (of_vectors * vectors + of_towards * towards) / angle.sin()
    return moved / moved.norm(dim=1, keepdim=True)


def _difference_cases() -> list[tuple[Tensor, Tensor, Tensor, float]]:
    """In the second all the pictures share the two texts. A batch's cosines differ, and their sum is one, too."""
    shapes = (2, (4, 8), (4, 8), 0.3), (2, (5, 6), (1, 6), 0.45), (1, (3, 9), (3, 9), 0.2)
    cases = []
    for seed, shape, of_texts, share in shapes:
        vectors = of_length_1(noise(*shape, seed=seed) + 0.6)
        before, after = (of_length_1(noise(*of_texts, seed=seed + 100 * i) + 0.6) for i in (1, 2))
        cases.append((vectors, before, after, share))
    return cases


def _moved(output: object, vectors: Tensor, *others: object) -> object:
    if isinstance(output, Tensor) and output.ndim > 2:
        raise NotYet(
            f"it returns the shape {tuple(output.shape)}; vectors are {tuple(vectors.shape)}. my_slerp of notebook 06 "
            "is for pictures (B, C, H, W); slerp from ddpm_core is for vectors."
        )
    if isinstance(output, Tensor) and output.shape[1:] == vectors.shape[1:] and len(output) < len(vectors):
        raise NotYet(
            f"for {len(vectors)} pictures it returns {len(output)}: before and after may have a single row, for all "
            "pictures together; vectors decide how many are returned."
        )
    return output


_towards = "difference / difference.norm(dim=1, keepdim=True)"
_moved_on = "moved = (of_vectors * vectors + of_towards * towards) / angle.sin()"
_of_length = "moved / moved.norm(dim=1, keepdim=True)"
_turned = "slerp(vectors, towards, share)"
_line = "moved = (1 - share) * vectors + share * towards"
_ANGLE = "(vectors * towards).sum(dim=1, keepdim=True).clamp(-1, 1).acos()"
_DEGREES = "the angle is in degrees; sin takes it as acos gives it, in radians."
_NO_ACOS = "acos is missing: that is the angle's cosine, not the angle."
_TO_AFTER = (
    "which leads to a picture of the text, and away from this one: its style, its colours. What is added is the way "
    "from before to after"
)

TEXT_DIFFERENCE = Exercise(
    answer=my_text_difference,
    general="text_difference",
    general_is="has a share for those who give none",
    on_shapes=(
        "before and after have as many rows as vectors, or a single one, which fits as it is. A length per row is a "
        "column, keepdim=True."
    ),
    hint=(
        "What leads from one text to the other is a difference of their vectors. Make it a vector of length 1, as "
        "slerp wants, and let slerp turn the pictures' vectors towards it."
    ),
    sketch=("difference = ... - ...\ndifference = difference / ...  # of length 1\nreturn slerp(vectors, ..., ...)"),
    examine=Compare(
        _difference_spelled_out,
        cases=_difference_cases(),
        to_tensor=_moved,
        on_nan="acos of a number beyond 1 is NaN, and so is 0 / 0: the difference must have length 1 before slerp.",
        bugs={
            ("after - before", "before - after"): (
                "before and after have changed places: it leads from what is wanted to what is there. after - before."
            ),
            ("after - before", "after + before"): (
                "the texts are added; what leads from before to after is their difference."
            ),
            ("= after - before", "= after"): (
                f"it turns towards after itself, {_TO_AFTER}: after - before, of length 1."
            ),
            ("= after - before", "= before"): "it turns towards before, what is to go: after - before.",
            ("= after - before", "= -before"): "it turns away from before, and after plays no part: after - before.",
            ("= after - before", "= after - vectors"): (
                "the picture's own vector stands where before belongs. Between a picture's and a text's vector lies "
                "more than what is to change; the difference is one of two texts."
            ),
            ("= after - before", "= vectors + after - before"): (
                "it turns towards vectors + after - before, where the sum would end; turn towards the difference alone."
            ),
            (_towards, "difference", _of_length, _turned): (
                "the difference is not normalised: slerp takes the sum of products for the cosine of an angle, which "
                "it is only where both vectors have length 1. Two texts that are alike have a short difference."
            ),
            (_towards, "difference / difference.norm()", _of_length, _turned): (
                "the difference is divided by the length of the whole table; each row has a length of its own: "
                "norm(dim=1, keepdim=True)."
            ),
            (_towards, "difference / difference.norm(dim=0, keepdim=True)", _of_length, _turned): (
                "the columns are normalised, each number over the batch; each row has a length of its own: norm(dim=1, "
                "keepdim=True)."
            ),
            (_towards, f"{_towards}**2", _of_length, _turned): "the difference is divided by the square of its length.",
            ("    moved =", "    of_vectors, of_towards = of_towards, of_vectors\n    moved ="): (
                "share is counted from the wrong end, as in slerp(difference, vectors, share): with share = 0 the "
                "picture should stay as it is."
            ),
            (_moved_on, _line, _of_length, "moved"): (
                "that is the straight line, lerp, and what it returns is shorter than 1. On the sphere it is slerp."
            ),
            (_moved_on, _line): (
                "that is the straight line, stretched to length 1 again. It meets the same great circle, but not at "
                "this share of the angle: slerp."
            ),
            (_moved_on, "moved = vectors + share * towards", _of_length, "moved"): (
                "the difference is added, and the result is longer or shorter than 1; slerp turns the vector, and "
                "keeps its length."
            ),
            (_moved_on, "moved = vectors + share * towards"): (
                "the difference is added, and the sum brought to length 1 again: it turns less than share of the "
                "angle. slerp turns by just this share."
            ),
            (_moved_on, "moved = vectors + share * difference", _of_length, "moved"): (
                "share of the difference is added, as it is, and the result is longer or shorter than 1. Give slerp "
                "the difference, of length 1."
            ),
            (_moved_on, "moved = vectors + share * difference"): (
                "share of the difference is added, as it is, and the sum brought to length 1 again. Give slerp the "
                "difference, of length 1: how far it turns should not depend on how alike the two texts are."
            ),
            (_moved_on, "moved = vectors + difference"): (
                "the whole difference is added, whatever share is, as in king - man + woman; slerp with share turns as "
                "far as it is told."
            ),
            (_moved_on, "moved = vectors + difference", _of_length, "moved"): (
                "the whole difference is added, whatever share is, and the result is longer or shorter than 1: slerp."
            ),
            (_of_length, "vectors"): "the pictures' vectors come back as they are.",
            (_of_length, "towards.expand_as(vectors)"): (
                "it returns the difference alone; the picture is gone. slerp goes share of the way from the picture to "
                "it."
            ),
            (_of_length, "moved", " / angle.sin()", ""): (
                "what it returns is not of length 1: in slerp the division by the sine of the angle is missing."
            ),
            (
                "((1 - share) * angle).sin(), (share * angle).sin()",
                "(1 - share + 0 * angle).sin() * angle, (share + 0 * angle).sin() * angle",
            ): "the sine is taken of share alone; it is sin(share * angle).",
            (_ANGLE, f"{_ANGLE}.rad2deg()"): _DEGREES,
            (_ANGLE, f"{_ANGLE}.rad2deg()", " / angle.sin()", ""): _DEGREES,
            (".acos()", ""): _NO_ACOS,
            (".acos()", "", " / angle.sin()", ""): _NO_ACOS,
            (_ANGLE, "(vectors * towards).sum().clamp(-1, 1).acos()"): (
                "one angle is taken for the whole batch; each vector has its own: sum(dim=1, keepdim=True)."
            ),
            (
                "(vectors * towards)",
                "(before.expand_as(vectors) * towards)",
                "of_vectors * vectors",
                "of_vectors * before",
            ): "it begins at the text before, and not at the pictures: slerp(vectors, ...).",
            (
                "after - before",
                "after",
                "(vectors * towards)",
                "(before.expand_as(vectors) * towards)",
                "of_vectors * vectors",
                "of_vectors * before",
            ): (
                "it goes from before to after, and the pictures play no part: slerp(vectors, ...), towards the "
                "difference."
            ),
        },
    ),
)
