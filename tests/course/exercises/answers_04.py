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
    "clinic": [
        'dict(A="6", B="3", C="1", D="5", E="2", F="4")',
        "dict(A=6.0, B=3.0, C=torch.tensor(1), D=5, E=2, F=4)",
    ],
    "luck": [
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

PLANTED = {
    "diffusion_loss": {
        "returns the sum": but(LOSS, "mean", "sum"),
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
        "the shape is right, but not the numbers": but(TWO_CALLS, "* z", "* z * (t > 1).view(-1, 1, 1, 1)"),
        "noise is added at the last step, t = 0, too": but(STEP, "((1 - p) / (1 - ab) * b).sqrt()", "b.sqrt()"),
        "its root, the deviation": but(STEP, "((1 - p) / (1 - ab) * b).sqrt()", "(1 - p) / (1 - ab) * b"),
        "root is missing in beta": but(STEP, "(1 - ab).sqrt()", "(1 - ab)"),
        "division by sqrt(alpha) is missing": but(STEP, " / a.sqrt()", ""),
        "reads alpha_bars[-1]": but(STEP, PREVIOUS, "schedule.alpha_bars[t - 1]"),
        "should be its root, the deviation": but(TWO_CALLS, "variance.sqrt()", "variance"),
        "not right yet: t has shape (B,)": but(STEP, ".reshape(-1, 1, 1, 1)", ""),
        "is clipped to [-1, 1]": but(TWO_CALLS, "eps_hat)", "eps_hat).clamp(-1, 1)"),
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
