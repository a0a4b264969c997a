"""The checks against answers that the package has never seen: right ones in many styles, and planted bugs."""

import inspect
import textwrap
from pathlib import Path

import nbformat
import pytest
import torch

import ddpm_core
from ddpm_core.course.exercises import EXERCISES
from ddpm_core.course.exercises.compare import Compare, edited
from ddpm_core.course.tutor import check

pytestmark = [
    pytest.mark.usefixtures("progress_file"),
    pytest.mark.filterwarnings(r"ignore:std\(\).*degrees of freedom"),  # of a planted bug: the deviation of no points
]

PREPARED = """
import math
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from ddpm_core import *
"""


def written(name: str, body: str):
    """The learner's function or value: its body is what stands in the table."""
    exercise, namespace = EXERCISES[name], {}
    if exercise.value:
        exec(f"{PREPARED}answer = {body}", namespace)
    else:
        body = textwrap.indent(textwrap.dedent(body).strip(), "    ")
        exec(f"{PREPARED}def answer({', '.join(exercise.parameters)}):\n{body}", namespace)
    return namespace["answer"]


def but(body: str, *edits: str) -> str:
    """The body with pieces replaced: old, new, old, new, ..."""
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        assert old in body
        body = body.replace(old, new)
    return body


# Right answers, written in other ways than the package's: loops, einsum, float64, the paper's other forms.
RIGHT = {
    "x_T": [
        "torch.randn((16, 3, 32, 32), generator=torch.Generator().manual_seed(7))",
        "torch.randn(16 * 3 * 32 * 32, generator=torch.Generator().manual_seed(7)).view(16, 3, 32, 32)",
        "torch.empty(16, 3, 32, 32).normal_(generator=torch.Generator().manual_seed(7))",
    ],
    "reverse_step": [
        "return (x_t - (1 - alpha) / math.sqrt(1 - alpha_bar) * eps_hat) / math.sqrt(alpha)",
        "return torch.as_tensor((x_t - beta * eps_hat / (1 - alpha_bar).sqrt()) / alpha.sqrt()).float()",
        """
        x_0_hat = (x_t - (1 - alpha_bar) ** 0.5 * eps_hat) / alpha_bar**0.5
        previous = alpha_bar / alpha
        return previous**0.5 * beta / (1 - alpha_bar) * x_0_hat + alpha**0.5 * (1 - previous) / (1 - alpha_bar) * x_t
        """,
    ],
    "census": [
        """
        shares, deviations = [], []
        belongs = [min(range(len(centres)), key=lambda k: float((p - centres[k]).norm())) for p in points]
        for k in range(len(centres)):
            own = points[[i for i, town in enumerate(belongs) if town == k]].numpy()
            shares.append(len(own) / len(points))
            deviations.append(np.sqrt(((own - own.mean(0)) ** 2).mean()))
        return np.array(shares), np.array(deviations)
        """,
        """
        members = F.one_hot(torch.cdist(points, centres).argmin(1), len(centres)).double()  # (N, K)
        away = ((points[:, None] - centres) ** 2).mean(-1).double()  # around the centre itself
        return torch.stack([members.mean(0), ((members * away).sum(0) / members.sum(0)).sqrt()])
        """,
        """
        nearest = ((points[:, None] - centres) ** 2).sum(2).argmin(1)
        shares = torch.bincount(nearest, minlength=len(centres)) / len(points)
        variances = [points[nearest == k].var(dim=0, unbiased=False).mean() for k in range(len(centres))]
        return shares, torch.stack(variances) ** 0.5
        """,
    ],
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
        return torch.stack(means), torch.stack(variances)
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
    "time_embedding": [
        "return TimeEmbedding(num_sinusoids, 4).sinusoids(t)",
        """
        out = torch.zeros(len(t), num_sinusoids, dtype=torch.float64)
        for row, step in enumerate(t.tolist()):
            for i in range(num_sinusoids // 2):
                angle = step / 10_000 ** (2 * i / num_sinusoids)
                out[row, i], out[row, i + num_sinusoids // 2] = math.sin(angle), math.cos(angle)
        return out
        """,
        """
        angles = torch.outer(t.float(), torch.logspace(0, -4, num_sinusoids // 2 + 1)[:-1])
        return torch.hstack([torch.sin(angles), torch.cos(angles)])
        """,
    ],
    "residual_block": [
        "return block(x, embedding)",
        """
        h = block.norm_1(x)
        h = block.conv_1(h * torch.sigmoid(h))
        both = block.scale_shift(F.silu(embedding))
        width = h.shape[1]
        h = block.norm_2(h)
        h = h + torch.einsum("bc,bchw->bchw", both[:, :width], h) + both[:, width:].reshape(-1, width, 1, 1)
        return block.conv_2(nn.SiLU()(h)) + block.shortcut(x)
        """,
    ],
    "middle_shape": ["(256, 12, 12)", "torch.Size([256, 12, 12])", "torch.tensor([256, 12, 12])"],
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
    "cross_attention": [
        "return F.scaled_dot_product_attention(q, k, v, attn_mask=~padding[:, None, :])",
        """
        scores = torch.einsum("bpd,bld->bpl", q.double(), k.double()) / math.sqrt(q.shape[-1])
        weights = scores.exp() * (~padding).double()[:, None]
        weights = weights / weights.sum(-1, keepdim=True)
        return torch.einsum("bpl,bld->bpd", weights, v.double())
        """,
        """
        out = torch.zeros_like(q)
        for b in range(len(q)):
            words = [i for i in range(k.shape[1]) if not padding[b, i]]
            for pixel in range(q.shape[1]):
                weights = torch.softmax(k[b, words] @ q[b, pixel] / q.shape[2] ** 0.5, 0)
                out[b, pixel] = (weights[:, None] * v[b, words]).sum(0)
        return out
        """,
    ],
    "guided": [
        "return guided(model, cond, null_cond, guidance_scale)",
        """
        def eps_model(x_t, t):
            null = null_cond.repeat(len(cond), 1)
            both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), cond=torch.cat([cond, null]))
            eps_cond, eps_uncond = both.chunk(2)
            return (1 - guidance_scale) * eps_uncond + guidance_scale * eps_cond
        return eps_model
        """,
        "return lambda x, t: torch.lerp(model(x, t, null_cond.expand_as(cond)), model(x, t, cond), guidance_scale)",
    ],
    "drop_condition": [
        "return drop_condition(cond, null_cond, p, generator)",
        """
        keep = torch.bernoulli(torch.full((len(cond), 1), 1 - p), generator=generator).long()
        return keep * cond + (1 - keep) * null_cond
        """,
        """
        out = cond.clone()
        for row in range(len(cond)):
            if torch.rand((), generator=generator) < p:
                out[row] = null_cond
        return out
        """,
    ],
}


