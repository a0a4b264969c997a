"""The exercises of notebook 08: autoencoder_loss; the others are in posterior_08.py and drawing_08.py."""

import torch
from torch import Tensor

from ddpm_core.course.exercises import drawing_08, posterior_08
from ddpm_core.course.exercises.compare import Answer, Compare, Exercise, NotYet, check_learnable, noise

# ---- autoencoder_loss: what should be the same in the picture that comes back ----------------------------------------


def my_autoencoder_loss(pictures, decoded, nats, edge_weight, kl_weight):
    wrong = decoded - pictures
    edges = wrong.diff(dim=2).abs().mean() + wrong.diff(dim=3).abs().mean()  # the edge of a difference
    return wrong.abs().mean() + edge_weight * edges + kl_weight * nats.mean()


def _loss_spelled_out(pictures, decoded, nats, edge_weight, kl_weight):
    pixels = (decoded - pictures).abs().mean()
    down = (decoded.diff(dim=2) - pictures.diff(dim=2)).abs().mean()
    across = (decoded.diff(dim=3) - pictures.diff(dim=3)).abs().mean()
    return pixels + edge_weight * (down + across) + kl_weight * nats.mean()


def _rolled_round(pictures, decoded, nats, edge_weight, kl_weight):
    wrong = decoded - pictures
    edges = sum((wrong.roll(-1, dims=dim) - wrong).abs().mean() for dim in (2, 3))
    return wrong.abs().mean() + edge_weight * edges + kl_weight * nats.mean()


def _over_two_pixels(pictures, decoded, nats, edge_weight, kl_weight):
    wrong = decoded - pictures
    edges = sum(part.abs().mean() for part in torch.gradient(wrong, dim=(2, 3)))
    return wrong.abs().mean() + edge_weight * edges + kl_weight * nats.mean()


def _check_gradients(answer: Answer) -> None:
    pictures, decoded, nats, *weights = _loss_cases[0]
    decoded, nats = decoded.clone().requires_grad_(), nats.clone().requires_grad_()
    loss = answer(pictures, decoded, nats, *weights)
    check_learnable(loss, "decoded and nats")
    if not isinstance(loss, Tensor) or loss.ndim:
        return  # what is compared says so
    slopes = torch.autograd.grad(loss, (decoded, nats), allow_unused=True)
    changed = answer(pictures, decoded + 1, nats, *weights), answer(pictures, decoded, nats + 1, *weights)
    for name, slope, other in zip(("decoded", "nats"), slopes, changed, strict=True):
        if slope is None and not torch.equal(loss, other):
            raise NotYet(f"no gradient flows from the loss to {name}: is there a .detach() or no_grad() too many?")


def _uneven(B: int, C: int, H: int, W: int, seed: int) -> Tensor:
    """Pictures whose differences are of another size along each axis, or it would not show which ones are taken."""
    shapes = (B, C, H, W), (B, 1, 1, 1), (1, C, 1, 1), (1, 1, H, 1)
    return sum(size * noise(*shape, seed=seed) for size, shape in zip((0.4, 0.2, 0.9, 0.5), shapes, strict=True)).tanh()


_loss_cases = [
    (_uneven(*shape, seed=1), _uneven(*shape, seed=2) + shift, 2 * noise(shape[0], seed=3).exp(), *weights)
    for shape, shift, weights in (
        ((4, 3, 6, 5), 0.1, (0.7, 0.3)),
        ((2, 3, 4, 8), -0.2, (1.6, 0.05)),
        ((5, 4, 5, 5), 0.0, (0.4, 1.2)),
    )
]
_pixels = "(decoded - pictures).abs().mean()"
_edge = "(decoded.diff(dim={0}) - pictures.diff(dim={0})).abs().mean()"
_down, _across = _edge.format(2), _edge.format(3)
_of_both = "edge_weight * (down + across)"


def _edges(form: str) -> tuple[str, ...]:
    """Edits that put another form in the place of both terms on edges. form: with {0} for the axis."""
    return _down, form.format(2), _across, form.format(3)


