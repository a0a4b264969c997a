"""Answers to the exercises of notebook 02: right ones in many styles, and planted bugs."""

from writing import LOOKED_UP, PREVIOUS, but

RIGHT = {
    "add_noise": [
        "return add_noise(schedule, x_0, t, eps)",
        """
        pictures = []
        for picture, step, noise in zip(x_0, t.tolist(), eps):
            kept = float(schedule.alpha_bars[step])
            pictures.append(math.sqrt(kept) * picture + math.sqrt(1 - kept) * noise)
        return torch.stack(pictures)
        """,
        """
        ab = torch.cumprod(1 - schedule.betas.double(), 0)[t]
        signal = torch.einsum("b,bchw->bchw", ab.sqrt(), x_0.double())
        return signal + torch.einsum("b,bchw->bchw", (1 - ab).sqrt(), eps.double())
        """,
    ],
    "cosine_betas": [
        "return cosine_betas(num_timesteps)",
        """
        def signal(step):
            return math.cos((step / num_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2
        return torch.tensor([min(1 - signal(i + 1) / signal(i), 0.999) for i in range(num_timesteps)])
        """,
        """
        f = torch.cos((torch.arange(num_timesteps + 1) / num_timesteps + 0.008) / 1.008 * torch.pi / 2).square()
        alpha_bars = f / f[0]
        return torch.minimum(1 - alpha_bars[1:] / alpha_bars[:-1], torch.tensor(0.999))
        """,
    ],
    "posterior": [
        "return posterior(schedule, x_0, x_t, t)",
        """
        means, variances = [], []
        for i in range(len(t)):
            step = int(t[i])
            a, ab = schedule.alphas[step].double(), schedule.alpha_bars[step].double()
            prev = schedule.alpha_bars[step - 1].double() if step > 0 else torch.tensor(1.0).double()
            means.append(prev.sqrt() * (1 - a) / (1 - ab) * x_0[i] + a.sqrt() * (1 - prev) / (1 - ab) * x_t[i])
            variances.append((1 - a) * (1 - prev) / (1 - ab))
        return torch.stack(means), torch.stack(variances).view(-1, 1, 1, 1)
        """,
        """
        prev = torch.cat([torch.ones(1), schedule.alpha_bars])[t][:, None, None, None]
        ab, b = schedule.alpha_bars[t][:, None, None, None], schedule.betas[t][:, None, None, None]
        precision = (1 - b) / b + 1 / (1 - prev)  # Bayes: a product of two Gaussians
        mean = ((1 - b).sqrt() / b * x_t + prev.sqrt() / (1 - prev) * x_0) / precision
        mean = torch.where(t.reshape(-1, 1, 1, 1) == 0, x_0, mean)
        return [mean, (1 / precision).expand_as(x_0)]
        """,
    ],
}

ADD = "ab = schedule.alpha_bars[t].view(-1, 1, 1, 1)\nreturn ab.sqrt() * x_0 + (1 - ab).sqrt() * eps"
COSINE = """
u = torch.linspace(0, 1, num_timesteps + 1).double()
f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
return (1 - f[1:] / f[:-1]).clamp(max=.999)"""
SIGNAL = """
def signal(u):
    return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
f = signal(torch.linspace(0, 1, num_timesteps + 1))
return (1 - f[1:] / f[:-1]).clamp(max=.999)"""
LATE = """
f = lambda u: math.cos((u + .008) / 1.008 * math.pi / 2) ** 2
return torch.tensor([min(.999, 1 - f(t / num_timesteps) / f((t - 1) / num_timesteps)) for t in range(num_timesteps)])"""
POSTERIOR = f"""{LOOKED_UP}
mean = p.sqrt() * b / (1 - ab) * x_0 + a.sqrt() * (1 - p) / (1 - ab) * x_t
return mean, (1 - p) / (1 - ab) * b"""
BAYES = f"""{LOOKED_UP}
variance = 1 / (a / b + 1 / (1 - p))
return variance * (a.sqrt() / b * x_t + p.sqrt() / (1 - p) * x_0), variance"""