@pytest.mark.parametrize("name, body", [(name, body) for name, bodies in RIGHT.items() for body in bodies])
def test_a_right_answer_written_differently_is_correct(name, body, capsys):
    check(name, written(name, body))
    assert capsys.readouterr().out.startswith(f"{name} is correct. 1 of")


X_T = "torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(7))"
STEP_BACK = "return (x_t - beta / (1 - alpha_bar)**.5 * eps_hat) / alpha**.5"
CENSUS = """
nearest = torch.cdist(points, centres).argmin(dim=1)
towns = [points[nearest == k] for k in range(len(centres))]
shares, deviations = [len(town) / len(points) for town in towns], [town.std(0).mean() for town in towns]
return shares, deviations"""
ADD = "ab = schedule.alpha_bars[t].view(-1, 1, 1, 1)\nreturn ab.sqrt() * x_0 + (1 - ab).sqrt() * eps"
COSINE = """
u = torch.linspace(0, 1, num_timesteps + 1).double()
f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
return (1 - f[1:] / f[:-1]).clamp(max=.999)"""
LATE = """
f = lambda u: math.cos((u + .008) / 1.008 * math.pi / 2) ** 2
return torch.tensor([min(.999, 1 - f(t / num_timesteps) / f((t - 1) / num_timesteps)) for t in range(num_timesteps)])"""
LOOKED_UP = """
a, b, ab = (v[t].reshape(-1, 1, 1, 1) for v in (schedule.alphas, schedule.betas, schedule.alpha_bars))
p = torch.cat([torch.ones(1), schedule.alpha_bars])[t].reshape(-1, 1, 1, 1)
"""
POSTERIOR = f"""{LOOKED_UP}
mean = p.sqrt() * b / (1 - ab) * x_0 + a.sqrt() * (1 - p) / (1 - ab) * x_t
return mean, (1 - p) / (1 - ab) * b"""
BAYES = f"""{LOOKED_UP}
variance = 1 / (a / b + 1 / (1 - p))
return variance * (a.sqrt() / b * x_t + p.sqrt() / (1 - p) * x_0), variance"""
STEP = f"{LOOKED_UP}return (x_t - b / (1 - ab).sqrt() * eps_hat) / a.sqrt() + ((1 - p) / (1 - ab) * b).sqrt() * z"
TWO_CALLS = """
x_0 = predict_x_0(schedule, x_t, t, eps_hat)
mean, variance = posterior(schedule, x_0, x_t, t)
return mean + variance.sqrt() * z"""
PREVIOUS = "torch.cat([torch.ones(1), schedule.alpha_bars])[t]"
ANGLES = """
half = num_sinusoids // 2
angles = t[:, None] * 10_000 ** (-torch.arange(half) / half)
return torch.cat([angles.sin(), angles.cos()], dim=1)"""
BLOCK = """
h = block.conv_1(F.silu(block.norm_1(x)))
scale, shift = block.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
return block.shortcut(x) + block.conv_2(F.silu(block.norm_2(h) * (1 + scale) + shift))"""
LOSS = """
t = torch.randint(len(schedule), (len(x_0),), generator=generator)
eps = torch.randn(x_0.shape, generator=generator)
return (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).square().mean()"""
MIXED, AT_T = "add_noise(schedule, x_0, t, eps)", "schedule.alpha_bars[t].view(-1, 1, 1, 1)"
VARIANCES = "a, b = share_a * (1 - share_a) / count, share_b * (1 - share_b) / count\n"
ATTENTION = """
scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
return scores.masked_fill(padding[:, None], -math.inf).softmax(-1) @ v"""
GUIDED = """
null = null_cond.expand_as(cond)
return lambda x, t: model(x, t, null) + guidance_scale * (model(x, t, cond) - model(x, t, null))"""
MIXTURE = "model(x, t, null) + guidance_scale * (model(x, t, cond) - model(x, t, null))"
DROP = "return torch.where(torch.rand(len(cond), 1, generator=generator) < p, null_cond, cond)"
MASK = "mask = torch.rand(len(cond), generator=generator) < p\n"

