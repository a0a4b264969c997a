"""Classifier-free guidance (Ho & Salimans 2022): a condition that can be dropped, amplified or avoided.

Closures around a model that takes a condition. What the condition is, a caption's tokens or a label, is no matter here.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_core.support import guards


def drop_condition(
    cond: Tensor, null_cond: Tensor, probability: float, generator: torch.Generator | None = None
) -> Tensor:
    """Replaces whole conditions by null_cond, each with the given probability, so that a model learns to do without.

    cond: (B, ...), one condition per picture; null_cond: (...), the condition that says nothing. Returns (B, ...).
    """
    guards.number("probability", probability, least=0, most=1)
    guards.condition("cond", cond)
    guards.randomness(generator)
    guards.shape("null_cond", null_cond, cond.shape[1:], "one condition's")
    dropped = torch.rand(len(cond), generator=generator, device=cond.device) < probability  # one draw per picture
    return torch.where(dropped.reshape(-1, *[1] * null_cond.ndim), null_cond, cond)


def guided(
    model: Callable[[Tensor, Tensor, Tensor], Tensor],
    cond: Tensor,
    null_cond: Tensor,
    guidance_scale: float = 1.0,
) -> Callable[[Tensor, Tensor], Tensor]:
    """An eps_model(x_t, t) that follows cond: eps_uncond + guidance_scale * (eps_cond - eps_uncond).

    model:          (x_t, t, cond) -> eps_hat
    cond:           (B, ...), one condition per picture
    null_cond:      (...), or (B, ...) with one for each picture: no condition, or what the pictures should keep away
                    from (a negative prompt)
    guidance_scale: 0 ignores cond, 1 follows it as learnt, more exaggerates it. Ho & Salimans write w = scale - 1

    Both halves go through the model as one batch; where guidance_scale is 0 or 1 only one of them is needed.
    Raises ValueError where guidance_scale is below 0 or the conditions do not fit together, TypeError where these are
    no tensors.
    """
    guards.predicts_noise(model)
    guards.number("guidance_scale", guidance_scale, least=0)
    guards.condition("cond", cond)
    guards.condition("null_cond", null_cond)
    null_cond = null_cond.expand_as(cond) if null_cond.shape == cond.shape[1:] else null_cond
    guards.shape("null_cond", null_cond, cond.shape, "cond's")
    if guidance_scale in (0, 1):
        only = cond if guidance_scale == 1 else null_cond
        return lambda x_t, t: model(x_t, t, only)
    both = torch.cat([cond, null_cond])

    def eps_model(x_t: Tensor, t: Tensor) -> Tensor:
        guards.one_condition_each(x_t, cond)
        eps_cond, eps_uncond = model(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
        return eps_uncond + guidance_scale * (eps_cond - eps_uncond)

    return eps_model
