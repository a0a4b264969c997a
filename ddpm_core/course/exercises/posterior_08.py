"""The exercises of notebook 08 on what an encoder says of pictures, a Gaussian for each number: kl, encode."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core.course.exercises.compare import Answer, Compare, Exercise, NotYet, noise
from ddpm_core.support.guards import describe

# ---- kl: how far the posterior is from N(0, I) -----------------------------------------------------------------------


def my_kl(mean, log_variance):
    nats = (mean**2 + log_variance.exp() - 1 - log_variance) / 2
    return nats.mean(dim=(1, 2, 3))


def _kl_spelled_out(mean, log_variance):
    variance = log_variance.exp()
    nats = (mean**2 + variance - 1 - log_variance) / 2
    return nats.mean(dim=(1, 2, 3))


def _one_for_each_picture(output: object, mean: Tensor, log_variance: Tensor) -> object:
    shape = getattr(output, "shape", None)
    if isinstance(output, float) or shape == ():
        raise NotYet(
            "it returns one number for the whole batch; return one for each picture, (B,): the mean over channels, "
            "rows and columns, dim=(1, 2, 3)."
        )
    if shape == mean.shape:
        raise NotYet(
            f"it returns a number for each number of the latents, {tuple(shape)}; return their mean for each picture, "
            "(B,): mean(dim=(1, 2, 3))."
        )
    return output


_nats, _average = "(mean**2 + variance - 1 - log_variance) / 2", ".mean(dim=(1, 2, 3))"
_OF_LOGARITHM = "is the logarithm of the variance"
_HALF = "all four terms are halved: put them in brackets, and divide by 2."
_FOUR = "mean**2 + variance - 1 - log_variance"

KL = Exercise(
    answer=my_kl,
    general="Posterior",
    general_is="has it as a method, kl, beside the draw of a latent",
    on_shapes="mean and log_variance have the same shape, (B, c, h, w); reduce both over dim=(1, 2, 3), or neither.",
    hint=(
        f"Four terms in brackets, {_FOUR}, divided by 2, for every number of the latents at once. log_variance "
        f"{_OF_LOGARITHM}, so the variance itself is log_variance.exp(). Then the mean over all axes but the first."
    ),
    sketch="nats = (... + ... - 1 - ...) / 2\nreturn nats.mean(dim=...)",
    examine=Compare(
        _kl_spelled_out,
        cases=[
            (1.5 * noise(4, 3, 2, 5, seed=1), noise(4, 3, 2, 5, seed=2) - 1),
            (noise(3, 4, 4, 4, seed=3), 2 * noise(3, 4, 4, 4, seed=4)),
            (0.1 * noise(5, 2, 3, 1, seed=5) + 2, noise(5, 2, 3, 1, seed=6) - 3),
        ],
        to_tensor=_one_for_each_picture,
        on_nan=(
            f"log_variance {_OF_LOGARITHM} already, and may be negative, so that it has no logarithm and no root of "
            "its own. The variance is log_variance.exp()."
        ),
        bugs={
            (_nats, f"-{_nats}"): (
                "the sign is wrong. Kingma & Welling write down -KL, as they look for a maximum; a loss becomes small, "
                f"and KL is never negative: ({_FOUR}) / 2."
            ),
            (" - log_variance", " + log_variance"): (
                "log_variance is added; subtract it. Otherwise the loss would shrink the variance without end: the "
                "smaller, the better."
            ),
            (" - 1", " + 1"): "1 is added; subtract it: where mean = 0 and variance = 1 the KL is 0.",
            (" - 1", ""): "the -1 is forgotten: where mean = 0 and variance = 1 the KL should be 0, and not 1/2.",
            (" + variance", " - variance"): "the variance is subtracted; add it.",
            ("mean**2 + ", "-(mean**2) + "): "mean**2 is subtracted; add it: the further from 0, the larger the KL.",
            (".exp()", ".mul(0.5).exp()"): (
                f"the standard deviation stands where the variance belongs: log_variance {_OF_LOGARITHM}; without the "
                "/ 2 inside exp, which makes a deviation of it."
            ),
            (".exp()", ".mul(2).exp()"): (
                f"log_variance is doubled in exp, as if it were the logarithm of the deviation; it {_OF_LOGARITHM}."
            ),
            (".exp()", ".mul(2).exp()", "- log_variance", "- 2 * log_variance"): (
                f"log_variance is taken for the logarithm of the deviation, and doubled; it {_OF_LOGARITHM}."
            ),
            (
                ".exp()",
                ".square()",
            ): f"log_variance is squared; it {_OF_LOGARITHM}: the variance is log_variance.exp().",
            (".exp()", ""): (
                "the variance and its logarithm are the same thing here, and cancel. The second term is the variance, "
                "log_variance.exp(), and the last one log_variance as it is."
            ),
            (" - log_variance", " - log_variance.exp().exp()"): (
                "exp is taken twice: the terms are the variance, log_variance.exp(), and log_variance as it is."
            ),
            (" / 2", ""): f"the factor 1/2 is forgotten: ({_FOUR}) / 2.",
            (_nats, "mean**2 + variance - 1 - log_variance / 2"): f"only the last term is halved; {_HALF}",
            (_nats, "mean**2 / 2 + variance - 1 - log_variance"): f"only mean**2 is halved; {_HALF}",
            (_nats, "(mean**2 + variance - 1) / 2 - log_variance"): (
                f"log_variance is not halved: that would be the logarithm of the deviation; {_HALF}"
            ),
            (_nats, "mean**2 + (variance - 1 - log_variance) / 2"): f"mean**2 is not halved; {_HALF}",
            (
                "mean**2",
                "mean",
            ): "mean is not squared: a negative mean would be rewarded, and -3 is as far from 0 as 3.",
            ("mean**2", "mean.abs()"): "the absolute value of mean stands where its square belongs: mean**2.",
            (
                "mean**2 + ",
                "",
            ): "mean**2 is left out: the means could lie anywhere, and the latents spread as they like.",
            (_nats, "mean**2 / 2"): (
                "only the means count. The terms with the variance, variance - 1 - log_variance, keep the posterior "
                "from becoming a point, which leaves holes between the latents."
            ),
            (_nats, "(mean**2 + variance) / 2"): (
                "the last two terms are missing, -1 and -log_variance: so the variance may shrink to 0, and the "
                "latents to points with holes between them."
            ),
            (_nats, "(mean**2 / variance + 1 / variance - 1 + log_variance) / 2"): (
                "it is the KL the other way round, KL(N(0, I) || q). Here the posterior q comes first: its mean and "
                "its variance are measured with N(0, I), whose variance of 1 divides nothing."
            ),
            (_nats, "(mean**2 / variance + variance - 1 - log_variance) / 2"): (
                "mean**2 is divided by the posterior's variance; it is N(0, I)'s variance, 1, that divides it."
            ),
            (_nats, f"{_nats} / 0.6931471805599453"): "these are bits; nats are wanted, with the natural logarithm.",
            (_average, ".sum(dim=(1, 2, 3))"): (
                "it is the sum over the numbers of a latent. Take the mean: nats per number, which says the same for "
                "latents of any size."
            ),
            (_average, ".sum(dim=1).mean(dim=(1, 2))"): (
                "the channels are added up; take the mean over them, too: nats per number."
            ),
            (_average, ".mean(dim=1).sum(dim=(1, 2))"): (
                "the places are added up; take the mean over them, too: nats per number."
            ),
            (f"{_average}", f"{_average}.mean().expand(len(mean))"): (
                "every picture gets the mean of the whole batch; each has a KL of its own: mean(dim=(1, 2, 3))."
            ),
            ("(mean**2", "(mean.mean(dim=(1, 2, 3), keepdim=True) ** 2"): (
                "the means are averaged before they are squared, so that those above and below 0 cancel: square first."
            ),
            (_nats, "(log_variance**2 + mean.exp() - 1 - mean) / 2"): "mean and log_variance have changed places.",
        },
    ),
)

# ---- encode: from pictures to standardised latents -------------------------------------------------------------------


# Latents as an encoder gives them, before they are standardised: no channel has mean 0 or deviation 1.
LATENT_MEAN = torch.tensor([1.5, -0.7, 0.4, -2.0]).reshape(1, 4, 1, 1)
LATENT_STD = torch.tensor([0.4, 1.4, 2.2, 0.8]).reshape(1, 4, 1, 1)


class _Encoder(nn.Module):
    """Takes every 4x4 pixels to the mean and the log-variance of the latent's four numbers there; no learning in it."""

    def __init__(self, seed: int):
        super().__init__()
        self.register_buffer("weight", noise(8, 3, 4, 4, seed=seed) / 4)
        self.register_buffer("bias", torch.cat([LATENT_MEAN.flatten(), torch.full((4,), -3.0)]))

    def forward(self, pictures: Tensor) -> Tensor:
        if not isinstance(pictures, Tensor) or pictures.ndim != 4 or pictures.shape[1] != 3:
            raise NotYet(f"encoder takes pictures (B, 3, H, W); it was given {describe(pictures)}.")
        return F.conv2d(pictures, self.weight, self.bias, stride=4)

    def encode(self, *arguments: object) -> None:
        raise NotYet("encoder is the network alone, autoencoder.encoder: what encode does is to be written here.")