# Each exercise's planted bugs: words of the hint that the learner must get, and the learner's code, or several of them.
PLANTED = {
    "x_T": {
        "torch.rand draws evenly": but(X_T, "randn", "rand"),
        "this is no Gaussian": "2 * torch.rand(16, 3, 32, 32) - 1",
        "batch, channels, height, width": but(X_T, "3, 32, 32", "32, 32, 3"),
        "this has (16, 1, 32, 32)": "torch.randn(16, 1, 32, 32)",
        "some of the 16 pictures are the same noise": [
            "torch.randn(3, 32, 32).expand(16, 3, 32, 32)",
            f"{X_T}[:8].repeat(2, 1, 1, 1)",
        ],
        "the channels of a picture are the same noise": "torch.randn(16, 1, 32, 32).expand(16, 3, 32, 32)",
        "every number is 0": "torch.zeros(16, 3, 32, 32)",
        "noise of seed 7, but changed": [f"-{X_T}", f"{X_T} - {X_T}.mean()", f"{X_T}.half()"],
        "numbers of seed 7, but in another order": [
            but(X_T, "3, 32, 32", "32, 32, 3") + ".permute(0, 3, 1, 2)",
            f"{X_T}.flip(0)",
        ],
        "deviation 1; here they are 0.00 and 0.50": f"{X_T} * 0.5",
        "mean and deviation are right, but the numbers are not what seed 7 gives": [
            but(X_T, "7", "8"),
            but(X_T, "generator=", "dtype=torch.float64, generator="),
            "3**0.5 * (2 * torch.rand(16, 3, 32, 32) - 1)",
        ],
        "a tensor is wanted, from torch.randn; this is float64 ndarray": "np.random.randn(16, 3, 32, 32)",
        "NaN or infinite": "torch.full((16, 3, 32, 32), float('nan'))",
    },
    "reverse_step": {
        "takes away all the noise at once": "return x_t - eps_hat",
        "root is missing in beta / sqrt(1 - alpha_bar)": but(STEP_BACK, "(1 - alpha_bar)**.5", "(1 - alpha_bar)"),
        "division by sqrt(alpha) is missing": "return x_t - beta / math.sqrt(1 - alpha_bar) * eps_hat",
        "root is missing over alpha": but(STEP_BACK, "alpha**.5", "alpha", "beta", "(1 - alpha)"),
        "mind the sign": but(STEP_BACK, "x_t -", "x_t +"),
        "comes out as sqrt(beta), which is beta / sqrt(1 - alpha)": [
            but(STEP_BACK, "alpha_bar", "alpha"),
            "return (x_t - beta**.5 * eps_hat) / alpha**.5",
        ],
        "alpha and alpha_bar have changed places": but(
            STEP_BACK, "alpha_bar", "a", "alpha", "alpha_bar", "a)", "alpha)"
        ),
        "the root goes over beta, too": "return (x_t - (beta / (1 - alpha_bar))**.5 * eps_hat) / alpha**.5",
        "takes away too much": but(STEP_BACK, "beta / (1 - alpha_bar)**.5 * ", ""),
        "multiplied with beta alone": but(STEP_BACK, " / (1 - alpha_bar)**.5", ""),
        "all the noise that has gathered": but(STEP_BACK, "beta / ", ""),
        "only the noise is divided by sqrt(alpha)": but(STEP_BACK, "(x_t", "x_t", "eps_hat)", "eps_hat"),
        "sqrt(alpha_bar) stands where sqrt(1 - alpha_bar)": but(STEP_BACK, "(1 - alpha_bar)", "alpha_bar"),
        "both square roots are missing": but(STEP_BACK, "**.5", ""),
        "this is a step of noising": "return alpha**.5 * x_t + beta**.5 * eps_hat",
        "draw none of your own": f"{STEP_BACK} + beta**.5 * torch.randn(())",
        "whatever eps_hat and alpha_bar are": ["return x_t", "return x_t / (1 - beta) ** 0.5"],
        "the shape is right, but not the numbers": but(STEP_BACK, "x_t -", "x_t / (1 - alpha) -"),
        "that is x_0_hat": but(STEP_BACK, "beta / ", "", "alpha**.5", "alpha_bar**.5"),
        "it should return one number": "return torch.stack([x_t, eps_hat])",
    },
    "census": {
        "these are counts": but(CENSUS, "return shares", "return torch.bincount(nearest, minlength=len(centres))"),
        "the shares are in percent": but(CENSUS, "return shares", "return [100 * share for share in shares]"),
        "argmin, not argmax": but(CENSUS, "argmin", "argmax"),
        "deviations are variances": but(
            CENSUS, "return shares, deviations", "return shares, [d**2 for d in deviations]"
        ),
        "mixes the two directions": but(CENSUS, ".std(0)", ".std()"),
        "have changed places": but(CENSUS, "return shares, deviations", "return deviations, shares"),
        "should return two things, shares and deviations; it returns [": but(
            CENSUS, "return shares, deviations", "return shares"
        ),
        "the shares: it returns the shape (3,)": but(CENSUS, "range(len(centres))", "range(3)"),
        "divided by the number of towns": but(CENSUS, "len(points)", "len(centres)"),
        "two per point": but(CENSUS, "len(points)", "points.numel()"),
        "of no points, or of one, there is no deviation": [
            but(CENSUS, "range(len(centres))", "range(1, len(centres) + 1)"),
            but(CENSUS, "argmin(dim=1)", "argmin()"),
            but(CENSUS, "torch.cdist(points, centres)", "(points[:, None] - centres)[..., 0].abs()"),
        ],
        "wrong, in the shares alone": but(CENSUS, "return shares", "return sorted(shares)"),
        "wrong, in the deviations alone": but(CENSUS, "town.std(0)", "town.norm(dim=1)"),
        "wrong, in the shares and the deviations": but(CENSUS, "nearest == k", "nearest != k"),
        "the deviation is that of x from y": but(CENSUS, "std(0)", "std(1)"),
        "only the first axis": but(CENSUS, "std(0).mean()", "std(0)[0]"),
        "deviations are mean squares": but(
            CENSUS, "town.std(0).mean() for town in towns", "(p - c).square().mean() for p, c in zip(towns, centres)"
        ),
        "it returns float32 tensor of shape (3, 2)": but(
            CENSUS, "return shares, deviations", "return torch.tensor([*zip(shares, deviations)])"
        ),
        "mean distance from the centre": but(
            CENSUS, "town.std(0).mean() for town in towns", "(p - c).norm(dim=1).mean() for p, c in zip(towns, centres)"
        ),
        "all points count in every": but(CENSUS, "town.std(0)", "points.std(0)"),
        "the shares: it returns the shape (1000,)": "return torch.cdist(points, centres).argmin(1), centres",
    },
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
        "pick one per picture, alpha_bars[t]": but(ADD, "[t].view(-1, 1, 1, 1)", ""),
    },
    "cosine_betas": {
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
    "time_embedding": {
        "cosines and sines have changed places": but(
            ANGLES, "angles.sin(), angles.cos()", "angles.cos(), angles.sin()"
        ),
        "sines and cosines alternate": but(ANGLES, "cat", "stack", "dim=1)", "-1).reshape(len(t), -1)"),
        "mind the sign of the exponent": [but(ANGLES, "-torch", "torch"), but(ANGLES, "* 10_000", "/ 10_000")],
        "twice as fast as it should": but(ANGLES, "-torch", "-2 * torch"),
        "i goes from 1 to half": but(ANGLES, "arange(half)", "arange(1, half + 1)"),
        "the base is e": but(ANGLES, "10_000 ** (", "torch.exp("),
        "belong to t + 1": but(ANGLES, "t[:, None]", "(t[:, None] + 1)"),
        "both halves are cosines": but(ANGLES, ".sin", ".cos"),
        "of different frequencies": [
            but(ANGLES, "(half) / half", "(2 * half) / half / 2", "s.sin", "s[:, ::2].sin", "s.cos", "s[:, 1::2].cos"),
            but(
                ANGLES, "(half) / half", "(2 * half) / half / 2", "s.sin", "s[:, :half].sin", "s.cos", "s[:, half:].cos"
            ),
        ],
        "whatever t is": but(ANGLES, "t[:, None]", "torch.arange(len(t))[:, None]"),
        "the shape is right, but not the numbers": but(ANGLES, "t[:, None]", "t[:, None] / 1000"),
        "dividing by half - 1": but(ANGLES, "/ half", "/ (half - 1)"),
        "divide i by half": but(ANGLES, "/ half", "/ num_sinusoids"),
        "these are the angles": but(ANGLES, "angles.sin(), angles.cos()", "angles, angles"),
        "returns the shape (4, 8)": but(ANGLES, "dim=1", "dim=0"),
        "make it a column: t[:, None]": but(ANGLES, "t[:, None]", "t"),
    },
    "residual_block": {
        "the shortcut is missing": but(BLOCK, "block.shortcut(x) + ", ""),
        "it should be 1 + scale": but(BLOCK, "(1 + scale)", "scale"),
        "scale and shift have changed": but(BLOCK, "(1 + scale) + shift", "(1 + shift) + scale"),
        "time embedding is not heard": but(BLOCK, " * (1 + scale) + shift", ""),
        "come before norm_2": but(BLOCK, "(h) * (1 + scale) + shift", "(h * (1 + scale) + shift)"),
        "F.silu before conv_2 is missing": but(BLOCK, "F.silu(block.norm_2", "(block.norm_2"),
        "embedding goes through F.silu": but(BLOCK, "F.silu(embedding)", "embedding"),
        "the activation is relu": but(BLOCK, "silu", "relu"),
        "F.silu comes before norm_1": but(BLOCK, "F.silu(block.norm_1(x))", "block.norm_1(F.silu(x))"),
        "F.silu comes before norm_2": but(BLOCK, "F.silu(block.norm_2(h)", "(block.norm_2(F.silu(h))"),
        "F.silu comes before scale and shift": but(
            BLOCK, "F.silu(block.norm_2(h) * (1 + scale) + shift)", "F.silu(block.norm_2(h)) * (1 + scale) + shift"
        ),
        "both activations are missing": but(BLOCK, "F.silu(block", "(block"),
        "both norms are missing": but(BLOCK, "block.norm_1(x)", "x", "block.norm_2(h)", "h"),
        "conv_2 is missing": but(BLOCK, "block.conv_2", ""),
        "an activation comes after the sum": but(BLOCK, "return ", "return F.silu(", "+ shift))", "+ shift)))"),
        "the shortcut takes what norm_1": but(BLOCK, "shortcut(x)", "shortcut(block.norm_1(x))"),
        "F.silu comes after block.scale_shift": but(
            BLOCK, "block.scale_shift(F.silu(embedding))", "F.silu(block.scale_shift(embedding))"
        ),
        "the scale is added": but(BLOCK, "* (1 + scale)", "* 1 + scale"),
        "the shift multiplies, too": but(BLOCK, "(1 + scale) + shift", "(1 + scale + shift)"),
        "scale and shift come after conv_2": but(
            BLOCK, "(F.silu(block.norm_2(h) * (1 + scale) + shift))", "(F.silu(block.norm_2(h))) * (1 + scale) + shift"
        ),
        "whatever embedding is": "return block.shortcut(x)",
        "draw none of your own": but(BLOCK, "block.conv_2(", "F.dropout(block.conv_2(", "+ shift))", "+ shift)))"),
        "the shape is right, but not the numbers": but(BLOCK, "block.shortcut(x) +", "block.shortcut(x) -"),
        "two shapes do not fit": but(BLOCK, "block.shortcut(x)", "x"),
    },
    "middle_shape": {
        "6 is 96 after 4 halvings": "(256, 6, 6)",
        "24 is 96 after 2 halvings": "(256, 24, 24)",
        "48 is 96 after 1 halving;": "(256, 48, 48)",
        "channels first": ["(12, 12, 256)", "(12, 256, 12)", "(96, 96, 256)"],
        "leave out the batch": "torch.zeros(1, 256, 12, 12).shape",
        "H and W are the same": "(256, 12, 96)",
        "but not the 32 channels": "(32, 12, 12)",
        "not halved at all": "(256, 96, 96)",
        "three whole numbers are wanted": [
            "(256, 12.5, 12.5)",
            "(256, 12, float('inf'))",
            "torch.zeros(256, 12, 12)",
            "256 * 12 * 12",
        ],
    },
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
    "cross_attention": {
        "0 times infinity is NaN": but(
            ATTENTION, "scores.masked_fill(padding[:, None], -math.inf)", "(scores + padding[:, None] * -math.inf)"
        ),
        "0 times infinity is NaN, and so is": but(ATTENTION, "-math.inf", "math.inf"),
        "the softmax is missing": but(ATTENTION, ".softmax(-1)", ""),
        "goes over the batch": but(ATTENTION, "softmax(-1)", "softmax(0)"),
        "root of the number of tokens": but(ATTENTION, "q.shape[-1]", "k.shape[1]"),
        "root of the number of pixels": but(ATTENTION, "q.shape[-1]", "q.shape[1]"),
        "the weights are divided by sqrt(d)": but(
            ATTENTION, " / q.shape[-1] ** 0.5", "", "softmax(-1)", "softmax(-1) / q.shape[-1] ** 0.5"
        ),
        "the scores compare queries with values": but(ATTENTION, "q @ k", "q @ v"),
        "keys and values have changed places": "return F.scaled_dot_product_attention(q, v, k, ~padding[:, None])",
        "the mask of the first caption is used for all": but(ATTENTION, "padding[:", "padding[:1"),
        "the mask comes after the softmax": but(
            ATTENTION, ".softmax(-1)", "", "scores.masked", "scores.softmax(-1).masked"
        ),
        "the padding still takes part": [
            but(ATTENTION, "-math.inf", "-1"),
            "return F.scaled_dot_product_attention(q, k, v, padding[:, None].float())",
        ],
        "whatever q and k and padding are": "return v[:, :1].expand_as(q)",
        "padding (B, L) fits them as padding[:, None, :]": but(ATTENTION, "[:, None]", ""),
        "the shape is right, but not the numbers": but(ATTENTION, "q @ k", "-q @ k"),
        "not divided by sqrt(d)": but(ATTENTION, " / q.shape[-1] ** 0.5", ""),
        "the padding takes part": but(ATTENTION, ".masked_fill(padding[:, None], -math.inf)", ""),
        "softmax goes over the pixels": but(ATTENTION, "softmax(-1)", "softmax(1)"),
        "e^0 is 1": but(ATTENTION, "-math.inf", "0"),
        "no longer add up to 1": but(
            ATTENTION,
            "scores.masked_fill(padding[:, None], -math.inf).softmax(-1)",
            "(scores.softmax(-1) * ~padding[:, None])",
        ),
        "the padding is taken out after the softmax": but(
            ATTENTION, "scores.masked_fill(padding[:, None], -math.inf)", "scores", "@ v", "@ (v * ~padding[..., None])"
        ),
        "Multiply it with the values": but(ATTENTION, " @ v", ""),
        "multiplied with the keys": but(ATTENTION, "@ v", "@ k"),
        "the mask is upside down": "return F.scaled_dot_product_attention(q, k, v, attn_mask=padding[:, None, :])",
    },
    "guided": {
        "guidance_scale = 1 + w": but(
            GUIDED, MIXTURE, "(1 + guidance_scale) * model(x, t, cond) - guidance_scale * model(x, t, null)"
        ),
        "sign of the difference": but(
            GUIDED, "(model(x, t, cond) - model(x, t, null))", "(model(x, t, null) - model(x, t, cond))"
        ),
        "multiplies the whole conditional": but(GUIDED, MIXTURE, "guidance_scale * model(x, t, cond)"),
        "makes no difference: this is the conditional": but(GUIDED, MIXTURE, "model(x, t, cond)"),
        "unconditional prediction is not added": but(GUIDED, "model(x, t, null) + ", ""),
        "one condition per picture, (4, 3), and is given the shape (3,)": but(
            GUIDED, "null_cond.expand_as(cond)", "null_cond"
        ),
        "the second condition is zeros": but(GUIDED, "null_cond.expand_as(cond)", "torch.zeros_like(cond)"),
        "whatever null_cond is": but(GUIDED, "null_cond.expand_as(cond)", "torch.ones_like(cond)"),
        "whatever guidance_scale is": but(GUIDED, "guidance_scale", "7.5"),
        "the conditions are mixed": "return lambda x, t: model(x, t, null_cond + guidance_scale * (cond - null_cond))",
        "the brackets are missing": but(GUIDED, MIXTURE, "guidance_scale * model(x, t, cond) - model(x, t, null)"),
        "guidance_scale - 1": but(GUIDED, "guidance_scale", "(guidance_scale - 1)"),
        "multiplies the unconditional prediction": but(GUIDED, MIXTURE, "guidance_scale * model(x, t, null)"),
        "this adds scale * eps_cond": but(GUIDED, MIXTURE, "model(x, t, null) + guidance_scale * model(x, t, cond)"),
        "the order is model(x_t, t, cond)": [
            but(GUIDED, "lambda x, t", "lambda t, x"),
            but(GUIDED, "x, t, cond", "x, cond, t"),
        ],
        "the model takes three tensors": [
            but(GUIDED, "x, t, null", "x, t"),
            but(GUIDED, "null_cond.expand_as(cond)", "None"),
            "return model",
        ],
        "draw none of your own": f"{GUIDED} + torch.randn(())",
        "the shape is right, but not the numbers": but(GUIDED, "* (model", "* abs(model"),
        "it returns a tensor": but(
            GUIDED, "return lambda x, t:", "x, t = torch.zeros(4, 1, 2, 2), torch.zeros(4).long()\nreturn"
        ),
    },
    "drop_condition": {
        "single tokens are dropped": but(DROP, "len(cond), 1", "cond.shape"),
        "kept and dropped have changed places": but(DROP, "null_cond, cond", "cond, null_cond"),
        "dropped together": [but(DROP, "len(cond), 1", "1, 1"), f"{MASK}return torch.where(mask[0], null_cond, cond)"],
        "nothing is ever dropped, not even with p = 1. Is the mask used": [
            f"{MASK}return cond",
            f"{MASK}torch.where(mask[:, None], null_cond, cond)\nreturn cond.clone()",
            but(DROP, "null_cond, cond", "cond, cond"),
        ],
        "everything is always dropped, even with p = 0. Is the mask used": f"{MASK}return null_cond.expand_as(cond)",
        "all captions are always dropped": f"{MASK}return torch.where(mask.any(), null_cond, cond)",
        "all captions are always kept": "return null_cond.expand_as(cond) if p > 0.5 else cond",
        "become [1, 1, 1, 1, 1, 1]": but(DROP, "null_cond", "null_cond[0]"),
        "in the place of others": but(DROP, ", cond)", ", cond.flip(0))"),
        "a condition [2, 3, 4, 5, 6, 7] comes back as [3, 3, 4, 5, 6, 7]": but(
            DROP, "< p, null_cond", "< 2, null_cond + cond"
        ),
        "in each caption those in the same places": but(DROP, "len(cond), 1", "cond.shape[1]"),
        "whatever p is": [but(DROP, "< p", "< 0.3"), but(DROP, "< p", "< 0.5")],
        "torch.rand, not randn": but(DROP, "rand(", "randn("),
        "every generator drops the same": [
            but(DROP, "generator=generator", "generator=torch.Generator().manual_seed(0)"),
            "out = cond.clone()\nout[:int(p * len(cond))] = null_cond\nreturn out",
        ],
        "always exactly 1,200 of 4,000": """
            out = cond.clone()
            out[torch.randperm(len(cond), generator=generator)[:int(p * len(cond))]] = null_cond
            return out
            """,
        "as a column, dropped[:, None]": f"{MASK}return torch.where(mask, null_cond, cond)",
        "become zeros": "return cond * (torch.rand(len(cond), 1, generator=generator) >= p)",
        "15% are dropped; it should be 30%": but(DROP, "< p", "< p / 2"),
        "hand it on": but(DROP, ", generator=generator", ""),
        "token ids must stay": f"{DROP}.float()",
    },
}


