"""The checks against answers that the package has never seen: right ones in many styles, and planted bugs."""

# A table of answers, one in a line where it can be:
# ruff: noqa: E501

import inspect
import textwrap
from pathlib import Path

import nbformat
import pytest
import torch

import ddpm_core
from ddpm_core.course import tutor as checks
from ddpm_core.course.exercises import EXERCISES

PREPARED = "import math\nimport numpy as np\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn\nfrom ddpm_core import *\n"


def written(name: str, body: str):
    """The learner's function or value: its body is what stands in the table."""
    parameters = EXERCISES[name].parameters
    namespace: dict[str, object] = {}
    if parameters is None:
        exec(f"{PREPARED}answer = {body}", namespace)
        return namespace["answer"]
    body = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    exec(f"{PREPARED}def answer({', '.join(parameters)}):\n{body}", namespace)
    return namespace["answer"]


@pytest.fixture(autouse=True)
def progress_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setattr(checks, "_in_this_kernel", set())


# Right answers, written in other ways than the package's: loops, einsum, float64, the paper's other forms.
RIGHT = [
    ("x_T", "torch.randn((16, 3, 32, 32), generator=torch.Generator().manual_seed(7))"),
    ("x_T", "torch.randn(16 * 3 * 32 * 32, generator=torch.Generator().manual_seed(7)).view(16, 3, 32, 32)"),
    ("x_T", "torch.empty(16, 3, 32, 32).normal_(generator=torch.Generator().manual_seed(7))"),
    ("reverse_step", "return (x_t - (1 - alpha) / math.sqrt(1 - alpha_bar) * eps_hat) / math.sqrt(alpha)"),
    ("reverse_step", "return torch.as_tensor((x_t - beta * eps_hat / (1 - alpha_bar).sqrt()) / alpha.sqrt()).float()"),
    (
        "reverse_step",
        """
        x_0_hat = (x_t - (1 - alpha_bar) ** 0.5 * eps_hat) / alpha_bar**0.5
        previous = alpha_bar / alpha
        return previous**0.5 * beta / (1 - alpha_bar) * x_0_hat + alpha**0.5 * (1 - previous) / (1 - alpha_bar) * x_t
        """,
    ),
    (
        "census",
        """
        shares, deviations = [], []
        belongs = [min(range(len(centres)), key=lambda k: float((p - centres[k]).norm())) for p in points]
        for k in range(len(centres)):
            own = points[[i for i, town in enumerate(belongs) if town == k]].numpy()
            shares.append(len(own) / len(points))
            deviations.append(float(np.sqrt(((own - own.mean(0)) ** 2).mean())))
        return shares, deviations
        """,
    ),
    (
        "census",
        """
        members = F.one_hot(torch.cdist(points, centres).argmin(1), len(centres)).double()  # (N, K)
        away = ((points[:, None] - centres) ** 2).mean(-1).double()  # around the centre itself
        return torch.stack([members.mean(0), ((members * away).sum(0) / members.sum(0)).sqrt()])
        """,
    ),
    (
        "census",
        """
        nearest = ((points[:, None] - centres) ** 2).sum(2).argmin(1)
        shares = torch.bincount(nearest, minlength=len(centres)) / len(points)
        variances = [points[nearest == k].var(dim=0, unbiased=False).mean() for k in range(len(centres))]
        return shares, torch.stack(variances) ** 0.5
        """,
    ),
    (
        "add_noise",
        """
        pictures = []
        for picture, step, noise in zip(x_0, t.tolist(), eps):
            kept = float(schedule.alpha_bars[step])
            pictures.append(math.sqrt(kept) * picture + math.sqrt(1 - kept) * noise)
        return torch.stack(pictures)
        """,
    ),
    (
        "add_noise",
        """
        ab = torch.cumprod(1 - schedule.betas.double(), 0)[t]
        return torch.einsum("b,bchw->bchw", ab.sqrt(), x_0.double()) + torch.einsum(
            "b,bchw->bchw", (1 - ab).sqrt(), eps.double())
        """,
    ),
    (
        "cosine_betas",
        """
        def signal(step):
            return math.cos((step / num_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2
        return torch.tensor([min(1 - signal(i + 1) / signal(i), 0.999) for i in range(num_timesteps)])
        """,
    ),
    (
        "cosine_betas",
        """
        f = torch.cos((torch.arange(num_timesteps + 1) / num_timesteps + 0.008) / 1.008 * torch.pi / 2).square()
        alpha_bars = f / f[0]
        return torch.minimum(1 - alpha_bars[1:] / alpha_bars[:-1], torch.tensor(0.999))
        """,
    ),
    (
        "posterior",
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
    ),
    (
        "posterior",
        """
        prev = torch.cat([torch.ones(1), schedule.alpha_bars])[t][:, None, None, None]
        ab, b = schedule.alpha_bars[t][:, None, None, None], schedule.betas[t][:, None, None, None]
        precision = (1 - b) / b + 1 / (1 - prev)  # Bayes: a product of two Gaussians
        mean = ((1 - b).sqrt() / b * x_t + prev.sqrt() / (1 - prev) * x_0) / precision
        mean = torch.where(t.reshape(-1, 1, 1, 1) == 0, x_0, mean)
        return [mean, (1 / precision).expand_as(x_0)]
        """,
    ),
    (
        "time_embedding",
        """
        out = torch.zeros(len(t), num_sinusoids, dtype=torch.float64)
        for row, step in enumerate(t.tolist()):
            for i in range(num_sinusoids // 2):
                angle = step / 10_000 ** (2 * i / num_sinusoids)
                out[row, i], out[row, i + num_sinusoids // 2] = math.sin(angle), math.cos(angle)
        return out
        """,
    ),
    (
        "time_embedding",
        "angles = torch.outer(t.float(), torch.logspace(0, -4, num_sinusoids // 2 + 1)[:-1])\n"
        "return torch.hstack([torch.sin(angles), torch.cos(angles)])",
    ),
    (
        "residual_block",
        """
        h = block.norm_1(x)
        h = block.conv_1(h * torch.sigmoid(h))
        both = block.scale_shift(F.silu(embedding))
        width = h.shape[1]
        h = block.norm_2(h)
        h = h + torch.einsum("bc,bchw->bchw", both[:, :width], h) + both[:, width:].reshape(-1, width, 1, 1)
        return block.conv_2(nn.SiLU()(h)) + block.shortcut(x)
        """,
    ),
    ("middle_shape", "(256, 12, 12)"),
    ("middle_shape", "torch.Size([256, 12, 12])"),
    ("middle_shape", "torch.tensor([256, 12, 12])"),
    ("clinic", 'dict(A="6", B="3", C="1", D="5", E="2", F="4")'),
    ("clinic", "dict(A=6.0, B=3.0, C=torch.tensor(1), D=5, E=2, F=4)"),
    (
        "diffusion_loss",
        """
        eps = torch.randn(x_0.shape, generator=generator)  # the noise first, then the steps
        t = (torch.rand(len(x_0), generator=generator) * len(schedule)).long()
        return F.mse_loss(eps_model(add_noise(schedule, x_0, t, eps), t), eps)
        """,
    ),
    (
        "diffusion_loss",
        """
        T, B = len(schedule), x_0.shape[0]
        t = torch.randint(low=0, high=T, size=(B,), generator=generator)
        kept = schedule.alpha_bars[t].view(B, 1, 1, 1)
        eps = torch.randn(x_0.size(), generator=generator)
        eps_hat = eps_model(kept ** 0.5 * x_0 + (1 - kept) ** 0.5 * eps, t)
        return ((eps - eps_hat) ** 2).flatten(1).mean(1).mean()
        """,
    ),
    (
        "ddpm_step",
        """
        previous = torch.ones_like(schedule.alpha_bars)
        previous[1:] = schedule.alpha_bars[:-1]
        a, b, ab, p = (v[t].view(-1, 1, 1, 1) for v in (schedule.alphas, schedule.betas, schedule.alpha_bars, previous))
        mean = (x_t - b / torch.sqrt(1 - ab) * eps_hat) / torch.sqrt(a)
        return mean + torch.sqrt(b * (1 - p) / (1 - ab)) * torch.where(t.view(-1, 1, 1, 1) > 0, z, 0)
        """,
    ),
    (
        "ddpm_step",
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
    ),
    (
        "luck",
        "p, q, n = float(share_a), float(share_b), int(count)\nreturn (q - p) / math.sqrt((p - p**2 + q - q**2) / n)",
    ),
    (
        "luck",
        """
        together = (share_a + share_b) / 2  # as textbooks do: if both were the same
        return (share_b - share_a) / math.sqrt(2 * together * (1 - together) / count)
        """,
    ),
    ("cross_attention", "return F.scaled_dot_product_attention(q, k, v, attn_mask=~padding[:, None, :])"),
    (
        "cross_attention",
        """
        scores = torch.einsum("bpd,bld->bpl", q.double(), k.double()) / math.sqrt(q.shape[-1])
        weights = scores.exp() * (~padding).double()[:, None]
        weights = weights / weights.sum(-1, keepdim=True)
        return torch.einsum("bpl,bld->bpd", weights, v.double())
        """,
    ),
    (
        "cross_attention",
        """
        out = torch.zeros_like(q)
        for b in range(len(q)):
            words = [i for i in range(k.shape[1]) if not padding[b, i]]
            for pixel in range(q.shape[1]):
                weights = torch.softmax(k[b, words] @ q[b, pixel] / q.shape[2] ** 0.5, 0)
                out[b, pixel] = (weights[:, None] * v[b, words]).sum(0)
        return out
        """,
    ),
    (
        "guided",
        """
        def eps_model(x_t, t):
            null = null_cond.repeat(len(cond), 1)
            eps_cond, eps_uncond = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([cond, null])).chunk(2)
            return (1 - guidance_scale) * eps_uncond + guidance_scale * eps_cond
        return eps_model
        """,
    ),
    (
        "guided",
        "return lambda x, t: torch.lerp(model(x, t, null_cond.expand_as(cond)), model(x, t, cond), guidance_scale)",
    ),
    (
        "drop_condition",
        """
        keep = torch.bernoulli(torch.full((len(cond), 1), 1 - p), generator=generator).long()
        return keep * cond + (1 - keep) * null_cond
        """,
    ),
    (
        "drop_condition",
        """
        out = cond.clone()
        for row in range(len(cond)):
            if torch.rand((), generator=generator) < p:
                out[row] = null_cond
        return out
        """,
    ),
]