def my_encode(encoder, pictures, latent_mean, latent_std):
    mean, _ = encoder(pictures).chunk(2, dim=1)
    return (mean - latent_mean) / latent_std


def _latents(output: object, encoder: nn.Module, pictures: Tensor, *others: Tensor) -> object:
    shape = (len(pictures), 4, pictures.shape[2] // 4, pictures.shape[3] // 4)
    if isinstance(output, (tuple, list)):
        raise NotYet(f"it returns {describe(output)}; return z_0 alone, made of the means.")
    if isinstance(output, Tensor) and output.shape == (shape[0], 8, *shape[2:]):
        raise NotYet(
            "it returns 8 channels, the means and the log-variances. z_0 is made of the first half: chunk(2, dim=1)."
        )
    return output


def _check_draws(answer: Answer) -> None:
    """Tells a latent that is drawn from the posterior by what is left of it without the mean: noise of deviation 1."""
    encoder, pictures, latent_mean, latent_std = case = _many
    z_0 = _latents(answer(*case), *case)
    mean, log_variance = encoder(pictures).chunk(2, dim=1)
    if not isinstance(z_0, Tensor) or z_0.shape != mean.shape:
        return  # what is compared says so
    z_0 = z_0.detach().double()
    standardised = (mean - latent_mean) / latent_std
    for drawn in (z_0 * latent_std + latent_mean - mean, z_0 - mean, z_0 - standardised):
        for deviation in ((log_variance / 2).exp(), log_variance.exp()):
            left = drawn / deviation
            if abs(left.mean()) < 0.05 and abs(left.std() - 1) < 0.05:
                raise NotYet(
                    "a latent is drawn from the posterior, the mean and some noise, as while the autoencoder learns. "
                    "Here the mean itself is wanted: the same picture gets the same latent each time, and diffusion "
                    "adds noise of its own, which is far stronger."
                )


def _check_company(answer: Answer) -> None:
    encoder, pictures, *others = _many
    if not torch.allclose(answer(encoder, pictures, *others)[:5], answer(encoder, pictures[:5], *others), 1e-4, 1e-4):
        raise NotYet(f"a picture gets another latent in another batch. {_GIVEN}")


def _encode_spelled_out(encoder, pictures, latent_mean, latent_std):
    both = encoder(pictures)
    mean, log_variance = both.chunk(2, dim=1)  # noqa: RUF059 (some of the bugs use it)
    return (mean - latent_mean) / latent_std


_many = _Encoder(seed=11), noise(60, 3, 16, 16, seed=12).tanh(), LATENT_MEAN, LATENT_STD
_z_0 = "(mean - latent_mean) / latent_std"
_GIVEN = (
    "latent_mean and latent_std were measured once, over the whole training set, and must stay the same: decode and "
    "the model count on them."
)
_BECAUSE = "the noise schedule is made for numbers of mean 0 and deviation 1."

ENCODE = Exercise(
    answer=my_encode,
    general="Autoencoder",
    general_is="does it in its method encode",
    on_shapes=(
        "encoder(pictures) is (B, 2c, h, w): along the channels first the c means, then the c log-variances, "
        "chunk(2, dim=1). latent_mean and latent_std are (1, c, 1, 1) and fit the means as they are."
    ),
    hint=(
        "encoder(pictures) has twice as many channels as the latent: chunk(2, dim=1) gives the means and the "
        "log-variances. To standardise is to subtract latent_mean, then to divide by latent_std."
    ),
    sketch="mean, log_variance = encoder(...).chunk(2, dim=...)\nreturn (... - ...) / ...",
    examine=Compare(
        _encode_spelled_out,
        cases=[
            (_Encoder(seed=1), noise(4, 3, 16, 16, seed=2).tanh(), LATENT_MEAN, LATENT_STD),
            (_Encoder(seed=3), noise(3, 3, 8, 20, seed=4).tanh(), -LATENT_MEAN.flip(1), LATENT_STD.flip(1)),
            (_Encoder(seed=5), noise(5, 3, 20, 12, seed=6).tanh(), 0.3 * LATENT_MEAN, 2 * LATENT_STD),
        ],
        to_tensor=_latents,
        first=_check_draws,
        last=_check_company,
        bugs={
            (_z_0, "mean"): (
                f"the latents are not standardised: subtract latent_mean and divide by latent_std, because {_BECAUSE}"
            ),
            (_z_0, "mean - latent_mean"): f"the division by latent_std is missing: {_BECAUSE}",
            (_z_0, "mean / latent_std"): f"latent_mean is not subtracted: {_BECAUSE}",
            (_z_0, "mean / latent_std - latent_mean"): (
                "it is the wrong order, or a bracket is missing: subtract latent_mean first, then divide by latent_std."
            ),
            (_z_0, "mean - latent_mean / latent_std"): (
                "a bracket is missing: only latent_mean is divided. Subtract first, then divide."
            ),
            ("/ latent_std", "/ latent_std**2"): "it is divided by the variance; divide by the deviation, latent_std.",
            ("/ latent_std", "/ latent_std.sqrt()"): (
                "it is divided by the root of latent_std, which is the deviation already."
            ),
            ("/ latent_std", "* latent_std"): "it is multiplied with latent_std; divide by it.",
            (_z_0, "mean * latent_std + latent_mean"): (
                "that is the way back, which undoes what is wanted here: subtract latent_mean, then divide by "
                "latent_std."
            ),
            ("(mean - latent_mean)", "(mean + latent_mean)"): "latent_mean is added; subtract it.",
            ("(mean - latent_mean)", "(latent_mean - mean)"): "the sign is wrong: mean - latent_mean.",
            (_z_0, "(mean - latent_std) / latent_mean"): "latent_mean and latent_std have changed places.",
            (_z_0, f"({_z_0} - latent_mean) / latent_std"): "the latents are standardised twice.",
            (_z_0, f"({_z_0}).clamp(-1, 1)"): (
                "the latents are clipped to [-1, 1]. Pictures end there, latents do not: a third of standardised "
                "numbers lie beyond."
            ),
            (_z_0, f"({_z_0}).tanh()"): (
                "tanh squeezes the latents into [-1, 1]. Pictures end there, latents do not: leave them as they are."
            ),
            (_z_0, "mean.clamp(-1, 1)"): "the latents are clipped to [-1, 1], and not standardised; neither is right.",
            (_z_0, "(mean.clamp(-1, 1) - latent_mean) / latent_std"): (
                "the means are clipped to [-1, 1]. Pictures end there, latents do not."
            ),
            (_z_0, "0.18215 * mean"): (
                "0.18215 is the number by which Stable Diffusion's own latents are multiplied, one over their "
                "deviation. These latents have others: latent_mean and latent_std."
            ),
            ("mean, log_variance", "log_variance, mean"): (
                "the halves have changed places: first come the means, then the log-variances."
            ),
            ("both.chunk(2, dim=1)", "both[:, ::2], both[:, 1::2]"): (
                "means and log-variances are taken in turn, every second channel; first come all the means, then all "
                "the log-variances: chunk(2, dim=1)."
            ),
            (_z_0, "(mean - latent_mean) / (log_variance / 2).exp()"): (
                "it is divided by the posterior's deviation, which says how sure the encoder is of this picture. "
                "latent_std is another one: how different the latents of all pictures are."
            ),
            (_z_0, "mean / (log_variance / 2).exp()"): (
                "the mean is divided by the posterior's deviation; standardise with latent_mean and latent_std."
            ),
            (
                _z_0,
                "(mean - mean.mean(dim=(0, 2, 3), keepdim=True)) / mean.std(dim=(0, 2, 3), keepdim=True)",
            ): f"it is standardised with the batch's own mean and deviation. {_GIVEN}",
            (_z_0, "(mean - mean.mean()) / mean.std()"): (
                f"it is standardised with the batch's own mean and deviation. {_GIVEN}"
            ),
            (
                _z_0,
                "(mean - mean.mean(dim=(2, 3), keepdim=True)) / mean.std(dim=(2, 3), keepdim=True)",
            ): f"each picture is standardised with its own mean and deviation, and its brightness is lost. {_GIVEN}",
            (
                _z_0,
                "(mean - mean.mean(dim=(1, 2, 3), keepdim=True)) / mean.std(dim=(1, 2, 3), keepdim=True)",
            ): f"each picture is standardised with its own mean and deviation, and its brightness is lost. {_GIVEN}",
            ("encoder(pictures)", "encoder((pictures + 1) / 2)"): (
                "pictures are moved to [0, 1]; the encoder takes them as they come, in [-1, 1]."
            ),
            ("encoder(pictures)", "encoder(2 * pictures - 1)"): (
                "pictures are rescaled as if they came in [0, 1]; they are in [-1, 1] already."
            ),
            ("encoder(pictures)", "encoder(pictures / 127.5 - 1)"): (
                "pictures are rescaled as if they came in bytes; they are in [-1, 1] already."
            ),
        },
    ),
)