PLANTED = {
    "add_noise": {
        "the picture's factor is alpha_bar": but(ADD, "ab.sqrt()", "ab"),
        "(1 - alpha_bar)^2": but(ADD, "(1 - ab).sqrt()", "(1 - ab)"),
        "both square roots are missing": but(ADD, ".sqrt()", ""),
        "first subtract, then take the root": but(ADD, "(1 - ab).sqrt()", "(1 - ab.sqrt())"),
        "have changed places": but(ADD, "return", "ab = 1 - ab\nreturn"),
        "draw none of your own": but(ADD, "* eps", "* torch.randn_like(eps)"),
        "whatever eps is": but(ADD, "ab =", "torch.manual_seed(0)\nab =", "* eps", "* torch.randn_like(eps)"),
        "whatever schedule and t are": "return x_0 + eps",
        "whatever t is": but(ADD, "[t].view(-1, 1, 1, 1)", "[-1]"),
        "the noise is subtracted": but(ADD, "+", "-"),
        "comes in at full strength": but(ADD, "(1 - ab).sqrt() * eps", "eps"),
        "that of one step, sqrt(beta)": but(ADD, "(1 - ab)", "schedule.betas[t].view(-1, 1, 1, 1)"),
        "that of one step, sqrt(alpha)": but(ADD, "ab.sqrt()", "schedule.alphas[t].view(-1, 1, 1, 1).sqrt()"),
        "betas[t] stands where alpha_bars[t]": but(ADD, "alpha_bars", "betas"),
        "x_t is clipped": but(ADD, "return ", "return (", "* eps", "* eps).clamp(-1, 1)"),
        "brackets should end before the noise": but(ADD, "x_0 +", "(x_0 +", "* eps", "* eps)"),
        "read from its far end": but(ADD, "alpha_bars", "alpha_bars.flip(0)"),
        "steps are counted from 0 to 19": but(ADD, "[t]", "[t + 1]"),
        "the shape is right, but not the numbers": but(ADD, "ab.sqrt() * x_0", "ab**2 * x_0"),
        "not right yet: t has shape (B,)": [
            but(ADD, ".view(-1, 1, 1, 1)", ""),
            but(ADD, ".view(-1, 1, 1, 1)", "[None]"),
        ],
        "on another axis of pictures (B, C, H, W) than the batch: reshape them to (B, 1, 1, 1)": [
            but(ADD, ".view(-1, 1, 1, 1)", "[:, None]"),
            but(ADD, ".view(-1, 1, 1, 1)", "[:, None, None]"),
            but(ADD, "(-1, 1, 1, 1)", "(1, -1, 1, 1)"),
        ],
        "the first one is used for all": but(ADD, "[t].view(-1, 1, 1, 1)", "[t[0]]"),
        "one step of noising": but(ADD, "alpha_bars", "alphas"),
        "off by one": but(ADD, "[t]", "[t - 1]"),
        "look them up: schedule.alpha_bars[t]": [
            "ab = torch.prod(1 - schedule.betas[: t + 1])\nreturn ab.sqrt() * x_0 + (1 - ab).sqrt() * eps",
            f"t = int(t)\n{ADD}",
            f"t = t.item()\n{ADD}",
        ],
        "pick one per picture, alpha_bars[t]": but(ADD, "[t].view(-1, 1, 1, 1)", ""),
    },
    "cosine_betas": {
        "torch.cos takes a tensor": [but(COSINE, "torch.cos", "math.cos"), SIGNAL],
        "some beta is above 0.999": [but(COSINE, ".clamp(max=.999)", ""), but(COSINE, "max=.999", "max=1")],
        "no beta is below 0.999": but(COSINE, "max=.999", ".999"),
        "these are the alphas": [
            but(COSINE, "(1 - f[1:] / f[:-1])", "(f[1:] / f[:-1])"),
            but(COSINE, "(1 - f[1:] / f[:-1]).clamp(max=.999)", "f[1:] / f[:-1]"),
        ],
        "these are 1 - alpha_bar_t": but(COSINE, "f[:-1]", "f[0]"),
        "differences of neighbouring alpha_bars": but(COSINE, "1 - f[1:] / f[:-1]", "f[:-1] - f[1:]"),
        "missing in the numerator": but(COSINE, "(u + 0.008)", "u"),
        "u is t / 1000": but(
            COSINE, "torch.linspace(0, 1, num_timesteps + 1).double()", "torch.arange(num_timesteps + 1) / 1000"
        ),
        "the sine stands": but(COSINE, "cos", "sin"),
        "lacks the factor pi / 2": but(COSINE, " * math.pi / 2", ""),
        "one place too early": but(
            COSINE, "linspace(0, 1, num", "linspace(1 / num_timesteps, 1 + 1 / num_timesteps, num"
        ),
        "only the first beta is wrong: 0, and it should be 0.02791": """
            f = torch.cos((torch.arange(1, num_timesteps + 1) / num_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2
            f = f / f[0]
            return torch.cat([1 - f[:1], 1 - f[1:] / f[:-1]]).clamp(max=.999)
            """,
        "the shape is right, but not the numbers": [
            but(COSINE, "** 2", "** 3"),
            but(COSINE, "(max=.999)", "(max=.999).flip(0)"),
        ],
        "square of the cosine is missing": but(COSINE, " ** 2", ""),
        "these are the alpha_bars": but(COSINE, "(1 - f[1:] / f[:-1]).clamp(max=.999)", "f[1:] / f[0]"),
        "the quotient stands on its head": [
            but(COSINE, "f[1:] / f[:-1]", "f[:-1] / f[1:]"),
            but(COSINE, "f[1:] / f[:-1]", "f[:-1] / f[1:]", ".double()", ""),
        ],
        "returns 11 numbers": but(COSINE, "(1 - f[1:] / f[:-1])", "torch.cat([f.new_zeros(1), 1 - f[1:] / f[:-1]])"),
        "returns 9 numbers": but(COSINE, "[1:]", "[1:-1]", "[:-1]", "[:-2]"),
        "offset 0.008 is missing": but(COSINE, "(u + 0.008) / 1.008", "u"),
        "one place too late": LATE,
    },
    "posterior": {
        "the variance has the shape (4,)": [
            but(POSTERIOR, "mean, (1 - p) / (1 - ab) * b", "mean, ((1 - p) / (1 - ab) * b).flatten()"),
            but(POSTERIOR, "mean, (1 - p) / (1 - ab) * b", "mean, ((1 - p) / (1 - ab) * b)[:, 0, 0, 0]"),
            "mean, variance = posterior(schedule, x_0, x_t, t)\nreturn mean, variance.flatten()",
        ],
        "the variance has the shape (4, 1)": but(
            POSTERIOR, "mean, (1 - p) / (1 - ab) * b", "mean, ((1 - p) / (1 - ab) * b)[..., 0, 0]"
        ),
        "the variance is beta": but(POSTERIOR, "mean, (1 - p) / (1 - ab) * b", "mean, b"),
        "that is the deviation": but(
            POSTERIOR, "mean, (1 - p) / (1 - ab) * b", "mean, ((1 - p) / (1 - ab) * b).sqrt()"
        ),
        "have changed places: return mean, variance": but(
            POSTERIOR, "mean, (1 - p) / (1 - ab) * b", "(1 - p) / (1 - ab) * b, mean"
        ),
        "should return two things": but(POSTERIOR, "mean, (1 - p) / (1 - ab) * b", "mean"),
        "reads alpha_bars[-1]": but(POSTERIOR, PREVIOUS, "schedule.alpha_bars[t - 1]"),
        "takes alpha_bars[0]": but(POSTERIOR, PREVIOUS, "schedule.alpha_bars[(t - 1).clamp(min=0)]"),
        "factors of x_0 and x_t have changed places": but(POSTERIOR, "* x_t", "* X", "* x_0", "* x_t", "* X", "* x_0"),
        "logarithm of the variance": but(POSTERIOR, "(1 - p) / (1 - ab) * b", "((1 - p) / (1 - ab) * b).log()"),
        "factor beta is missing": but(POSTERIOR, "mean, (1 - p) / (1 - ab) * b", "mean, (1 - p) / (1 - ab)"),
        "not divided by 1 - alpha_bar": but(POSTERIOR, "mean, (1 - p) / (1 - ab)", "mean, (1 - p)"),
        "neither factor is divided": but(POSTERIOR, " / (1 - ab) * x", " * x"),
        "both square roots are missing": but(POSTERIOR, "p.sqrt()", "p", "a.sqrt()", "a"),
        "the factor of x_t has sqrt(alpha_bar)": but(POSTERIOR, "a.sqrt()", "ab.sqrt()"),
        "x_t is subtracted": but(POSTERIOR, "x_0 + a", "x_0 - a"),
        "alpha_bar of t itself": but(POSTERIOR, PREVIOUS, "schedule.alpha_bars[t]"),
        "at t = 0 alpha_bar_prev is 0": but(POSTERIOR, "torch.ones(1)", "torch.zeros(1)"),
        "read from alphas": but(POSTERIOR, "(1), schedule.alpha_bars", "(1), schedule.alphas"),
        "wrong, in the variance alone: one is 0 ": but(POSTERIOR, "mean, (1 - p)", "mean, 0 * (1 - p)"),
        "wrong, in the mean alone": but(POSTERIOR, "p.sqrt() * b", "p.sqrt() * a"),
        "Only pictures with t = 0 are wrong": but(
            POSTERIOR, "mean, (1 - p) / (1 - ab) * b", "mean, ((1 - p) / (1 - ab) * b).clamp(min=.001)"
        ),
        "draw none of your own": but(POSTERIOR, "return mean", "return mean + torch.randn_like(mean)"),
        "whatever x_t is": but(POSTERIOR, " + a.sqrt() * (1 - p) / (1 - ab) * x_t", ""),
        "use torch.where": f"if t == 0:\n    return x_0, 0 * x_0{POSTERIOR}",
        "pick one per picture": but(POSTERIOR, PREVIOUS, PREVIOUS.removesuffix("[t]")),
        "missing over alpha_bar_prev": but(POSTERIOR, "p.sqrt()", "p"),
        "not right yet: t has shape (B,)": but(POSTERIOR, ".reshape(-1, 1, 1, 1)", ""),
        "x_0 is known for certain": but(BAYES, PREVIOUS, "schedule.alpha_bars[t - 1]"),
        "at t = 0 no variance is left before the step": BAYES,
    },
}