@pytest.mark.parametrize("name, body", RIGHT, ids=[f"{name}-{i}" for i, (name, _) in enumerate(RIGHT)])
def test_a_right_answer_written_differently_is_correct(name, body, capsys):
    checks.check(name, written(name, body))
    assert capsys.readouterr().out.startswith(f"{name} is correct. 1 of")


FULL = "ab = schedule.alpha_bars[t].reshape(-1, 1, 1, 1)\n"
STEP = """
a, b, ab = (v[t].reshape(-1, 1, 1, 1) for v in (schedule.alphas, schedule.betas, schedule.alpha_bars))
p = torch.cat([torch.ones(1), schedule.alpha_bars])[t].reshape(-1, 1, 1, 1)
"""
POSTERIOR = STEP + "mean = p.sqrt() * b / (1 - ab) * x_0 + a.sqrt() * (1 - p) / (1 - ab) * x_t\n"
LOSS = "t = torch.randint(len(schedule), (len(x_0),), generator=generator)\neps = torch.randn(x_0.shape, generator=generator)\n"
BLOCK = (
    "h = block.conv_1(F.silu(block.norm_1(x)))\n"
    "scale, shift = block.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)\n"
)
COSINE = "u = torch.linspace(0, 1, num_timesteps + 1).double()\nf = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2\n"
ANGLES = "half = num_sinusoids // 2\nangles = t[:, None] * 10_000 ** (-torch.arange(half) / half)\n"
SCORES = "scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5\n"
NEAREST = (
    "nearest = torch.cdist(points, centres).argmin(dim=1)\n"
    "towns = [points[nearest == k] for k in range(len(centres))]\n"
    "shares, deviations = [len(town) / len(points) for town in towns], [town.std(0).mean() for town in towns]\n"
)
VARIANCES = "a, b = share_a * (1 - share_a) / count, share_b * (1 - share_b) / count\n"
TWO = "null = null_cond.expand_as(cond)\n"

