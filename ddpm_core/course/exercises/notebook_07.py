"""The exercises of notebook 07: contrastive_loss; the others are in rows_07.py and pairs_07.py."""

import torch
from torch import Tensor

from ddpm_core.course.exercises import pairs_07, rows_07
from ddpm_core.course.exercises.compare import Answer, Compare, Exercise, check_learnable, noise

# ---- contrastive_loss: which caption belongs to which picture --------------------------------------------------------


def my_contrastive_loss(image_vectors, text_vectors, temperature, fits):
    images = image_vectors / image_vectors.norm(dim=1, keepdim=True)
    texts = text_vectors / text_vectors.norm(dim=1, keepdim=True)
    logits = images @ texts.T / temperature  # pictures by captions
    of_pictures = fits / fits.sum(dim=1, keepdim=True)  # the targets: those that fit, with equal shares
    of_captions = fits / fits.sum(dim=0, keepdim=True)
    pictures = -(of_pictures * logits.log_softmax(dim=1)).sum(dim=1).mean()
    captions = -(of_captions * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return (pictures + captions) / 2


def _fits(B: int, *more: tuple[int, int]) -> Tensor:
    """Every caption fits its own picture, and (picture, caption) of more: not always the other way round, too."""
    fits = torch.eye(B, dtype=torch.bool)
    for picture, caption in more:
        fits[picture, caption] = True
    return fits


def _left_out(image_vectors, text_vectors, temperature, fits):
    cosines = torch.cosine_similarity(image_vectors[:, None], text_vectors, dim=2)
    own = torch.eye(len(fits), dtype=torch.bool)
    logits = (cosines / temperature).masked_fill(fits & ~own, -torch.inf)
    return -(logits.log_softmax(dim=1).diagonal() + logits.log_softmax(dim=0).diagonal()).mean() / 2


def _any_will_do(image_vectors, text_vectors, temperature, fits):
    logits = torch.cosine_similarity(image_vectors[:, None], text_vectors, dim=2) / temperature
    both = logits.softmax(dim=1), logits.softmax(dim=0)
    return -sum((table * fits).sum(dim=i).log().mean() for i, table in zip((1, 0), both, strict=True)) / 2


def _pair_by_pair(image_vectors, text_vectors, temperature, fits):
    logits = torch.cosine_similarity(image_vectors[:, None], text_vectors, dim=2) / temperature
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, fits.float())


def _check_gradient(answer: Answer) -> None:
    image_vectors, text_vectors, *others = _cases[0]
    loss = answer(image_vectors.clone().requires_grad_(), text_vectors.clone().requires_grad_(), *others)
    check_learnable(loss, "the vectors")


_cases = [
    (noise(6, 8, seed=1), 3 * noise(6, 8, seed=2), 0.5, _fits(6, (0, 3), (3, 0), (1, 4))),
    (2 * noise(5, 7, seed=3), noise(5, 7, seed=4), 0.2, _fits(5, (0, 1), (1, 0), (0, 4), (2, 0))),
    (noise(4, 3, seed=5), noise(4, 3, seed=6), torch.tensor(0.1), _fits(4, (3, 1))),
]
_images, _texts = (f"{name}_vectors / {name}_vectors.norm(dim=1, keepdim=True)" for name in ("image", "text"))
_targets, _targets_of_captions = (f"fits / fits.sum(dim={i}, keepdim=True)" for i in (1, 0))
_first = "torch.eye(len(fits))[fits.float().argmax(dim={})]"
_both = "(pictures + captions) / 2"
_for_pictures = "-(of_pictures * logits.log_softmax(dim=1)).sum(dim=1).mean()"
_for_captions = "-(of_captions * logits.log_softmax(dim=0)).sum(dim=0).mean()"
_pictures_wrong = _for_pictures.replace("max(dim=1)", "max(dim=0)")
_captions_wrong = _for_captions.replace("max(dim=0)", "max(dim=1)")
_twice = "logits.softmax(dim={0}).log_softmax(dim={0})"
_LONGER = "Only a cosine compares directions; otherwise the networks could lower the loss by longer vectors alone."
_EACH_ROW = "Each vector is divided by its own length: norm(dim=1, keepdim=True)."
_AS_COLUMN = "the sums of its rows, (B,), must be a column to divide the rows, keepdim=True."
_SHARES = "every picture's targets must add up to 1, and every caption's: divide fits by its sums."

