"""The exercise of notebook 08 that puts everything together: draw_in_latents."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core.course.exercises.compare import SCHEDULE, Answer, Compare, Exercise, NotYet, T, edited, noise
from ddpm_core.course.exercises.posterior_08 import LATENT_MEAN, LATENT_STD
from ddpm_core.sampling import ddim, dpm_solver  # noqa: F401 (an edit of the answer draws with the second)
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.guards import describe

# ---- draw_in_latents: diffusion there, and one way out ---------------------------------------------------------------


class _EpsModel:
    """Takes latents for standard Gaussian noise, and errs a little. Remembers which timesteps it was told."""

    def __init__(self):
        self.told: list[int] = []

    def __call__(self, z_t: Tensor, t: Tensor | None = None) -> Tensor:
        if not isinstance(z_t, Tensor) or z_t.ndim != 4:
            raise NotYet(f"eps_model needs latents z_t (B, c, h, w) and then t; its z_t is {describe(z_t)}.")
        if z_t.shape[1:] != (4, 3, 5):
            raise NotYet(
                f"eps_model is given the shape {tuple(z_t.shape)}, where z_T is {(len(z_t), 4, 3, 5)}: it knows "
                "latents alone. Decode at the end, when the sampler is done."
            )
        if not isinstance(t, Tensor) or t.shape != (len(z_t),) or t.dtype != torch.long:
            raise NotYet(f"eps_model needs t as a long tensor (B,), one step per picture; it got {describe(t)}.")
        self.told.append(int(t[0]))
        return SCHEDULE.at(SCHEDULE.beta_bars, t, z_t).sqrt() * z_t + 0.2 * torch.sin(3 * z_t + t.reshape(-1, 1, 1, 1))


class _Decoder(nn.Module):
    """Makes 4x4 pixels of the four numbers at a place of a latent, and counts the latents that it was given."""

    def __init__(self, seed: int):
        super().__init__()
        self.register_buffer("weight", noise(4, 3, 4, 4, seed=seed) / 6)
        self.given = 0

    def forward(self, latents: Tensor) -> Tensor:
        if isinstance(latents, (list, tuple)) or hasattr(latents, "__next__"):
            raise NotYet(
                "decoder is given all the steps; give it the last one: a sampler yields every z_t, the last is z_0. "
                "*_, z_0 = ddim(...)"
            )
        if not isinstance(latents, Tensor) or latents.ndim != 4 or latents.shape[1] != 4:
            raise NotYet(f"decoder takes latents (B, c, h, w); it was given {describe(latents)}.")
        self.given += len(latents)
        return F.conv_transpose2d(latents, self.weight, stride=4)

    def decode(self, *arguments: object) -> None:
        raise NotYet("decoder is the network alone, autoencoder.decoder: what decode does is to be written here.")


def my_draw_in_latents(eps_model, schedule, z_T, num_steps, decoder, latent_mean, latent_std):
    *_, z_0 = ddim(eps_model, schedule, z_T, num_steps, clip_x_0=False)
    return decoder(z_0 * latent_std + latent_mean).clamp(-1, 1)


def _drawn_spelled_out(eps_model, schedule, z_T, num_steps, decoder, latent_mean, latent_std):
    *_, z_0 = ddim(eps_model, schedule, z_T, num_steps, clip_x_0=False)
    latents = z_0 * latent_std + latent_mean
    return decoder(latents).clamp(-1, 1)


def _by_hand(schedule: NoiseSchedule, eps_model, z_T, timesteps, change=lambda z_t: z_t) -> Tensor:
    """ddim's z_0 from any timesteps, falling. change: what is done to z_t after each step."""
    z_t, ends = z_T, [*timesteps[1:], None]
    for step, end in zip(timesteps, ends, strict=True):
        alpha_bar = schedule.alpha_bars[step]
        before = torch.tensor(1.0) if end is None else schedule.alpha_bars[end]
        eps_hat = eps_model(z_t, torch.full((len(z_t),), int(step)))
        z_0_hat = (z_t - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()
        z_t = change(before.sqrt() * z_0_hat + (1 - before).sqrt() * eps_hat)
    return z_t


def _evenly(rounded: bool):
    """An answer whose timesteps are evenly spaced with both ends, T - 1 and 0."""

    def answer(eps_model, schedule, z_T, num_steps, decoder, latent_mean, latent_std):
        timesteps = torch.linspace(T - 1, 0, num_steps)
        z_0 = _by_hand(schedule, eps_model, z_T, (timesteps.round() if rounded else timesteps).long())
        return decoder(z_0 * latent_std + latent_mean).clamp(-1, 1)

    return answer


def _with_dpm_solver(*edits: str):
    """The spelled-out answer with these edits, and with DPM-Solver++ in place of DDIM."""

    def answer(eps_model, schedule, z_T, num_steps, decoder, latent_mean, latent_std):
        drawn = edited(_drawn_spelled_out, *edits, "ddim(", "dpm_solver(")
        return drawn(eps_model, schedule, z_T, num_steps, decoder, latent_mean, latent_std)

    return answer


def _every_z_t_clipped(eps_model, schedule, z_T, num_steps, decoder, latent_mean, latent_std):
    timesteps = schedule.respaced(num_steps)[1].flip(0)
    z_0 = _by_hand(schedule, eps_model, z_T, timesteps, lambda z_t: z_t.clamp(-1, 1))
    return decoder(z_0 * latent_std + latent_mean).clamp(-1, 1)


def _undone_at_every_step(eps_model, schedule, z_T, num_steps, decoder, latent_mean, latent_std):
    timesteps = schedule.respaced(num_steps)[1].flip(0)
    latents = _by_hand(schedule, eps_model, z_T, timesteps, lambda z_t: z_t * latent_std + latent_mean)
    return decoder(latents).clamp(-1, 1)


def _check_calls(answer: Answer) -> None:
    eps_model, decoder, num_steps = _EpsModel(), _Decoder(seed=1), 5
    z_T = noise(3, 4, 3, 5, seed=2)
    answer(eps_model, SCHEDULE, z_T, num_steps, decoder, LATENT_MEAN, LATENT_STD)
    if not eps_model.told:
        raise NotYet("eps_model is never asked: z_T is noise, and a sampler such as ddim makes z_0 of it.")
    if len(eps_model.told) != num_steps:
        raise NotYet(
            f"for num_steps = {num_steps}, with a schedule of {T}, eps_model is asked {len(eps_model.told)} times; it "
            "should be once per step. Hand num_steps on to the sampler."
        )
    if eps_model.told[0] != T - 1:
        raise NotYet(
            f"the first timestep that eps_model is told is {eps_model.told[0]}; z_T is all noise, as at {T - 1}, the "
            "schedule's last."
        )
    if decoder.given > len(z_T):
        raise NotYet(
            f"decoder is given {decoder.given} latents for {len(z_T)} pictures: it is called at every step. Decode "
            "once, at the end: the sampler needs no pictures, and that is what makes diffusion in latents cheap."
        )


def _pictures(output: object, eps_model: _EpsModel, schedule: NoiseSchedule, z_T: Tensor, *others: object) -> object:
    if isinstance(output, Tensor) and output.shape == z_T.shape:
        raise NotYet("it returns latents; the pictures are wanted: decode z_0, once it is no longer standardised.")
    if isinstance(output, (list, tuple)):
        raise NotYet(f"it returns {describe(output)}; return the pictures of the last step alone.")
    return output


_ddim, _undone = "ddim(eps_model, schedule, z_T, num_steps, clip_x_0=False)", "z_0 * latent_std + latent_mean"
_TO_UNDO = "multiply by latent_std, then add latent_mean"

_BUGS = {
    ("clip_x_0=False", "clip_x_0=True"): (
        "the sampler clips every estimate of z_0 to [-1, 1], as it does unless told otherwise. Pictures end "
        "there, latents do not: clip_x_0=False."
    ),
    ("z_0 * latent_std", "z_0.clamp(-1, 1) * latent_std"): (
        "z_0 is clipped to [-1, 1]. Pictures end there, latents do not: clip what the decoder returns."
    ),
    ("clip_x_0=False", "clip_x_0=True", ".clamp(-1, 1)", ""): (
        "the latents are clipped to [-1, 1], and the pictures are not; it should be the other way round: "
        "clip_x_0=False, and clamp(-1, 1) after the decoder."
    ),
    ("z_0 * latent_std", "z_0.clamp(-1, 1) * latent_std", ".clamp(-1, 1)\n", "\n"): (
        "z_0 is clipped to [-1, 1], and the pictures are not; it should be the other way round."
    ),
    (f"= {_undone}", f"= ({_undone}).clamp(-1, 1)"): (
        "the latents are clipped to [-1, 1] before they are decoded. Pictures end there, latents do not: clip "
        "what the decoder returns."
    ),
    _every_z_t_clipped: (
        "z_t is clipped to [-1, 1] after every step. Pictures end there, latents and noise do not: clip "
        "nothing but the decoder's pictures."
    ),
    (_undone, "z_0"): (
        f"z_0 is decoded as it is, standardised. The decoder knows latents as the encoder gives them: {_TO_UNDO}."
    ),
    (_undone, "z_0", "clip_x_0=False", "clip_x_0=True"): (
        "there are two slips: z_0 is decoded as it is, standardised, and the sampler clips it to [-1, 1]. "
        f"First {_TO_UNDO}; then clip_x_0=False."
    ),
    (_undone, "(z_0 + latent_mean) * latent_std"): (
        f"the order is wrong: what was done last is undone first. my_encode subtracts, then divides; so {_TO_UNDO}."
    ),
    (_undone, "z_0 * (latent_std + latent_mean)"): f"a bracket is wrong: {_TO_UNDO}.",
    (_undone, "(z_0 - latent_mean) / latent_std"): (f"z_0 is standardised once more; undo it: {_TO_UNDO}."),
    (_undone, f"({_undone}) * latent_std + latent_mean"): "the standardisation is undone twice.",
    (_undone, "z_0 * latent_std"): f"latent_mean is left out: {_TO_UNDO}.",
    (_undone, "z_0 + latent_mean"): f"latent_std is left out: {_TO_UNDO}.",
    (_undone, "z_0 * latent_std - latent_mean"): f"latent_mean is subtracted; my_encode did that: {_TO_UNDO}.",
    (
        _undone,
        "z_0 / latent_std + latent_mean",
    ): f"it is divided by latent_std; my_encode did that: {_TO_UNDO}.",
    (_undone, "z_0 * latent_std**2 + latent_mean"): f"latent_std is squared; it is a deviation: {_TO_UNDO}.",
    (_undone, "z_0 * latent_std.sqrt() + latent_mean"): (
        f"the root of latent_std is taken, which is a deviation already: {_TO_UNDO}."
    ),
    (_undone, "z_0 * latent_mean + latent_std"): "latent_mean and latent_std have changed places.",
    (_undone, "z_0 / 0.18215"): (
        "0.18215 is Stable Diffusion's own number; these latents have latent_mean and latent_std."
    ),
    _undone_at_every_step: (
        "the standardisation is undone at every step. The model has learnt standardised latents: undo it once, "
        "before the decoder."
    ),
    ("    *_", f"    z_T = {_undone.replace('z_0', 'z_T')}\n    *_", _undone, "z_0"): (
        "z_T is moved to the encoder's latents before it is sampled from. The model has learnt standardised "
        "latents, and z_T is noise as it should be: undo the standardisation at the end."
    ),
    ("decoder(latents)", "decoder(z_0) * latent_std.mean() + latent_mean.mean()"): (
        f"the standardisation is undone in the pictures; it belongs to the latents: first {_TO_UNDO}, then decode."
    ),
    (").clamp(-1, 1)\n", ")\n"): (
        "the pictures are not clipped: the decoder goes a little beyond [-1, 1], and pictures end there."
    ),
    ("decoder(latents).clamp(-1, 1)", "decoder(latents).tanh()"): (
        "tanh bends all the colours; clamp(-1, 1) leaves alone what lies in between."
    ),
    (").clamp(-1, 1)\n", ").clamp(0, 1)\n"): (
        "the pictures are clipped to [0, 1], and all that is darker than grey becomes grey; clamp(-1, 1)."
    ),
    ("decoder(latents).clamp(-1, 1)", "(decoder(latents) / 2 + 0.5).clamp(0, 1)"): (
        "the pictures are moved to [0, 1], as some ways of showing them want; here return them in [-1, 1]."
    ),
    ("*_, z_0 =", "z_0, *_ ="): (
        "the first step is decoded, which is nearly all noise: the last z_t that the sampler yields is z_0."
    ),
    ("*_, z_0 =", "*_, z_0, _ ="): "the last step but one is decoded: the last that is yielded is z_0.",
    (f"*_, z_0 = {_ddim}", f"for z_0 in {_ddim}: pass\n    z_0 = z_T"): (
        "z_T is decoded, the noise with which the sampler began."
    ),
}

DRAW_IN_LATENTS = Exercise(
    answer=my_draw_in_latents,
    general="generate",
    general_is="takes prompts and guidance, and leaves the decoding to you",
    on_shapes=(
        "z_0, latent_mean and latent_std fit as they are, (B, c, h, w) and (1, c, 1, 1). The decoder's pictures are "
        "(B, 3, H, W): undo the standardisation before it, not after it."
    ),
    hint=(
        "ddim yields z_t after each step; *_, z_0 = ddim(...) keeps the last. What does clip_x_0 have to be, as z_0 is "
        "no picture? The decoder wants latents as the encoder gives them: undo what my_encode did, in reverse order. "
        "Clip what comes out of it."
    ),
    sketch="*_, z_0 = ddim(..., num_steps, clip_x_0=...)\nreturn decoder(z_0 * ... + ...).clamp(-1, 1)",
    examine=Compare(
        _drawn_spelled_out,
        cases=[
            (_EpsModel(), SCHEDULE, noise(3, 4, 3, 5, seed=1), 3, _Decoder(seed=2), LATENT_MEAN, LATENT_STD),
            (
                _EpsModel(),
                SCHEDULE,
                noise(2, 4, 3, 5, seed=3),
                T,
                _Decoder(seed=4),
                -LATENT_MEAN.flip(1),
                LATENT_STD.flip(1),
            ),
            (
                _EpsModel(),
                SCHEDULE,
                noise(4, 4, 3, 5, seed=5),
                3,
                _Decoder(seed=6),
                0.5 * LATENT_MEAN,
                1.2 * LATENT_STD,
            ),
        ],
        to_tensor=_pictures,
        first=_check_calls,
        alternatives=(_with_dpm_solver(), _evenly(rounded=True), _evenly(rounded=False)),
        may_ignore=("schedule",),
        on_nan="is there a root of a negative number, or a division by 0?",
        bugs=_BUGS | {_with_dpm_solver(*bug): words for bug, words in _BUGS.items() if not callable(bug)},
    ),
)