# exercise, the learner's code, words of the hint that it must get
MUTANTS = [
    ("x_T", "torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(7))", "torch.rand draws evenly"),
    ("x_T", "2 * torch.rand(16, 3, 32, 32) - 1", "this is no Gaussian"),
    ("x_T", "torch.randn(16, 32, 32, 3, generator=torch.Generator().manual_seed(7))", "batch, channels, height, width"),
    ("x_T", "torch.randn(16, 1, 32, 32)", "this has (16, 1, 32, 32)"),
    ("x_T", "torch.randn(3, 32, 32).expand(16, 3, 32, 32)", "the same noise"),
    (
        "x_T",
        "torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(7)) * 0.5",
        "deviation 1; here they are 0.00 and 0.50",
    ),
    ("x_T", "torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(8))", "not what seed 7 gives"),
    ("x_T", "np.random.randn(16, 3, 32, 32)", "a tensor is wanted, from torch.randn; this is float64 ndarray"),
    ("reverse_step", "return x_t - eps_hat", "takes away all the noise at once"),
    (
        "reverse_step",
        "return (x_t - beta / (1 - alpha_bar) * eps_hat) / alpha**0.5",
        "root is missing in beta / sqrt(1 - alpha_bar)",
    ),
    ("reverse_step", "return x_t - beta / math.sqrt(1 - alpha_bar) * eps_hat", "division by sqrt(alpha) is missing"),
    (
        "reverse_step",
        "return (x_t - (1 - alpha) / (1 - alpha_bar)**.5 * eps_hat) / alpha",
        "root is missing over alpha",
    ),
    ("reverse_step", "return (x_t + beta / (1 - alpha_bar)**.5 * eps_hat) / alpha**.5", "mind the sign"),
    (
        "reverse_step",
        "return (x_t - beta / (1 - alpha)**.5 * eps_hat) / alpha**.5",
        "alpha stands where alpha_bar belongs",
    ),
    ("reverse_step", "return (x_t - (1 - alpha_bar)**.5 * eps_hat) / alpha_bar**.5", "that is x_0_hat"),
    ("census", NEAREST + "return torch.bincount(nearest, minlength=len(centres)), deviations", "these are counts"),
    ("census", NEAREST + "return [100 * share for share in shares], deviations", "the shares are in percent"),
    ("census", NEAREST.replace("argmin", "argmax") + "return shares, deviations", "argmin, not argmax"),
    ("census", NEAREST + "return shares, [d**2 for d in deviations]", "deviations are variances"),
    ("census", NEAREST.replace(".std(0)", ".std()") + "return shares, deviations", "mixes the two directions"),
    ("census", NEAREST + "return deviations, shares", "have changed places"),
    ("census", NEAREST + "return shares", "should return two things, shares and deviations; it returns ["),
    (
        "census",
        NEAREST.replace("range(len(centres))", "range(3)") + "return shares, deviations",
        "the shares: it returns the shape (3,)",
    ),
    (
        "census",
        NEAREST.replace("len(points)", "len(centres)") + "return shares, deviations",
        "the shape is right, but not the numbers",
    ),
    (
        "census",
        NEAREST + "return shares, [(points - c).norm(dim=1)[nearest == k].mean() for k, c in enumerate(centres)]",
        "mean distance from the centre",
    ),
    ("census", NEAREST + "return shares, [points.std(0).mean()] * len(centres)", "all points count in every"),
    ("census", "return torch.cdist(points, centres).argmin(1), centres", "the shares: it returns the shape (1000,)"),
    ("add_noise", FULL + "return ab * x_0 + (1 - ab).sqrt() * eps", "the picture's factor is alpha_bar"),
    ("add_noise", FULL + "return ab.sqrt() * x_0 + (1 - ab) * eps", "(1 - alpha_bar)^2"),
    ("add_noise", FULL + "return ab * x_0 + (1 - ab) * eps", "both square roots are missing"),
    ("add_noise", FULL + "return ab.sqrt() * x_0 + (1 - ab.sqrt()) * eps", "first subtract, then take the root"),
    ("add_noise", FULL + "return (1 - ab).sqrt() * x_0 + ab.sqrt() * eps", "have changed places"),
    ("add_noise", FULL + "return ab.sqrt() * x_0 + (1 - ab).sqrt() * torch.randn_like(eps)", "draw none of your own"),
    (
        "add_noise",
        "ab = schedule.alpha_bars[t]\nreturn ab.sqrt() * x_0 + (1 - ab).sqrt() * eps",
        "reshape them to (B, 1, 1, 1)",
    ),
    (
        "add_noise",
        "ab = schedule.alpha_bars[t[0]]\nreturn ab.sqrt() * x_0 + (1 - ab).sqrt() * eps",
        "the first one is used for all",
    ),
    (
        "add_noise",
        "ab = schedule.alphas[t].view(-1, 1, 1, 1)\nreturn ab.sqrt() * x_0 + (1 - ab).sqrt() * eps",
        "one step of noising",
    ),
    (
        "add_noise",
        "ab = schedule.alpha_bars[t - 1].view(-1, 1, 1, 1)\nreturn ab.sqrt() * x_0 + (1 - ab).sqrt() * eps",
        "off by one",
    ),
    ("luck", VARIANCES + "return (share_b - share_a) / (a + b)", "the root is missing"),
    ("luck", VARIANCES + "return (share_b - share_a) / (a**0.5 + b**0.5)", "the two standard errors are added"),
    ("luck", VARIANCES + "return (share_a - share_b) / (a + b) ** 0.5", "the sign is wrong"),
    ("luck", VARIANCES + "return abs(share_a - share_b) / (a + b) ** 0.5", "the sign is lost"),
    ("luck", VARIANCES + "return (share_b - share_a) / a**0.5", "only the first share is taken to be uncertain"),
    ("luck", VARIANCES + "return (share_b - share_a) / (count * (a + b)) ** 0.5", "not divided by count"),
    ("luck", VARIANCES + "return (share_b - share_a) / ((a + b) / 2) ** 0.5", "the two variances are averaged"),
    ("luck", VARIANCES + "return (a + b) ** 0.5", "that is the standard error of the difference"),
    ("luck", "return share_b - share_a", "that is the difference itself"),
    ("luck", "return (share_b - share_a) / ((share_a + share_b) / count) ** 0.5", "p * (1 - p) / count, not p / count"),
    ("cosine_betas", COSINE + "return 1 - f[1:] / f[:-1]", "no beta may be above 0.999"),
    (
        "cosine_betas",
        COSINE + "return (1 - f.sqrt()[1:] / f.sqrt()[:-1]).clamp(max=.999)",
        "square of the cosine is missing",
    ),
    ("cosine_betas", COSINE + "return f[1:] / f[0]", "these are the alpha_bars"),
    (
        "cosine_betas",
        COSINE + "return torch.cat([f.new_zeros(1), 1 - f[1:] / f[:-1]]).clamp(max=.999)",
        "returns 11 numbers",
    ),
    ("cosine_betas", COSINE + "return (1 - f[1:-1] / f[:-2]).clamp(max=.999)", "returns 9 numbers"),
    (
        "cosine_betas",
        "u = torch.linspace(0, 1, num_timesteps + 1)\nf = torch.cos(u * math.pi / 2) ** 2\nreturn (1 - f[1:] / f[:-1]).clamp(max=.999)",
        "offset 0.008 is missing",
    ),
    (
        "cosine_betas",
        "f = lambda u: math.cos((u + .008) / 1.008 * math.pi / 2) ** 2\nT = num_timesteps\n"
        "return torch.tensor([min(.999, 1 - f(t / T) / f((t - 1) / T)) for t in range(T)])",
        "one place too late",
    ),
    ("posterior", POSTERIOR + "return mean, b", "the variance is beta"),
    ("posterior", POSTERIOR + "return mean, ((1 - p) / (1 - ab) * b).sqrt()", "that is the deviation"),
    ("posterior", POSTERIOR + "return (1 - p) / (1 - ab) * b, mean", "have changed places: return mean, variance"),
    ("posterior", POSTERIOR + "return mean", "should return two things"),
    (
        "posterior",
        POSTERIOR.replace("torch.cat([torch.ones(1), schedule.alpha_bars])[t]", "schedule.alpha_bars[t - 1]")
        + "return mean, (1 - p) / (1 - ab) * b",
        "reads alpha_bars[-1]",
    ),
    (
        "posterior",
        POSTERIOR.replace(
            "torch.cat([torch.ones(1), schedule.alpha_bars])[t]", "schedule.alpha_bars[(t - 1).clamp(min=0)]"
        )
        + "return mean, (1 - p) / (1 - ab) * b",
        "takes alpha_bars[0]",
    ),
    (
        "posterior",
        STEP
        + "mean = p.sqrt() * b / (1 - ab) * x_t + a.sqrt() * (1 - p) / (1 - ab) * x_0\nreturn mean, (1 - p) / (1 - ab) * b",
        "factors of x_0 and x_t have changed places",
    ),
    (
        "posterior",
        STEP
        + "mean = p * b / (1 - ab) * x_0 + a.sqrt() * (1 - p) / (1 - ab) * x_t\nreturn mean, (1 - p) / (1 - ab) * b",
        "missing over alpha_bar_prev",
    ),
    (
        "posterior",
        POSTERIOR.replace(".reshape(-1, 1, 1, 1)", "") + "return mean, (1 - p) / (1 - ab) * b",
        "reshape them to (B, 1, 1, 1)",
    ),
    (
        "time_embedding",
        ANGLES + "return torch.cat([angles.cos(), angles.sin()], dim=1)",
        "cosines and sines have changed places",
    ),
    (
        "time_embedding",
        ANGLES + "return torch.stack([angles.sin(), angles.cos()], -1).reshape(len(t), -1)",
        "sines and cosines alternate",
    ),
    (
        "time_embedding",
        ANGLES.replace("-torch", "torch") + "return torch.cat([angles.sin(), angles.cos()], 1)",
        "the exponent needs a minus",
    ),
    (
        "time_embedding",
        ANGLES.replace("/ half", "/ (half - 1)") + "return torch.cat([angles.sin(), angles.cos()], 1)",
        "dividing by half - 1",
    ),
    (
        "time_embedding",
        ANGLES.replace("/ half", "/ num_sinusoids") + "return torch.cat([angles.sin(), angles.cos()], 1)",
        "divide i by half",
    ),
    ("time_embedding", ANGLES + "return torch.cat([angles, angles], 1)", "these are the angles"),
    ("time_embedding", ANGLES + "return torch.cat([angles.sin(), angles.cos()], dim=0)", "returns the shape (10, 8)"),
    (
        "residual_block",
        BLOCK + "return block.conv_2(F.silu(block.norm_2(h) * (1 + scale) + shift))",
        "the shortcut is missing",
    ),
    (
        "residual_block",
        BLOCK + "return block.shortcut(x) + block.conv_2(F.silu(block.norm_2(h) * scale + shift))",
        "it should be 1 + scale",
    ),
    (
        "residual_block",
        BLOCK + "return block.shortcut(x) + block.conv_2(F.silu(block.norm_2(h) * (1 + shift) + scale))",
        "scale and shift have changed",
    ),
    (
        "residual_block",
        BLOCK + "return block.shortcut(x) + block.conv_2(F.silu(block.norm_2(h)))",
        "time embedding is not heard",
    ),
    (
        "residual_block",
        BLOCK + "return block.shortcut(x) + block.conv_2(F.silu(block.norm_2(h * (1 + scale) + shift)))",
        "come before norm_2",
    ),
    (
        "residual_block",
        BLOCK + "return block.shortcut(x) + block.conv_2(block.norm_2(h) * (1 + scale) + shift)",
        "F.silu before conv_2 is missing",
    ),
    (
        "residual_block",
        BLOCK.replace("F.silu(embedding)", "embedding")
        + "return block.shortcut(x) + block.conv_2(F.silu(block.norm_2(h) * (1 + scale) + shift))",
        "embedding goes through F.silu",
    ),
    (
        "residual_block",
        BLOCK + "return x + block.conv_2(F.silu(block.norm_2(h) * (1 + scale) + shift))",
        "two shapes do not fit",
    ),
    ("middle_shape", "(256, 6, 6)", "once too often"),
    ("middle_shape", "(256, 24, 24)", "once too seldom"),
    ("middle_shape", "(12, 12, 256)", "channels first"),
    ("middle_shape", "(32, 12, 12)", "but not the 32 channels"),
    ("middle_shape", "(256, 96, 96)", "not halved at all"),
    (
        "diffusion_loss",
        LOSS + "return (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).square().sum()",
        "returns the sum",
    ),
    (
        "diffusion_loss",
        LOSS + "return (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).abs().mean()",
        "absolute values",
    ),
    (
        "diffusion_loss",
        LOSS + "return (eps_model(add_noise(schedule, x_0, t, eps), t) - x_0).square().mean()",
        "compared with the picture",
    ),
    (
        "diffusion_loss",
        LOSS + "return (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).square().mean().item()",
        "leave out .item()",
    ),
    ("diffusion_loss", LOSS + "return (eps_model(x_0, t) - eps).square().mean()", "given the clean picture"),
    ("diffusion_loss", LOSS + "return (eps_model(x_0 + eps, t) - eps).square().mean()", "added at full strength"),
    (
        "diffusion_loss",
        LOSS.replace("randn(", "rand(")
        + "return (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).square().mean()",
        "noise is not Gaussian",
    ),
    (
        "diffusion_loss",
        LOSS.replace("(len(x_0),)", "(1,)")
        + "t = t.expand(len(x_0))\nreturn (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).square().mean()",
        "share one t",
    ),
    (
        "diffusion_loss",
        LOSS.replace("randint(len", "randint(1, len")
        + "return (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).square().mean()",
        "t = 0 is never drawn",
    ),
    (
        "diffusion_loss",
        LOSS.replace("randint(len(schedule)", "randint(len(schedule) - 1")
        + "return (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).square().mean()",
        "the last step, t = T - 1, is never drawn",
    ),
    (
        "diffusion_loss",
        LOSS
        + "k = schedule.alpha_bars[t].view(-1, 1, 1, 1)\nreturn (eps_model(k.sqrt() * x_0 + (1 - k) * eps, t) - eps).square().mean()",
        "a square root is missing",
    ),
    (
        "diffusion_loss",
        LOSS
        + "eps_hat = eps_model(add_noise(schedule, x_0, t, eps), t)\nreturn (eps_hat - torch.randn(x_0.shape, generator=generator)).square().mean()",
        "the very eps that was mixed in",
    ),
    ("ddpm_step", STEP + "return (x_t - b / (1 - ab).sqrt() * eps_hat) / a.sqrt()", "no fresh noise comes in"),
    (
        "ddpm_step",
        STEP + "return (x_t - b / (1 - ab).sqrt() * eps_hat) / a.sqrt() + b.sqrt() * z",
        "noise is added at the last step, t = 0, too",
    ),
    (
        "ddpm_step",
        STEP + "return (x_t - b / (1 - ab).sqrt() * eps_hat) / a.sqrt() + (1 - p) / (1 - ab) * b * z",
        "its root, the deviation",
    ),
    (
        "ddpm_step",
        STEP + "return (x_t - b / (1 - ab) * eps_hat) / a.sqrt() + ((1 - p) / (1 - ab) * b).sqrt() * z",
        "root is missing in beta",
    ),
    (
        "ddpm_step",
        STEP + "return x_t - b / (1 - ab).sqrt() * eps_hat + ((1 - p) / (1 - ab) * b).sqrt() * z",
        "division by sqrt(alpha) is missing",
    ),
    (
        "ddpm_step",
        STEP + "p = schedule.alpha_bars[t - 1].reshape(-1, 1, 1, 1)\n"
        "return (x_t - b / (1 - ab).sqrt() * eps_hat) / a.sqrt() + ((1 - p) / (1 - ab) * b).sqrt() * z",
        "reads alpha_bars[-1]",
    ),
    (
        "ddpm_step",
        "x_0 = predict_x_0(schedule, x_t, t, eps_hat)\nmean, variance = posterior(schedule, x_0, x_t, t)\nreturn mean + variance * z",
        "its root, the deviation",
    ),
    (
        "ddpm_step",
        STEP.replace(".reshape(-1, 1, 1, 1)", "")
        + "return (x_t - b / (1 - ab).sqrt() * eps_hat) / a.sqrt() + ((1 - p) / (1 - ab) * b).sqrt() * z",
        "reshape them to (B, 1, 1, 1)",
    ),
    (
        "clinic",
        "dict(A=6, B=2, C=1, D=5, E=3, F=4)",
        "4 of 6 are right. Look at B again: bug 2 would look like this: everything black",
    ),
    ("clinic", "dict(A=5, B=3, C=1, D=6, E=2, F=4)", "bug 5 would look like this: digits, hardly worse"),
    ("clinic", "dict(A=1, B=1, C=1, D=1, E=1, F=1)", "each of the numbers 1 to 6 belongs to one patient"),
    ("clinic", "[6, 3, 1, 5, 2, 4]", "a dict is wanted"),
    ("clinic", '{"B": 3}', "still without a diagnosis: A, C, D, E, F"),
    ("clinic", '{"A": ..., "B": 3, "C": ..., "D": ..., "E": 2, "F": ...}', "still without a diagnosis: A, C, D, F"),
    (
        "diffusion_loss",
        "t = torch.randint(len(schedule), (len(x_0),))\neps = torch.randn(x_0.shape, generator=generator)\n"
        "return (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).square().mean()",
        "hand it on, generator=generator, to both draws",
    ),
    (
        "diffusion_loss",
        "generator = torch.Generator().manual_seed(3)\n"
        + LOSS
        + "return (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).square().mean()",
        "hand it on, generator=generator, to both draws",
    ),
    (
        "diffusion_loss",
        LOSS.replace("x_0.shape", "x_0[:1].shape")
        + "return (eps_model(add_noise(schedule, x_0, t, eps.expand_as(x_0)), t) - eps).square().mean()",
        "get the same noise",
    ),
    (
        "diffusion_loss",
        LOSS + "return (eps_model(add_noise(schedule, x_0, t, eps), t) - eps).square().sum((1, 2, 3)).mean()",
        "sums over the numbers of a picture",
    ),
    (
        "posterior",
        STEP + "p = schedule.alpha_bars[t - 1].reshape(-1, 1, 1, 1)\nvariance = 1 / (a / b + 1 / (1 - p))\n"
        "return variance * (a.sqrt() / b * x_t + p.sqrt() / (1 - p) * x_0), variance",
        "x_0 is known for certain",
    ),
    (
        "posterior",
        STEP
        + "variance = 1 / (a / b + 1 / (1 - p))\nreturn variance * (a.sqrt() / b * x_t + p.sqrt() / (1 - p) * x_0), variance",
        "at t = 0 no variance is left before the step",
    ),
    (
        "ddpm_step",
        "x_0 = predict_x_0(schedule, x_t, t, eps_hat).clamp(-1, 1)\nmean, variance = posterior(schedule, x_0, x_t, t)\nreturn mean + variance.sqrt() * z",
        "is clipped to [-1, 1]",
    ),
    (
        "cross_attention",
        SCORES + "return (scores + padding[:, None] * -math.inf).softmax(-1) @ v",
        "0 times infinity is NaN",
    ),
    (
        "time_embedding",
        "half = num_sinusoids // 2\nreturn t * 10_000 ** (-torch.arange(half) / half)",
        "make it a column: t[:, None]",
    ),
    (
        "add_noise",
        "ab = schedule.alpha_bars\nreturn ab.sqrt() * x_0 + (1 - ab).sqrt() * eps",
        "pick one a picture, alpha_bars[t]",
    ),
    ("reverse_step", "return torch.stack([x_t, eps_hat])", "it should return one number"),
    ("x_T", "torch.full((16, 3, 32, 32), float('nan'))", "NaN or infinite"),
    ("middle_shape", "(256, 12.5, 12.5)", "three whole numbers are wanted"),
    (
        "cross_attention",
        "scores = (q @ k.transpose(1, 2)).masked_fill(padding[:, None], -math.inf)\nreturn scores.softmax(-1) @ v",
        "not divided by sqrt(d)",
    ),
    ("cross_attention", SCORES + "return scores.softmax(-1) @ v", "the padding takes part"),
    (
        "cross_attention",
        SCORES + "return scores.masked_fill(padding[:, None], -math.inf).softmax(1) @ v",
        "softmax goes over the pixels",
    ),
    ("cross_attention", SCORES + "return scores.masked_fill(padding[:, None], 0).softmax(-1) @ v", "e^0 is 1"),
    ("cross_attention", SCORES + "return (scores.softmax(-1) * ~padding[:, None]) @ v", "no longer add up to 1"),
    (
        "cross_attention",
        SCORES + "return scores.masked_fill(padding[:, None], -math.inf).softmax(-1)",
        "Multiply it with the values",
    ),
    (
        "cross_attention",
        SCORES + "return scores.masked_fill(padding[:, None], -math.inf).softmax(-1) @ k",
        "multiplied with the keys",
    ),
    (
        "cross_attention",
        "return F.scaled_dot_product_attention(q, k, v, attn_mask=padding[:, None, :])",
        "the mask is upside down",
    ),
    (
        "guided",
        TWO + "return lambda x, t: (1 + guidance_scale) * model(x, t, cond) - guidance_scale * model(x, t, null)",
        "guidance_scale = 1 + w",
    ),
    (
        "guided",
        TWO + "return lambda x, t: model(x, t, null) + guidance_scale * (model(x, t, null) - model(x, t, cond))",
        "sign of the difference",
    ),
    ("guided", TWO + "return lambda x, t: guidance_scale * model(x, t, cond)", "multiplies the whole conditional"),
    ("guided", TWO + "return lambda x, t: model(x, t, cond)", "makes no difference: this is the conditional"),
    (
        "guided",
        TWO + "return lambda x, t: guidance_scale * (model(x, t, cond) - model(x, t, null))",
        "unconditional prediction is not added",
    ),
    (
        "guided",
        TWO
        + "x, t = torch.zeros(4, 1, 2, 2), torch.zeros(4).long()\nreturn model(x, t, null) + guidance_scale * (model(x, t, cond) - model(x, t, null))",
        "it returns a tensor",
    ),
    (
        "drop_condition",
        "return torch.where(torch.rand(cond.shape, generator=generator) < p, null_cond, cond)",
        "single tokens are dropped",
    ),
    (
        "drop_condition",
        "return torch.where(torch.rand(len(cond), 1, generator=generator) < p, cond, null_cond)",
        "kept and dropped have changed places",
    ),
    (
        "drop_condition",
        "return torch.where(torch.rand(1, 1, generator=generator) < p, null_cond, cond)",
        "dropped together",
    ),
    ("drop_condition", "return cond * (torch.rand(len(cond), 1, generator=generator) >= p)", "become zeros"),
    (
        "drop_condition",
        "return torch.where(torch.rand(len(cond), 1, generator=generator) < 0.1, null_cond, cond)",
        "10% are dropped; it should be 30%",
    ),
    ("drop_condition", "return torch.where(torch.rand(len(cond), 1) < p, null_cond, cond)", "hand it on"),
    (
        "drop_condition",
        "return torch.where(torch.rand(len(cond), 1, generator=generator) < p, null_cond, cond).float()",
        "token ids must stay",
    ),
]