@pytest.mark.parametrize(
    "name, words, body",
    [
        pytest.param(name, words, body, id=f"{name}-{words}")
        for name, planted in PLANTED.items()
        for words, bodies in planted.items()
        for body in ([bodies] if isinstance(bodies, str) else bodies)
    ],
)
def test_a_planted_bug_gets_its_own_hint(name, words, body, capsys):
    check(name, written(name, body))
    said = capsys.readouterr().out
    assert said.startswith(f"{name} is not right yet: ") and words in said


def test_every_exercise_has_at_least_four_planted_bugs_and_a_right_answer():
    assert set(RIGHT) == set(PLANTED) == set(EXERCISES)
    assert min(len(planted) for planted in PLANTED.values()) >= 4


@pytest.mark.parametrize(
    "name", [name for name, exercise in EXERCISES.items() if isinstance(exercise.examine, Compare)]
)
def test_each_listed_bug_can_be_made_and_told_from_the_others(name, capsys):
    compare = EXERCISES[name].examine
    for bug, words in compare.bugs.items():
        check(name, bug if callable(bug) else edited(compare.right, *bug))
        assert words in capsys.readouterr().out


def test_an_edit_that_finds_nothing_to_replace_is_refused():
    with pytest.raises(ValueError, match="'beta' in my_add_noise"):
        edited(EXERCISES["add_noise"].answer, "beta", "alpha")