_TOTAL_VARIATION = (
    "the least edges has a picture of one colour. Compare the differences in decoded with those in pictures."
)
_AXES = "Pictures are (B, C, H, W): the neighbours below and beside are along dim=2 and dim=3."

AUTOENCODER_LOSS = Exercise(
    answer=my_autoencoder_loss,
    general="autoencoder_loss",
    general_is="takes the posterior in place of nats",
    on_shapes=(
        "diff makes an axis shorter by one, so that differences along dim=2 and dim=3 have different shapes: take the "
        "mean of each, then add the two."
    ),
    hint=(
        "Three terms, each a mean. (decoded - pictures).abs() for the pixels. For the edges, diff(dim=2) and "
        "diff(dim=3) of both pictures, compared in the same way; the two means are added. And nats.mean()."
    ),
    sketch=(
        "pixels = (...).abs().mean()\n"
        "down = (decoded.diff(dim=2) - ...).abs().mean()\n"
        "across = ...\n"
        "return pixels + ... * (down + across) + ... * nats.mean()"
    ),
    examine=Compare(
        _loss_spelled_out,
        cases=_loss_cases,
        first=_check_gradients,
        rtol=1e-4,
        atol=1e-5,
        bugs={
            (_pixels, _pixels.replace("abs", "square"), *_edges(_edge.replace("abs", "square"))): (
                "all differences are squared. A square forgives many small errors, and gives blurred pictures; take "
                "absolute values."
            ),
            (_pixels, _pixels.replace("abs", "square")): (
                "the pixels' differences are squared; take their absolute values, as for the edges."
            ),
            _edges(_edge.replace("abs", "square")): (
                "the edges' differences are squared; take their absolute values. A square forgives many small errors, "
                "which is what a blurred edge is made of."
            ),
            (_pixels, "(decoded - pictures).mean()"): (
                "the pixels' differences are averaged with their signs, so that too bright and too dark cancel: abs()."
            ),
            (_pixels, "(decoded - pictures).mean().abs()"): (
                "the pixels' differences are averaged with their signs before abs, so that too bright and too dark "
                "cancel: first abs, then mean."
            ),
            _edges("(decoded.diff(dim={0}) - pictures.diff(dim={0})).mean()"): (
                "the edges' differences are averaged with their signs, so that they cancel: abs()."
            ),
            _edges("(decoded.diff(dim={0}) - pictures.diff(dim={0})).mean().abs()"): (
                "the edges' differences are averaged with their signs before abs, so that they cancel: first abs, then "
                "mean."
            ),
            _edges("decoded.diff(dim={0}).abs().mean()"): (
                f"only the edges of decoded count, and they count as bad: {_TOTAL_VARIATION}"
            ),
            _edges("pictures.diff(dim={0}).abs().mean()"): (
                "only the edges of pictures count, which no learning can change. Compare the differences in decoded "
                "with those in pictures."
            ),
            _edges("(decoded.diff(dim={0}).abs() - pictures.diff(dim={0}).abs()).abs().mean()"): (
                "the edges are compared without their signs: one from dark to light would be as good as one from light "
                "to dark. Subtract the differences, then take abs, once."
            ),
            _edges("(decoded.diff(dim={0}).abs().mean() - pictures.diff(dim={0}).abs().mean())"): (
                "only how much edge there is is compared, not where it is: subtract the differences place by place, "
                "then take abs and mean."
            ),
            _edges("(decoded.diff(dim={0}).abs().mean() - pictures.diff(dim={0}).abs().mean()).abs()"): (
                "only how much edge there is is compared, not where it is: subtract the differences place by place, "
                "then take abs and mean."
            ),
            _edges("(decoded.diff(dim={0}, n=2) - pictures.diff(dim={0}, n=2)).abs().mean()"): (
                "diff is taken twice, of neighbouring pixels and again of their differences; once is enough."
            ),
            ("dim=2", "2", "dim=3", "3"): (
                "diff(2) takes differences of differences, n=2 times, along the last axis; the axis is dim=2."
            ),
            ("dim=2", "dim=1", "dim=3", "dim=2"): f"the differences go along channels and rows. {_AXES}",
            ("dim=2", "dim=1"): f"one of the differences goes along the channels. {_AXES}",
            ("dim=2", "dim=0", "dim=3", "dim=1"): (f"the differences go along pictures and channels. {_AXES}"),
            (_down, "0", _across, "0"): (
                "the edges are left out: differences between neighbouring pixels. Without them edges come back blurred."
            ),
            (_down, "0"): "the differences along dim=2 are missing: neighbours below, as well as beside.",
            (_across, "0"): "the differences along dim=3 are missing: neighbours beside, as well as below.",
            (_down, _across): "the differences along dim=3 count twice, and those along dim=2 are missing.",
            (_across, _down): "the differences along dim=2 count twice, and those along dim=3 are missing.",
            (_of_both, "edge_weight * (down + across) / 2"): (
                "the mean of the two directions is taken; add the two means."
            ),
            (_of_both, "edge_weight * down + across"): (
                "edge_weight multiplies only one of the two directions: put both in brackets."
            ),
            (_of_both, "down + edge_weight * across"): (
                "edge_weight multiplies only one of the two directions: put both in brackets."
            ),
            (_of_both, "(down + across)"): "edge_weight is left out: it multiplies the edges.",
            (_of_both, "edge_weight * down * across"): "the two directions are multiplied; add them.",
            (_of_both, "-edge_weight * (down + across)"): (
                "the edges are subtracted, which rewards wrong ones: all terms of a loss are added."
            ),
            (f"pixels + {_of_both}", "edge_weight * (pixels + down + across)"): (
                "edge_weight multiplies the pixels, too; only the edges."
            ),
            (
                _of_both,
                "kl_weight * (down + across)",
                "+ kl_weight * nats",
                "+ edge_weight * nats",
            ): "edge_weight and kl_weight have changed places.",
            ("+ kl_weight", "- kl_weight"): (
                "the KL has the wrong sign: subtracted, the loss falls the further the latents are from N(0, I). "
                "Add it."
            ),
            (" + kl_weight * nats.mean()", ""): (
                "the KL is left out, and so the latents spread as they like: add kl_weight * nats.mean()."
            ),
            ("kl_weight * ", ""): "kl_weight is left out: it multiplies the mean of nats.",
            ("nats.mean()", "nats.sum()"): "nats are added up over the batch; take their mean, or it grows with B.",
            ("nats.mean()", "nats.mean() ** 2"): "the KL is squared; it is never negative, and counts as it is.",
            ("pixels + edge", "edge"): (
                "the pixels are left out: edges alone leave the brightness free, as a constant has no edges."
            ),
            (".abs().mean()", ".abs().sum()", "nats.mean()", "nats.sum()"): (
                "all terms are sums; take means, or the loss grows with the size of batch and pictures."
            ),
            (".abs().mean()", ".abs().sum()"): (
                "pixels and edges are added up; take means, or they grow with the size of batch and pictures."
            ),
            (".abs().mean()", ".abs().sum() / len(pictures)"): (
                "pixels and edges are added up over each picture, as in the original's code, whose weights are made "
                "for that; here the mean is taken over everything."
            ),
            _edges(_edge.replace("mean", "sum")): ("the edges are added up; take the mean of each direction."),
            (_pixels, _pixels.replace("mean", "sum")): "the pixels are added up; take their mean.",
            _rolled_round: (
                "the last row and column are compared with the first: roll goes round the picture's edge. diff does "
                "not."
            ),
            _over_two_pixels: (
                "torch.gradient compares the neighbours on either side, over two pixels, and misses the finest edges; "
                "diff compares next neighbours."
            ),
        },
    ),
)

EXERCISES = posterior_08.KL, AUTOENCODER_LOSS, posterior_08.ENCODE, drawing_08.DRAW_IN_LATENTS