@pytest.mark.parametrize("name, body, words", MUTANTS, ids=[f"{name}-{words[:30]}" for name, _, words in MUTANTS])
def test_a_planted_bug_gets_its_own_hint(name, body, words, capsys):
    checks.check(name, written(name, body))
    said = capsys.readouterr().out
    assert said.startswith(f"{name} is not right yet: ") and words in said


def test_every_exercise_has_at_least_four_planted_bugs_and_a_right_answer():
    for name in EXERCISES:
        assert sum(name == planted for planted, *_ in MUTANTS) >= 4, name
        assert any(name == right for right, _ in RIGHT), name
    assert len(MUTANTS) >= 60


@pytest.mark.parametrize(
    "name", ["add_noise", "posterior", "cosine_betas", "diffusion_loss", "guided", "drop_condition"]
)
def test_the_packages_own_function_is_correct(name, capsys):
    checks.check(name, getattr(ddpm_core, name))
    assert "correct" in capsys.readouterr().out


# What a cell of the notebook may use: the names that its first cells import.
def imported_in(notebook: str) -> dict[str, object]:
    [path] = (Path(__file__).parent.parent.parent / "notebooks").glob(f"{notebook}_*.ipynb")
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    names: dict[str, object] = {}
    exec(next(source for source in cells if "from ddpm_core" in source), names)
    return names


