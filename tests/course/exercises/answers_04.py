"""Answers to the exercises of notebook 04: right ones in many styles, and planted bugs."""

from writing import LOOKED_UP, PREVIOUS, but

RIGHT = {
    "diffusion_loss": [
        "return diffusion_loss(eps_model, schedule, x_0, generator)",
        """
        eps = torch.randn(x_0.shape, generator=generator)  # the noise first, then the steps
        t = (torch.rand(len(x_0), generator=generator) * len(schedule)).long()
        return F.mse_loss(eps_model(add_noise(schedule, x_0, t, eps), t), eps)
        """,
        """
        T, B, x_0 = len(schedule), x_0.shape[0], x_0.double()
        t = torch.randint(low=0, high=T, size=(B,), generator=generator)
        kept = schedule.alpha_bars[t].view(B, 1, 1, 1)
        eps = torch.randn(x_0.size(), generator=generator)
        eps_hat = eps_model(kept ** 0.5 * x_0 + (1 - kept) ** 0.5 * eps, t)
        return ((eps - eps_hat) ** 2).flatten(1).mean(1).mean()
        """,
    ],
    "ddpm_step": [
        """
        previous = torch.ones_like(schedule.alpha_bars)
        previous[1:] = schedule.alpha_bars[:-1]
        a, b, ab, p = (v[t].view(-1, 1, 1, 1) for v in (schedule.alphas, schedule.betas, schedule.alpha_bars, previous))
        mean = (x_t - b / torch.sqrt(1 - ab) * eps_hat) / torch.sqrt(a)
        return mean + torch.sqrt(b * (1 - p) / (1 - ab)) * torch.where(t.view(-1, 1, 1, 1) > 0, z, 0)
        """,
        """
        rows = []
        for i, step in enumerate(t.tolist()):
            a, ab = schedule.alphas[step].double(), schedule.alpha_bars[step].double()
            row = (x_t[i].double() - (1 - a) / (1 - ab) ** 0.5 * eps_hat[i]) / a ** 0.5
            if step > 0:
                row = row + ((1 - schedule.alpha_bars[step - 1]) / (1 - ab) * (1 - a)) ** 0.5 * z[i]
            rows.append(row)
        return torch.stack(rows)
        """,
    ],
    "ddim_step": [
        """
        x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
        mixed = add_noise(schedule, x_0_hat, t_before.clamp(min=0), eps_hat)
        return torch.where(t_before.view(-1, 1, 1, 1) >= 0, mixed, x_0_hat)
        """,
        """
        rows = []
        for i, (now, then) in enumerate(zip(t.tolist(), t_before.tolist())):
            ab = float(schedule.alpha_bars[now])
            before = float(schedule.alpha_bars[then]) if then >= 0 else 1.0
            x_0_hat = (x_t[i].double() - math.sqrt(1 - ab) * eps_hat[i]) / math.sqrt(ab)
            rows.append(math.sqrt(before) * x_0_hat + math.sqrt(1 - before) * eps_hat[i])
        return torch.stack(rows)
        """,
        """
        ab, before = schedule.alpha_bars[t], schedule.alpha_bars[t_before]  # as a change of x / sqrt(alpha_bar)
        before = torch.where(t_before == -1, torch.ones(()), before)
        sigma, sigma_before = ((1 - a) / a for a in (ab, before))
        step = (sigma_before.sqrt() - sigma.sqrt())[:, None, None, None] * eps_hat
        return before.sqrt()[:, None, None, None] * (x_t / ab.sqrt()[:, None, None, None] + step)
        """,
    ],
    "v_to_eps": [
        "return v_to_eps(schedule, x_t, t, v)",
        """
        ab = schedule.alpha_bars[t].double()
        kept, lost = ab.sqrt(), (1 - ab).sqrt()
        return torch.einsum("b,bchw->bchw", kept, v.double()) + torch.einsum("b,bchw->bchw", lost, x_t.double())
        """,
        """
        ab = schedule.alpha_bars[t].view(-1, 1, 1, 1)
        x_0_hat = ab.sqrt() * x_t - (1 - ab).sqrt() * v
        return predict_eps(schedule, x_t, t, x_0_hat)
        """,
        """
        angle = torch.acos(schedule.alpha_bars[t].sqrt()).view(-1, 1, 1, 1)
        return torch.cos(angle) * v + torch.sin(angle) * x_t
        """,
    ],
    "repaired_sampler": [
        """
        x_t = x_T
        for t in reversed(range(len(schedule))):
            a, b, ab = (float(v[t]) for v in (schedule.alphas, schedule.betas, schedule.alpha_bars))
            z = torch.randn(x_t.shape, generator=generator) if t else 0
            x_t = (x_t - b / math.sqrt(1 - ab) * eps_model(x_t, torch.tensor([t] * len(x_T)))) / a**0.5 + b**0.5 * z
        return x_t
        """,
        """
        t, x = len(schedule), x_T.double()
        while t > 0:  # with the posterior's variance, and x_0_hat in between
            t -= 1
            steps = torch.full((len(x),), t)
            mean, variance = posterior(schedule, predict_x_0(schedule, x, steps, eps_model(x, steps)), x, steps)
            x = torch.normal(mean, variance.sqrt().expand_as(mean), generator=generator)
        return x
        """,
        """
        noises = torch.randn((len(schedule), *x_T.shape), generator=generator)  # all drawn beforehand
        noises[0] = 0
        for step in range(len(schedule) - 1, -1, -1):
            t = torch.full((x_T.shape[0],), step, dtype=torch.int64)
            mean = x_T - schedule.betas[step] / (1 - schedule.alpha_bars[step]) ** 0.5 * eps_model(x_T, t)
            x_T = mean / schedule.alphas[step] ** 0.5 + schedule.betas[step] ** 0.5 * noises[step]
        return x_T.clamp(-1, 1)
        """,
        "*_, x_0 = sample(eps_model, schedule, x_T, clip_x_0=False, generator=generator)\nreturn x_0",
    ],
    "repaired_loop": [
        """
        losses = []
        eps_model.train()
        for x_0 in batches:
            loss = diffusion_loss(eps_model, schedule, x_0, generator)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()  # for the next one
            losses.append(loss.detach())
        return losses
        """,
        """
        losses = []
        for x_0 in batches:
            eps = torch.empty_like(x_0).normal_(generator=generator)
            t = (torch.rand(len(x_0), generator=generator) * len(schedule)).long()
            ab = schedule.alpha_bars[t].view(-1, 1, 1, 1)
            loss = F.mse_loss(eps_model(ab**0.5 * x_0 + (1 - ab) ** 0.5 * eps, t), eps)
            for weight in eps_model.parameters():
                weight.grad = None
            loss.backward()
            optimizer.step()
            losses += [float(loss.detach())]
        return losses
        """,
    ],
    "clinic": [
        'dict(A="6", B="3", C="1", D="5", E="2", F="4")',
        "dict(A=6.0, B=3.0, C=torch.tensor(1), D=5, E=2, F=4)",
    ],
    "luck": [
        """
        variance = share_a * (1 - share_a) / count + share_b * (1 - share_b) / count
        return round((share_b - share_a) / variance**0.5, 2)
        """,
        """
        variances = share_a * (1 - share_a) + share_b * (1 - share_b)
        return (share_b - share_a) * ((count - 1) / variances) ** 0.5  # unbiased
        """,
        """
        p, q, n = float(share_a), float(share_b), int(count)
        return round((q - p) / math.sqrt((p - p**2 + q - q**2) / n), 2)  # as the notebook shows it
        """,
        """
        together = (share_a + share_b) / 2  # as textbooks do: if both were the same
        return (share_b - share_a) / math.sqrt(2 * together * (1 - together) / count)
        """,
    ],
}

