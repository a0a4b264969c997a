"""The exercises of notebook 04 in which the learner repairs a function: repaired_sampler, repaired_loop."""

import torch

from ddpm_core.course.exercises.compare import Exercise
from ddpm_core.course.exercises.loops import examine_loop, examine_sampler
from ddpm_core.process import add_noise

# ---- repaired_sampler: Algorithm 2, with the variance beta -----------------------------------------------------------


def my_repaired_sampler(eps_model, schedule, x_T, generator):
    x_t = x_T
    for step in range(len(schedule)):
        t = len(schedule) - 1 - step
        alpha, beta, alpha_bar = schedule.alphas[t], schedule.betas[t], schedule.alpha_bars[t]
        eps_hat = eps_model(x_t, torch.full((len(x_t),), t, device=x_t.device))
        x_t = (x_t - beta / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()
        if t > 0:
            x_t = x_t + beta.sqrt() * torch.randn(x_t.shape, generator=generator, device=x_t.device)
    return x_t


REPAIRED_SAMPLER = Exercise(
    answer=my_repaired_sampler,
    general="sample",
    examine=examine_sampler,
    planted=(
        "(len(x_t),), t, device",
        "(len(x_t),), step, device",
        "        if t > 0:\n            x_t = x_t + beta.sqrt() *",
        "        x_t = x_t + beta *",
    ),
    hint=(
        "Hold it against algorithm 2, line by line. What does the network hear about the time? Which factor has z? "
        "What does the table of section 1 say about z in the last step (its t = 1, the code's t = 0)?"
    ),
    sketch=(
        "x_t = x_T\n"
        "for step in range(len(schedule)):\n"
        "    t = len(schedule) - 1 - step\n"
        "    alpha, beta, alpha_bar = ...\n"
        "    eps_hat = eps_model(x_t, torch.full((len(x_t),), ..., device=x_t.device))\n"
        "    x_t = (x_t - beta / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()\n"
        "    if ...:\n"
        "        x_t = x_t + ... * torch.randn(x_t.shape, generator=generator, device=x_t.device)\n"
        "return x_t"
    ),
)

# ---- repaired_loop: Algorithm 1, over many batches -------------------------------------------------------------------


def my_repaired_loop(eps_model, schedule, batches, optimizer, generator):
    losses = []
    for x_0 in batches:
        t = torch.randint(len(schedule), (len(x_0),), generator=generator)
        eps = torch.randn(x_0.shape, generator=generator)
        x_t = add_noise(schedule, x_0, t, eps)
        loss = (eps_model(x_t, t) - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


REPAIRED_LOOP = Exercise(
    answer=my_repaired_loop,
    general="train",
    examine=examine_loop,
    on_shapes="t has the shape (B,), and eps has the shape of x_0.",
    planted=(
        "(len(x_0),), generator=generator)",
        "(1,), generator=generator).expand(len(x_0))",
        "        eps = torch.randn(x_0.shape, generator=generator)\n",
        "",
        "x_0, t, eps)",
        "x_0, t, torch.randn(x_0.shape, generator=generator))",
        "        loss = (",
        "        eps = torch.randn(x_0.shape, generator=generator)\n        loss = (",
        "        optimizer.zero_grad()\n",
        "",
    ),
    hint=(
        "Hold it against algorithm 1. How many different t are in a batch? Is the noise that the network should name "
        "the noise that is in x_t? And which gradients does optimizer.step() find?"
    ),
    sketch=(
        "losses = []\n"
        "for x_0 in batches:\n"
        "    t = torch.randint(len(schedule), (...,), generator=generator)\n"
        "    eps = torch.randn(x_0.shape, generator=generator)\n"
        "    x_t = add_noise(schedule, x_0, t, ...)\n"
        "    loss = (eps_model(x_t, t) - eps).square().mean()\n"
        "    ...\n"
        "    loss.backward()\n"
        "    optimizer.step()\n"
        "    losses.append(loss.item())\n"
        "return losses"
    ),
)

EXERCISES = REPAIRED_SAMPLER, REPAIRED_LOOP