@pytest.mark.parametrize("name", EXERCISES)
def test_what_is_revealed_is_correct_where_it_is_pasted_into_its_notebook(name, capsys):
    exercise = EXERCISES[name]
    [path] = (Path(__file__).parents[2] / "notebooks").glob(f"{exercise.notebook}_*.ipynb")
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    [asked] = [source for source in cells if f'check("{name}"' in source]
    assert asked.startswith(f"{exercise.value} = ..." if exercise.value else f"def {exercise.wanted}: ...")
    names: dict[str, object] = {}
    exec(next(source for source in cells if "from ddpm_core" in source), names)  # what a cell may use
    source = inspect.getsource(exercise.answer)
    exec(source, names)
    answer = names[exercise.answer.__name__]
    check(name, answer() if exercise.value else answer)
    assert capsys.readouterr().out.startswith(f"{name} is correct.")
    assert source.startswith("def ") and len(source.splitlines()) <= 10 and callable(names["show_source"])
    if exercise.general:
        assert names[exercise.general] is getattr(ddpm_core, exercise.general)


def test_checking_leaves_the_global_randomness_alone():
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    check("x_T", torch.ones(16, 3, 32, 32))
    check("add_noise", lambda schedule, x_0, t, eps: torch.randn_like(x_0))
    assert torch.equal(torch.randn(4), expected)