STEP = f"{LOOKED_UP}return (x_t - b / (1 - ab).sqrt() * eps_hat) / a.sqrt() + ((1 - p) / (1 - ab) * b).sqrt() * z"
TWO_CALLS = """
x_0 = predict_x_0(schedule, x_t, t, eps_hat)
mean, variance = posterior(schedule, x_0, x_t, t)
return mean + variance.sqrt() * z"""
LOSS = """
t = torch.randint(len(schedule), (len(x_0),), generator=generator)
eps = torch.randn(x_0.shape, generator=generator)
return (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).square().mean()"""
MIXED, AT_T = "add_noise(schedule, x_0, t, eps)", "schedule.alpha_bars[t].view(-1, 1, 1, 1)"
VARIANCES = "a, b = share_a * (1 - share_a) / count, share_b * (1 - share_b) / count\n"
DDIM = """
alpha_bars = torch.cat([torch.ones(1), schedule.alpha_bars])
ab, before = alpha_bars[t + 1].view(-1, 1, 1, 1), alpha_bars[t_before + 1].view(-1, 1, 1, 1)
x_0 = (x_t - (1 - ab).sqrt() * eps_hat) / ab.sqrt()
return before.sqrt() * x_0 + (1 - before).sqrt() * eps_hat"""
BEFORE = "alpha_bars[t_before + 1]"
V = "ab = schedule.alpha_bars[t].view(-1, 1, 1, 1)\nreturn ab.sqrt() * v + (1 - ab).sqrt() * x_t"
V_BY_X_0 = f"{V.splitlines()[0]}\nx_0 = ab.sqrt() * x_t - (1 - ab).sqrt() * v\n"
SAMPLER = """
x = x_T
for t in reversed(range(len(schedule))):
    a, b, ab = schedule.alphas[t], schedule.betas[t], schedule.alpha_bars[t]
    eps_hat = eps_model(x, torch.full((len(x),), t))
    z = torch.randn(x.shape, generator=generator)
    x = (x - b / (1 - ab).sqrt() * eps_hat) / a.sqrt()
    if t > 0:
        x = x + b.sqrt() * z
return x"""
COUNTS_UP = but(
    SAMPLER,
    "t in reversed(range(len(schedule)))",
    "step in range(len(schedule))",
    "    a, b",
    "    t = 19 - step\n    a, b",
)
LOOP = """
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
return losses"""