@pytest.mark.parametrize("name", [name for name, exercise in EXERCISES.items() if exercise.parameters])
def test_the_answer_revealed_is_correct_where_it_is_pasted_into_its_notebook(name, capsys):
    names = imported_in(EXERCISES[name].notebook)
    source = inspect.getsource(EXERCISES[name].answer)
    assert source.startswith(f"def my_{name}({', '.join(EXERCISES[name].parameters)}):\n")
    assert len(source.splitlines()) <= 10
    exec(source, names)
    checks.check(name, names[f"my_{name}"])
    assert capsys.readouterr().out.startswith(f"{name} is correct.")


@pytest.mark.parametrize("name", [name for name, exercise in EXERCISES.items() if exercise.general])
def test_the_general_form_can_be_shown_in_its_notebook(name):
    names = imported_in(EXERCISES[name].notebook)
    assert names[EXERCISES[name].general] is getattr(ddpm_core, EXERCISES[name].general)
    assert callable(names["show_source"])


def test_the_values_revealed_are_correct(capsys):
    answers = {name: EXERCISES[name].answer for name in EXERCISES if EXERCISES[name].parameters is None}
    values = {"x_T": answers["x_T"](), "middle_shape": answers["middle_shape"]((32, 64, 128, 256), 96)}
    values["clinic"] = answers["clinic"]()
    for name in answers:
        checks.check(name, values[name])
        assert capsys.readouterr().out.startswith(f"{name} is correct.")


@pytest.mark.parametrize("name", [name for name, exercise in EXERCISES.items() if exercise.parameters])
def test_an_unfilled_stub_is_not_done_yet(name, capsys):
    for body in ("...", "pass", '"""Yours."""', "raise NotImplementedError"):
        checks.check(name, written(name, body))
        assert capsys.readouterr().out == f"{name} is not done yet.\n"


@pytest.mark.parametrize("name", list(EXERCISES))
def test_an_unfilled_value_is_not_done_yet(name, capsys):
    checks.check(name, ...)
    assert capsys.readouterr().out == f"{name} is not done yet.\n"


def test_the_parameters_are_those_of_the_notebooks():
    assert list(inspect.signature(ddpm_core.add_noise).parameters) == list(EXERCISES["add_noise"].parameters)
    assert list(inspect.signature(ddpm_core.posterior).parameters) == list(EXERCISES["posterior"].parameters)


def test_checking_leaves_the_global_randomness_alone():
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    checks.check("x_T", written("x_T", "torch.ones(16, 3, 32, 32)"))
    checks.check("add_noise", written("add_noise", "return torch.randn_like(x_0)"))
    assert torch.equal(torch.randn(4), expected)