CONTRASTIVE_LOSS = Exercise(
    answer=my_contrastive_loss,
    general="contrastive_loss",
    general_is="wants vectors of length 1, and offers a second choice for captions that fit other pictures",
    on_shapes=(
        "image_vectors @ text_vectors.T is the table (B, B), pictures by captions. Whatever should divide its rows, or "
        "those of the vectors, is a column (B, 1): keepdim=True."
    ),
    hint=(
        "Divide each vector by its length, norm(dim=1, keepdim=True), and make the table of cosines, pictures by "
        "captions, divided by temperature. Then cross-entropy, twice: along the rows for the pictures, along the "
        "columns for the captions. The targets are fits, divided by its sums; torch's cross_entropy takes such shares "
        "as targets."
    ),
    sketch=(
        "images, texts = ..., ...  # of length 1\n"
        "logits = images @ ... / ...  # pictures by captions\n"
        "of_pictures, of_captions = fits / fits.sum(dim=1, keepdim=True), ...\n"
        "pictures = -(of_pictures * logits.log_softmax(dim=1)).sum(dim=1).mean()\n"
        "captions = ...\n"
        "return (...) / 2"
    ),
    examine=Compare(
        my_contrastive_loss,
        cases=_cases,
        first=_check_gradient,
        on_nan=(
            "0 times infinity is NaN, and so is the logarithm of a negative number. Cosines may be negative; take "
            "log_softmax of the table, which never meets log(0)."
        ),
        bugs={
            (_images, "image_vectors", _texts, "text_vectors"): (
                f"the vectors are not normalised: divide each by its length first. {_LONGER}"
            ),
            (_images, "image_vectors"): f"image_vectors are not normalised, text_vectors are. {_LONGER}",
            (_texts, "text_vectors"): f"text_vectors are not normalised, image_vectors are. {_LONGER}",
            ("norm(dim=1, keepdim=True)", "norm(dim=0, keepdim=True)"): (
                f"the columns are normalised, each number of a vector over the batch. {_EACH_ROW}"
            ),
            ("norm(dim=1, keepdim=True)", "norm()"): (
                f"all vectors are divided by one number, the length of the whole table. {_EACH_ROW}"
            ),
            ("norm(dim=1, keepdim=True)", "square().sum(dim=1, keepdim=True)"): (
                "the vectors are divided by the squares of their lengths: a root is missing."
            ),
            ("norm(dim=1, keepdim=True)", "abs().sum(dim=1, keepdim=True)"): (
                "the vectors are divided by the sum of their absolute values; a length is the root of a sum of squares."
            ),
            (_images, "image_vectors.softmax(dim=1)", _texts, "text_vectors.softmax(dim=1)"): (
                "softmax makes the numbers of a vector add up to 1; to normalise is to divide by the length."
            ),
            (" / temperature", " * temperature"): (
                "the cosines are multiplied with temperature; they are divided by it. A small temperature makes the "
                "softmax sharp."
            ),
            (" / temperature", ""): "temperature is left out: the cosines are divided by it.",
            (" / temperature", " / temperature / temperature"): "the cosines are divided by temperature twice.",
            (" / temperature", " / temperature**0.5"): (
                "the cosines are divided by the root of temperature; they are divided by temperature itself."
            ),
            (" / temperature", " * torch.as_tensor(temperature).exp()"): (
                "the cosines are multiplied with exp(temperature). That is how the paper writes it, whose t is the "
                "logarithm of 1 / temperature; here temperature itself is given: divide by it."
            ),
            (" / temperature", " / torch.as_tensor(temperature).exp()"): (
                "the cosines are divided by exp(temperature); temperature itself is given, and not its logarithm."
            ),
            ("images @ texts.T", "images @ images.T"): (
                "the table compares pictures with pictures. Its diagonal is 1 whatever the captions say: images @ "
                "texts.T."
            ),
            ("images @ texts.T", "texts @ texts.T"): (
                "the table compares captions with captions. Its diagonal is 1 whatever the pictures show: images @ "
                "texts.T."
            ),
            ("images @ texts.T", "texts @ images.T"): (
                "the table is captions by pictures, and fits is pictures by captions: turn one of them over, .T."
            ),
            (_both, "pictures"): (
                "only the pictures are asked, or they are asked twice: which caption is mine? Captions must be asked, "
                "too: logits.T with the targets of fits.T, or sums along dim=0, and then the mean of the two."
            ),
            (_both, "captions"): (
                "only the captions are asked, or they are asked twice: which picture is mine? Ask the pictures, too, "
                "and take the mean of the two."
            ),
            (_both, "pictures / 2"): (
                "half of the pictures' loss is returned, and the captions are not asked: also ask it the other way "
                "round, and take the mean of the two."
            ),
            (_both, "(pictures + captions)"): "the two losses are added; the loss is their mean: / 2.",
            (_for_captions, _captions_wrong): (
                "for the captions the softmax still goes along the captions. A caption chooses among the pictures: "
                "logits.T, or log_softmax(dim=0)."
            ),
            (_for_pictures, _pictures_wrong, _for_captions, _captions_wrong): (
                "both softmaxes go along the wrong axis: a picture chooses among the captions of its row, dim=1, and a "
                "caption among the pictures of its column, dim=0."
            ),
            (_for_pictures, _pictures_wrong): (
                "for the pictures the softmax goes along the pictures. A picture chooses among the captions of its "
                "row: dim=1."
            ),
            (_for_captions, _for_captions.replace("of_captions", "of_captions.T").replace("dim=0", "dim=1")): (
                "in the captions' half fits is turned over and logits is not: logits.T."
            ),
            (_targets_of_captions, "of_pictures.T"): (
                "in the captions' half logits is turned over and fits is not. fits has pictures in its rows: a caption "
                "finds its pictures in a column."
            ),
            (_targets_of_captions, "of_pictures"): (
                "the captions take the pictures' targets, turned over, and those of a caption need not add up to 1: "
                "divide fits.T by its own sums."
            ),
            (_targets, "torch.eye(len(fits))", _targets_of_captions, "torch.eye(len(fits))"): (
                "fits makes no difference: only the diagonal counts as right. Two pictures may have the same caption, "
                "and then it is right for both; calling it wrong teaches something false (a false negative)."
            ),
            (_targets, "fits", _targets_of_captions, "fits"): (f"fits itself is the target; {_SHARES}"),
            (_targets, "fits / fits.sum(dim=1)"): f"fits of the pictures is divided along the wrong axis: {_AS_COLUMN}",
            (_targets, "fits / fits.sum(dim=1)", _targets_of_captions, "(fits.T / fits.T.sum(dim=1)).T"): (
                f"fits is divided along the wrong axis, for pictures and captions: {_AS_COLUMN}"
            ),
            (_targets, "fits / fits.sum()", _targets_of_captions, "fits / fits.sum()"): (
                f"fits is divided by the sum over all of it; {_SHARES}"
            ),
            (_targets, _first.format(1), _targets_of_captions, f"{_first.format(0)}.T"): (
                "argmax finds the first that fits, and makes all the others wrong. All that fit share the target."
            ),
            _left_out: (
                "captions that fit beside the own one are left out of the softmax. That is a sound choice, and "
                "contrastive_loss offers it as well. In this exercise all that fit share the target equally."
            ),
            _any_will_do: (
                "the probabilities of all that fit are added before the logarithm, so that one of them may take all. "
                "They should get equal shares: the mean of their logarithms."
            ),
            _pair_by_pair: (
                "every cell of the table is a question by itself, yes or no (as in SigLIP, Zhai et al. 2023). Here "
                "each row and each column is one choice: softmax."
            ),
            ("logits.log_softmax(dim=1)", _twice.format(1), "logits.log_softmax(dim=0)", _twice.format(0)): (
                "softmax is taken twice: cross_entropy and log_softmax do it themselves, and want the logits."
            ),
            ("log_softmax", "softmax"): "the logarithm is missing: cross-entropy is -log of the probability.",
            ("-(of", "(of"): "the sign is missing: cross-entropy is -log of the probability.",
            (".mean()", ".sum()"): "the losses are summed over the batch; take the mean, or the loss grows with B.",
            (".sum(dim=1).mean()", ".mean()", ".sum(dim=0).mean()", ".mean()"): (
                "the mean goes over all B * B cells of the table, so that the loss is B times too small: sum along "
                "each row first, then take the mean of the B sums."
            ),
        },
    ),
)

EXERCISES = CONTRASTIVE_LOSS, rows_07.SEARCH, rows_07.ZERO_SHOT, pairs_07.KEEP_PAIRS