PLANTED = {
    "diffusion_loss": {
        "the loss is a sum": but(LOSS, "mean", "sum"),
        "absolute values": but(LOSS, "square", "abs"),
        "compared with the picture": but(LOSS, "- eps)", "- x_0)"),
        "compared with the noisy x_t": but(LOSS, "- eps)", "- add_noise(schedule, x_0, t, eps))"),
        "compared with nothing": but(LOSS, " - eps)", ")"),
        "is eps_hat compared with itself": but(LOSS, "return (", "return 0 * ("),
        "given pure noise": but(LOSS, MIXED, "eps"),
        "have changed places: add_noise": but(LOSS, MIXED, "add_noise(schedule, eps, t, x_0)"),
        "x_t is clipped": but(LOSS, MIXED, f"{MIXED}.clamp(-1, 1)"),
        "the noise of a single step": but(LOSS, MIXED, "K**.5 * x_0 + (1 - K)**.5 * eps", "K", AT_T, "_bars", "s"),
        "is not shrunk": but(LOSS, MIXED, "x_0 + (1 - K)**.5 * eps", "K", AT_T),
        "the sign is wrong": [but(LOSS, "- eps)", "+ eps)"), but(LOSS, "t, eps)", "t, -eps)")],
        "mixed with another t": [
            but(LOSS, "x_0, t, eps", "x_0, (t - 1).clamp(min=0), eps"),
            but(LOSS, "x_0, t, eps", "x_0, (t + 1) % len(schedule), eps"),
        ],
        "eps_model is told steps from 1 to 20": but(LOSS, "eps), t)", "eps), t + 1)"),
        "eps_model is told steps from -1 to 18": but(LOSS, "eps), t)", "eps), t - 1)"),
        "asked without t": but(LOSS, "eps), t)", "eps))"),
        "x_t and t have changed places": but(LOSS, f"({MIXED}, t)", f"(t, {MIXED})"),
        "x_t is not what add_noise(schedule, x_0, t, eps) makes": [
            but(LOSS, "x_0, t, eps", "2 * x_0 - 1, t, eps"),
            but(LOSS, "x_0, t, eps", "x_0, len(schedule) - 1 - t, eps"),
            but(LOSS, "x_0, t, eps", "x_0, t, eps / 2"),
        ],
        "all pixels of a picture get the same noise": but(
            LOSS,
            "torch.randn(x_0.shape, generator=generator)",
            "torch.randn(len(x_0), 1, 1, 1, generator=generator) + 0 * x_0",
        ),
        "mean 0 and deviation 1, and has": [
            but(LOSS, "torch.randn", "0.5 * torch.randn"),
            but(LOSS, "torch.randn", "2 * torch.rand", "=generator)\nreturn", "=generator) - 1\nreturn"),
        ],
        "the noise is the same for every generator": but(
            LOSS, "x_0.shape, generator=generator", "x_0.shape, generator=torch.Generator().manual_seed(3)"
        ),
        "t is the same for every generator": [
            f"generator = torch.Generator().manual_seed(3){LOSS}",
            but(LOSS, "torch.randint(len(schedule), (len(x_0),), generator=generator)", "torch.arange(len(x_0)) % 20"),
        ],
        "those above and below 0 cancel": but(LOSS, ".square()", ""),
        "averaged before they are squared": but(LOSS, ".square().mean()", ".mean().square()"),
        "the root of the mean square": f"{LOSS}.sqrt()",
        "the loss is 0.5 times": f"{LOSS} / 2",
        "the loss is -1 times": but(LOSS, "return ", "return -"),
        "sums over the pictures": but(LOSS, ".mean()", ".mean((1, 2, 3)).sum()"),
        "and get 1.01 and 25": f"{LOSS} ** 2",
        "it calls backward() itself": but(LOSS, "return ", "loss = ") + "\nloss.backward()\nreturn loss",
        "are NaN": but(LOSS, "t, eps)", "t, eps).sqrt()"),
        "as (B, 1, 1, 1)": but(LOSS, MIXED, f"{AT_T}.view(-1, 1) * eps"),
        "leave out .item()": f"{LOSS}.item()",
        "given the clean picture": but(LOSS, "add_noise(schedule, x_0, t, eps)", "x_0"),
        "added at full strength": but(LOSS, "add_noise(schedule, x_0, t, eps)", "x_0 + eps"),
        "noise is not Gaussian": but(LOSS, "randn(", "rand("),
        "share one t": but(LOSS, "(len(x_0),)", "(1,)", "eps =", "t = t.expand(len(x_0))\neps ="),
        "t = 0 is never drawn": but(LOSS, "randint(len", "randint(1, len"),
        "the last step, t = T - 1, is never drawn": but(LOSS, "randint(len(schedule)", "randint(len(schedule) - 1"),
        "a square root is missing": but(
            LOSS,
            "add_noise(schedule, x_0, t, eps)",
            "k.sqrt() * x_0 + (1 - k) * eps",
            "return",
            "k = schedule.alpha_bars[t].view(-1, 1, 1, 1)\nreturn",
        ),
        "the very eps that was mixed in": but(LOSS, "- eps)", "- torch.randn(x_0.shape, generator=generator))"),
        "gives other draws: hand it on, generator=generator, to both draws": but(
            LOSS, "(len(x_0),), generator=generator", "(len(x_0),)"
        ),
        "get the same noise": but(LOSS, "x_0.shape", "x_0[:1].shape", "t, eps)", "t, eps.expand_as(x_0))"),
        "sums over the numbers of a picture": but(LOSS, ".mean()", ".sum((1, 2, 3)).mean()"),
    },
    "ddpm_step": {
        "no fresh noise comes in": but(STEP, " + ((1 - p) / (1 - ab) * b).sqrt() * z", ""),
        "z is left out for the whole batch": [
            but(TWO_CALLS, "* z", "* z * bool((t > 0).all())"),
            but(STEP, "((1 - p) / (1 - ab) * b).sqrt()", "b.sqrt() * bool(t.min() > 0)"),
        ],
        "use torch.where": but(TWO_CALLS, "return mean", "if t == 0:\n    return mean\nreturn mean"),
        "z is subtracted": but(TWO_CALLS, "mean + v", "mean - v"),
        "z is left out: ": but(TWO_CALLS, " * z", ""),
        "whatever z is": but(TWO_CALLS, "* z", "* eps_hat"),
        "posterior(schedule, x_0_hat, x_t, t)": but(TWO_CALLS, "x_0, x_t, t)", "x_t, x_0, t)"),
        "predict_x_0(schedule, x_t, t, eps_hat)": but(TWO_CALLS, "x_t, t, eps_hat", "eps_hat, t, x_t"),
        "given eps_hat where x_0_hat belongs": but(TWO_CALLS, "schedule, x_0", "schedule, eps_hat"),
        "x_0_hat is x_t - eps_hat": but(TWO_CALLS, "predict_x_0(schedule, x_t, t, eps_hat)", "x_t - eps_hat"),
        "it returns x_0_hat": but(TWO_CALLS, "mean + variance.sqrt() * z", "x_0"),
        "what it returns is clipped": but(
            TWO_CALLS, "mean + variance.sqrt() * z", "(mean + variance.sqrt() * z).clamp(-1, 1)"
        ),
        "posterior returns mean, variance, in this order": but(TWO_CALLS, "mean, variance =", "variance, mean ="),
        "only the noise is divided by sqrt(alpha)": but(STEP, "(x_t", "x_t", "eps_hat)", "eps_hat"),
        "z is divided by sqrt(alpha), too": but(
            STEP, " / a.sqrt()", "", "return ", "return (", "* z", "* z) / a.sqrt()"
        ),
        "the share of eps_hat comes out as sqrt(beta)": but(STEP, "b / (1 - ab).sqrt()", "b.sqrt()"),
        "not divided by sqrt(1 - alpha_bar)": but(STEP, "b / (1 - ab).sqrt()", "b"),
        "all of eps_hat is taken away": but(STEP, "b / (1 - ab).sqrt() * eps_hat", "eps_hat"),
        "divided by sqrt(alpha_bar)": but(STEP, " / a.sqrt()", " / ab.sqrt()"),
        "multiplied with sqrt(alpha)": but(STEP, " / a.sqrt()", " * a.sqrt()"),
        "the fraction stands on its head": but(STEP, "(1 - p) / (1 - ab)", "(1 - ab) / (1 - p)"),
        "factor beta is missing": but(STEP, "(1 - ab) * b", "(1 - ab)"),
        "Only pictures with t = 0 are wrong": but(STEP, "torch.ones(1)", "torch.zeros(1)"),
        "Algorithm 2 counts from 1": [
            but(TWO_CALLS, "* z", "* z * (t > 1).view(-1, 1, 1, 1)"),
            but(STEP, "((1 - p) / (1 - ab) * b).sqrt() * z", "torch.where((t > 1).view(-1, 1, 1, 1), b.sqrt() * z, 0)"),
            but(TWO_CALLS, "return mean", "if not (t > 1).all():\n    return mean\nreturn mean"),
        ],
        "the t of the first one is used for all": [
            but(TWO_CALLS, "return mean", "if t[0] == 0:\n    return mean\nreturn mean"),
            but(STEP, "((1 - p) / (1 - ab) * b).sqrt() * z", "(b.sqrt() * z if t[0] > 0 else 0)"),
        ],
        "the shape is right, but not the numbers": but(TWO_CALLS, "* z", "* z * (t > 2).view(-1, 1, 1, 1)"),
        "noise is added at the last step, t = 0, too": but(STEP, "((1 - p) / (1 - ab) * b).sqrt()", "b.sqrt()"),
        "its root, the deviation": but(STEP, "((1 - p) / (1 - ab) * b).sqrt()", "(1 - p) / (1 - ab) * b"),
        "root is missing in beta": but(STEP, "(1 - ab).sqrt()", "(1 - ab)"),
        "division by sqrt(alpha) is missing": but(STEP, " / a.sqrt()", ""),
        "reads alpha_bars[-1]": but(STEP, PREVIOUS, "schedule.alpha_bars[t - 1]"),
        "should be its root, the deviation": but(TWO_CALLS, "variance.sqrt()", "variance"),
        "not right yet: t has shape (B,)": but(STEP, ".reshape(-1, 1, 1, 1)", ""),
        "is clipped to [-1, 1]": but(TWO_CALLS, "eps_hat)", "eps_hat).clamp(-1, 1)"),
    },
    "ddim_step": {
        "it returns x_t itself": but(DDIM, "before.sqrt()", "ab.sqrt()", "(1 - before)", "(1 - ab)"),
        "the factor of x_0_hat comes from t": but(DDIM, "before.sqrt() * x_0", "ab.sqrt() * x_0"),
        "the factor of eps_hat comes from t": but(DDIM, "(1 - before)", "(1 - ab)"),
        "where t_before is -1, this reads alpha_bars[-1]": but(DDIM, BEFORE, "schedule.alpha_bars[t_before]"),
        "where t_before is -1, this takes alpha_bars[0]": but(
            DDIM, BEFORE, "schedule.alpha_bars[t_before.clamp(min=0)]"
        ),
        "where t_before is -1, alpha_bar is taken to be 0": but(DDIM, "torch.ones(1)", "torch.zeros(1)"),
        "t_before is left out": but(DDIM, BEFORE, "schedule.alpha_bars_prev[t]"),
        "this mixes for t_before - 1, as": but(DDIM, BEFORE, f"{BEFORE.removesuffix('[t_before + 1]')}[t_before]"),
        "this mixes for t_before + 1": but(DDIM, BEFORE, "schedule.alpha_bars[t_before + 1]"),
        "as alpha_bars_prev[t_before] does": but(DDIM, BEFORE, "schedule.alpha_bars_prev[t_before]"),
        "this mixes for t_before - 1, except at the end": but(
            DDIM, BEFORE, "torch.where(t_before < 0, 1, schedule.alpha_bars_prev[t_before])"
        ),
        "this mixes for t_before + 1, except at the end": but(
            DDIM, BEFORE, "torch.where(t_before == -1, 1, schedule.alpha_bars[t_before + 1])"
        ),
        "t_before = 0 is treated as the end": [
            but(DDIM, BEFORE, "torch.where(t_before <= 0, 1, schedule.alpha_bars[t_before])"),
            but(DDIM, BEFORE, "torch.where(t_before > 0, schedule.alpha_bars[t_before], 1)"),
        ],
        "for the whole batch as soon as one t_before is -1": but(
            DDIM, "x_0 =", "if (t_before < 0).any():\n    before = torch.ones(())\nx_0 ="
        ),
        "asked of the first picture alone": but(
            DDIM, BEFORE, "(schedule.alpha_bars[t_before] if t_before[0] >= 0 else torch.ones(len(t)))"
        ),
        "t and t_before have changed places": but(DDIM, "ab, before", "before, ab"),
        "both square roots are missing": but(DDIM, "before.sqrt()", "before", "(1 - before).sqrt()", "(1 - before)"),
        "x_0_hat gets the factor sqrt(alpha_bar of t_before)": but(DDIM, "before.sqrt()", "before"),
        "eps_hat gets the factor sqrt(1 - alpha_bar of t_before)": but(DDIM, "(1 - before).sqrt()", "(1 - before)"),
        "take away sqrt(1 - alpha_bar) * eps_hat": but(DDIM, "(1 - ab).sqrt()", "(1 - ab)"),
        "it is divided by sqrt(alpha_bar)": but(DDIM, "/ ab.sqrt()", "/ ab"),
        "x_0_hat is not divided": but(DDIM, " / ab.sqrt()", ""),
        "x_t is mixed with noise once more": but(DDIM, "* x_0 +", "* x_t +"),
        "x_0_hat is x_t - eps_hat": but(DDIM, "(x_t - (1 - ab).sqrt() * eps_hat) / ab.sqrt()", "x_t - eps_hat"),
        "in x_0_hat the noise is added": but(DDIM, "x_t - (1", "x_t + (1"),
        "it returns x_0_hat": but(DDIM, "before.sqrt() * x_0 + (1 - before).sqrt() * eps_hat", "x_0"),
        "no noise is left": but(DDIM, " + (1 - before).sqrt() * eps_hat", ""),
        "comes back at full strength": but(DDIM, "(1 - before).sqrt() * eps_hat", "eps_hat"),
        "x_0_hat is not shrunk": but(DDIM, "before.sqrt() * x_0", "x_0"),
        "eps_hat is subtracted": but(DDIM, "x_0 + (1", "x_0 - (1"),
        "x_t stands in the mixture": but(DDIM, "(1 - before).sqrt() * eps_hat", "(1 - before).sqrt() * x_t"),
        "the two factors have changed places": but(DDIM, "return ", "before = 1 - before\nreturn "),
        "read from alphas": but(DDIM, "schedule.alpha_bars", "schedule.alphas"),
        "predict_x_0(schedule, x_t, t, eps_hat)": but(
            DDIM, "(x_t - (1 - ab).sqrt() * eps_hat)", "(eps_hat - (1 - ab).sqrt() * x_t)"
        ),
        "the mean of the posterior": "return posterior(schedule, predict_x_0(schedule, x_t, t, eps_hat), x_t, t)[0]",
        "is clipped to [-1, 1]": but(DDIM, " / ab.sqrt()", " / ab.sqrt()\nx_0 = x_0.clamp(-1, 1)"),
        "draw none of your own": [
            but(DDIM, "return ", "return 0.1 * torch.randn_like(x_t) + "),
            but(DDIM, "(1 - before).sqrt() * eps_hat", "(1 - before).sqrt() * torch.randn_like(x_t)"),
        ],
        "whatever eps_hat is": "torch.manual_seed(0)\neps_hat = torch.randn(x_t.shape)" + DDIM,
        "not right yet: t has shape (B,)": but(DDIM, ".view(-1, 1, 1, 1)", ""),
        "the t of the first one is used for all": but(
            DDIM, "[t + 1]", "[t[:1] + 1]", "[t_before + 1]", "[t_before[:1] + 1]"
        ),
        "it stops with ValueError": """
            x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
            return add_noise(schedule, x_0_hat, t_before, eps_hat)
            """,
        "use torch.where": f"if t_before < 0:\n    return predict_x_0(schedule, x_t, t, eps_hat){DDIM}",
        "the shape is right, but not the numbers": but(DDIM, "before.sqrt() * x_0", "before**2 * x_0"),
    },
    "v_to_eps": {
        "that is x_0_hat": but(V, "ab.sqrt() * v + (1 - ab).sqrt() * x_t", "ab.sqrt() * x_t - (1 - ab).sqrt() * v"),
        "the sign of x_t is wrong": but(V, "v + (1", "v - (1"),
        "the sign of v is wrong": but(V, "return ab", "return -ab"),
        "both square roots are missing": but(V, ".sqrt()", ""),
        "v gets the factor sqrt(alpha_bar)": but(V, "ab.sqrt()", "ab"),
        "a root is missing: x_t gets the factor": but(V, "(1 - ab).sqrt()", "(1 - ab)"),
        "first subtract, then take the root": but(V, "(1 - ab).sqrt()", "(1 - ab.sqrt())"),
        "the two factors have changed places": but(V, "return", "ab = 1 - ab\nreturn"),
        "with x_t in the place of x_0": but(
            V, "return ab.sqrt() * v + (1 - ab).sqrt() * x_t", "return (v + (1 - ab).sqrt() * x_t) / ab.sqrt()"
        ),
        "from v's definition, eps = (v + sqrt": [
            f"{V_BY_X_0}return (v - (1 - ab).sqrt() * x_0) / ab.sqrt()",
            f"{V_BY_X_0}return v / ab.sqrt() - x_0 * torch.sqrt((1 - ab) / ab)",
        ],
        "v is taken for a clean picture": "return predict_eps(schedule, x_t, t, v)",
        "v is taken for the noise": "return predict_x_0(schedule, x_t, t, v)",
        "v comes in at full strength": but(V, "ab.sqrt() * v", "v"),
        "x_t comes in at full strength": but(V, "(1 - ab).sqrt() * x_t", "x_t"),
        "v is left out": but(V, "ab.sqrt() * v + ", ""),
        "x_t is left out": but(V, " + (1 - ab).sqrt() * x_t", ""),
        "alphas[t] stands where": but(V, "alpha_bars", "alphas"),
        "betas[t] stands where": but(V, "alpha_bars", "betas"),
        "this uses alpha_bars[t - 1]": but(V, "[t]", "[t - 1]"),
        "this uses the alpha_bar before t": but(V, "alpha_bars", "alpha_bars_prev"),
        "the t of the first one is used for all": but(V, "[t].view(-1, 1, 1, 1)", "[t[0]]"),
        "not right yet: t has shape (B,)": but(V, ".view(-1, 1, 1, 1)", ""),
        "steps are counted from 0 to 19": but(V, "[t]", "[t + 1]"),
        "whatever schedule and t are": "return v + x_t / 3",
        "draw none of your own": f"{V} + torch.randn_like(v)",
        "the shape is right, but not the numbers": but(V, "ab.sqrt() * v", "ab**2 * v"),
    },
    "repaired_sampler": {
        "told 0, 1, ..., 19, the number of the step": but(SAMPLER, "(len(x),), t)", "(len(x),), 19 - t)"),
        "it should be its root, the deviation": [
            but(SAMPLER, "b.sqrt() * z", "b * z"),
            but(SAMPLER, "b.sqrt() * z", "b * (1 - ab / a) / (1 - ab) * z"),
        ],
        "noise is added at the last step": but(SAMPLER, "if t > 0", "if t >= 0"),
        "no fresh noise comes in": but(SAMPLER, "b.sqrt() * z", "0 * z"),
        "z comes in at full strength": but(SAMPLER, "b.sqrt() * z", "z"),
        "Algorithm 2 counts from 1": but(SAMPLER, "if t > 0", "if t > 1"),
        "`step` counts up: ask about t": [
            but(SAMPLER, "if t > 0", "if t < 19"),
            but(COUNTS_UP, "if t > 0", "if step > 0"),
        ],
        "eps_model is told t = 19, but alpha, beta and alpha_bar are those of t = 0": [
            but(COUNTS_UP, "in range(len(schedule))", "in reversed(range(len(schedule)))", "x),), t)", "x),), step)"),
            but(SAMPLER, "schedule.alpha_bars[t]", "schedule.alpha_bars[t]", "s[t]", "s[19 - t]"),
        ],
        "but alpha, beta and alpha_bar are those of t = 15: use the same number": but(SAMPLER, "s[t]", "s[t - 1]"),
        "in the step from t = 1 has the deviation 0.0931; it should be sqrt(beta), 0.186": but(
            SAMPLER, "+ b.sqrt()", "+ (0.5 if t == 1 else 1) * b.sqrt()"
        ),
        "on a schedule of 20 steps": [
            but(SAMPLER, "if t > 0", "if t > 2"),
            but(SAMPLER, "(len(x),), t)", "(len(x),), 19 - t)"),
            but(SAMPLER, "/ a.sqrt()", ""),
        ],
        "has the deviation": but(SAMPLER, "b.sqrt() * z", "0.5 * b.sqrt() * z"),
        "eps_model is told 20 down to 1": but(SAMPLER, "(len(x),), t)", "(len(x),), t + 1)"),
        "eps_model is told t = 19 at every step": but(SAMPLER, "(len(x),), t)", "(len(x),), 19)"),
        "eps_model is told t = 19, 18, ..., 1;": but(SAMPLER, "(len(x),), t)", "(len(x),), max(t, 1))"),
        "told different steps": but(SAMPLER, "torch.full((len(x),), t)", "torch.arange(len(x)) % 20"),
        "eps_model needs t as a long tensor (B,)": [
            but(SAMPLER, "torch.full((len(x),), t)", "t"),
            but(SAMPLER, "torch.full((len(x),), t)", "torch.tensor(t)"),
            but(SAMPLER, "torch.full((len(x),), t)", "torch.full((len(x),), t / 20)"),
            but(SAMPLER, "torch.full((len(x),), t)", "torch.full((len(x), 1), t)"),
        ],
        "eps_model needs pictures x_t (B, C, H, W) and then t": but(
            SAMPLER, "x, torch.full((len(x),), t)", "torch.full((len(x),), t), x"
        ),
        "eps_model is asked 19 times": but(SAMPLER, "range(len(schedule))", "range(1, len(schedule))"),
        "eps_model is asked 40 times": but(SAMPLER, "z =", "eps_model(x, torch.full((len(x),), t))\n    z ="),
        "eps_model is never asked": "return torch.randn(x_T.shape, generator=generator)",
        "the first x_t that eps_model is given is not x_T": but(
            SAMPLER, "x = x_T", "x = torch.randn(x_T.shape, generator=generator)"
        ),
        "does not lead to (x_t - beta / sqrt(1 - alpha_bar) * eps_hat) / sqrt(alpha), with": [
            but(SAMPLER, "/ a.sqrt()", ""),
            but(SAMPLER, "b / (1 - ab).sqrt() * ", ""),
            but(SAMPLER, "x - b", "x + b"),
            but(SAMPLER, "* eps_hat)", "* eps_hat).clamp(-1, 1)"),
            but(SAMPLER, "b / (1 - ab).sqrt()", "b / (1 - ab)"),
        ],
        "the last step, from t = 0, does not lead to": but(SAMPLER, "return x", "return x / 2"),
        "all pictures of the batch get the same fresh noise": but(
            SAMPLER, "z = torch.randn(x.shape", "z = torch.randn(x[:1].shape"
        ),
        "the noise is the same at every step": but(
            SAMPLER,
            "    z = torch.randn(x.shape, generator=generator)\n",
            "",
            "x = x_T",
            "x = x_T\nz = torch.randn(x.shape, generator=generator)",
        ),
        "gives other pictures: hand it on": but(
            SAMPLER, "torch.randn(x.shape, generator=generator)", "torch.randn_like(x)"
        ),
        "the same for every generator": but(
            SAMPLER, "x = x_T", "x = x_T\ngenerator = torch.Generator().manual_seed(3)"
        ),
        "some of the numbers in x_t are NaN or infinite": [
            but(SAMPLER, "a.sqrt()", "(a - 1).sqrt()"),
            but(SAMPLER, "a.sqrt()", "(a - 1).sqrt()", "return x", "return x.nan_to_num()"),
        ],
        "eps_model is given x_t of shape (1, 1, 4, 4)": but(
            SAMPLER, "eps_model(x, torch.full((len(x),), t))", "eps_model(x[:1], torch.full((1,), t))"
        ),
        "it returns the shape (16, 2000)": f"{SAMPLER}.reshape(16, -1)",
        "it is a generator": but(SAMPLER, "return x", "    yield x"),
        "changes one of its inputs in place": but(SAMPLER, "return x", "x_T.zero_()\nreturn x"),
        "an endless loop": "while True:\n    pass",
        "it returns None": but(SAMPLER, "return x", ""),
    },
    "repaired_loop": {
        "all pictures of the batch share one t": [
            but(LOOP, "(len(x_0),), generator=generator)", "(1,), generator=generator).expand(len(x_0))"),
            but(LOOP, "(len(x_0),), generator=generator)", "(1,), generator=generator).repeat(len(x_0))"),
        ],
        "use the very eps that was mixed in": [
            but(LOOP, "- eps)", "- torch.randn(x_0.shape, generator=generator))"),
            but(LOOP, "t, eps)", "t, torch.randn(x_0.shape, generator=generator))"),
        ],
        "the gradients add up": [
            but(LOOP, "    optimizer.zero_grad()\n", ""),
            but(LOOP, "    optimizer.zero_grad()\n", "", "losses = []", "losses = []\noptimizer.zero_grad()"),
        ],
        "given the clean picture": but(LOOP, "eps_model(x_t, t)", "eps_model(x_0, t)"),
        "compared with the picture x_0": but(LOOP, "- eps)", "- x_0)"),
        "compared with the noisy x_t": but(LOOP, "- eps)", "- x_t)"),
        "the weights never change": [
            but(LOOP, "    optimizer.step()\n", ""),
            but(
                LOOP,
                "    optimizer.zero_grad()\n    loss.backward()\n",
                "    loss.backward()\n    optimizer.zero_grad()\n",
            ),
            but(LOOP, "    loss.backward()\n", ""),
            but(LOOP, "    loss.backward()\n    optimizer.step()\n", "    optimizer.step()\n    loss.backward()\n"),
        ],
        "after the first batch the weights are the same": but(
            LOOP,
            "    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()\n",
            "    optimizer.step()\n    optimizer.zero_grad()\n    loss.backward()\n",
        ),
        "for 4 batches optimizer.step() is called 8 times": [
            but(LOOP, "    optimizer.step()", "    optimizer.step()\n    optimizer.step()"),
            but(LOOP, "    optimizer.step()", "    optimizer.step()\n    optimizer.zero_grad()\n    optimizer.step()"),
        ],
        "a later one is not": but(LOOP, "    optimizer.step()", "    len(losses) in (2, 3) or optimizer.step()"),
        "of 4 batches eps_model is asked 8 times": but(LOOP, "    x_t =", "    eps_model(x_0, t)\n    x_t ="),
        "of 4 batches eps_model is asked 0 times": "return [0.0 for x_0 in batches]",
        "append loss.item()": but(LOOP, "loss.item()", "loss"),
        "it should return the list of the losses": [
            but(LOOP, "return losses", "return losses[-1]"),
            but(LOOP, "return losses", "return losses[1:]"),
        ],
        "the losses should be plain numbers": but(LOOP, "loss.item()", "x_t"),
        "a loss in the list is": but(LOOP, "loss.item()", "len(x_0) * loss.item()"),
        "it takes the differences' absolute values": but(LOOP, "square", "abs"),
        "the loss is a sum; take the mean": but(LOOP, "mean", "sum"),
        "added at full strength": but(LOOP, "add_noise(schedule, x_0, t, eps)", "x_0 + eps"),
        "noise is not Gaussian": but(LOOP, "randn", "rand"),
        "all pictures of the batch get the same noise": but(
            LOOP, "randn(x_0.shape, generator=generator)", "randn(x_0[:1].shape, generator=generator).expand_as(x_0)"
        ),
        "every batch gets the same steps t": but(
            LOOP,
            "    t = torch.randint(len(schedule), (len(x_0),), generator=generator)\n",
            "",
            "losses = []",
            "losses = []\nt = torch.randint(len(schedule), (1000,), generator=generator)",
        ),
        "every batch gets the same noise": but(
            LOOP,
            "    eps = torch.randn(x_0.shape, generator=generator)\n",
            "",
            "losses = []",
            "losses = []\neps = torch.randn(batches[0].shape, generator=generator)",
        ),
        "hand it on to both": [
            but(LOOP, "(len(x_0),), generator=generator", "(len(x_0),)"),
            but(LOOP, "torch.randn(x_0.shape, generator=generator)", "torch.randn_like(x_0)"),
        ],
        "the same for every generator": but(
            LOOP, "losses = []", "losses = []\ngenerator = torch.Generator().manual_seed(3)"
        ),
        "t = 0 is never drawn": but(LOOP, "randint(len", "randint(1, len"),
        "eps_model is told steps from 1 to 20": but(LOOP, "(x_t, t)", "(x_t, t + 1)"),
        "eps_model needs t as a long tensor": but(LOOP, "(x_t, t)", "(x_t, t / 20)"),
        "eps_model is asked with x_t and t, two tensors; it got": but(LOOP, "(x_t, t)", "(x_t)"),
        "eps_model is given x_t of shape (1000,)": but(LOOP, "(x_t, t)", "(t, x_t)"),
        "changes the batches in place": but(LOOP, "    x_t =", "    x_0.mul_(0.5)\n    x_t ="),
        "are NaN": but(LOOP, "t, eps)", "t, eps).sqrt()"),
        "does not require grad": but(LOOP, "loss.backward()", "loss.detach().backward()"),
        "two shapes do not fit together": but(LOOP, "- eps)", "- t)"),
        "an endless loop": "while True:\n    pass",
    },
    "clinic": {
        "4 of 6 are right. Look at B again: bug 2 would look like this: every": "dict(A=6, B=2, C=1, D=5, E=3, F=4)",
        "bug 5 would look like this: digits, hardly worse": "dict(A=5, B=3, C=1, D=6, E=2, F=4)",
        "each of the numbers 1 to 6 belongs to one patient": [
            "dict(A=1, B=1, C=1, D=1, E=1, F=1)",
            "dict(A=6.4, B=3, C=1, D=5, E=2, F=4)",
            "dict(A=float('inf'), B=3, C=1, D=5, E=2, F=4)",
            "dict(A=torch.ones(2), B=3, C=1, D=5, E=2, F=4)",
        ],
        "a dict is wanted": "[6, 3, 1, 5, 2, 4]",
        "still without a diagnosis: A, C, D, E, F": '{"B": 3}',
        "still without a diagnosis: A, C, D, F": '{"A": ..., "B": 3, "C": ..., "D": ..., "E": 2, "F": ...}',
    },
    "luck": {
        "the root is missing": f"{VARIANCES}return (share_b - share_a) / (a + b)",
        "the two standard errors are added": f"{VARIANCES}return (share_b - share_a) / (a**0.5 + b**0.5)",
        "the sign is wrong": f"{VARIANCES}return (share_a - share_b) / (a + b) ** 0.5",
        "the sign is lost": f"{VARIANCES}return abs(share_a - share_b) / (a + b) ** 0.5",
        "only the first share is taken to be uncertain": f"{VARIANCES}return (share_b - share_a) / a**0.5",
        "not divided by count": f"{VARIANCES}return (share_b - share_a) / (count * (a + b)) ** 0.5",
        "one variance is subtracted": f"{VARIANCES}return (share_b - share_a) / (a - b) ** 0.5",
        "the variances are squared": f"{VARIANCES}return (share_b - share_a) / (a**2 + b**2) ** 0.5",
        "the brackets around share_b - share_a are missing": f"{VARIANCES}return share_b - share_a / (a + b) ** 0.5",
        "the fraction stands on its head": f"{VARIANCES}return (a + b) ** 0.5 / (share_b - share_a)",
        "the shares are mixed up": """
            a, b = share_a * (1 - share_b) / count, share_b * (1 - share_a) / count
            return (share_b - share_a) / (a + b) ** 0.5
            """,
        "the variance of one share, at the mean of both": """
            p = (share_a + share_b) / 2
            return (share_b - share_a) / (p * (1 - p) / count) ** 0.5
            """,
        "averaged, or halved": f"{but(VARIANCES, 'count', '(2 * count)')}return (share_b - share_a) / (a + b) ** 0.5",
        "whatever count is": f"{but(VARIANCES, 'count', '300')}return (share_b - share_a) / (a + b) ** 0.5",
        # Near in value to bugs with a name, where the shares are alike; these have none.
        "the shape is right, but not the numbers": [
            f"{VARIANCES}return (share_b - share_a) / (2 * (a + b)) ** 0.5",
            f"{VARIANCES}return (share_b - share_a) / ((a**0.5 + b**0.5) / 2)",
        ],
        "the two variances are averaged": f"{VARIANCES}return (share_b - share_a) / ((a + b) / 2) ** 0.5",
        "that is the standard error of the difference": f"{VARIANCES}return (a + b) ** 0.5",
        "that is the difference itself": "return share_b - share_a",
        "p * (1 - p) / count, not p / count": "return (share_b - share_a) / ((share_a + share_b) / count) ** 0.5",
    },
}
