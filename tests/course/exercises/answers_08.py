"""Answers to the exercises of notebook 08: right ones in many styles, and planted bugs."""

from writing import but

RIGHT = {
    "kl": [
        "return -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).mean((1, 2, 3))",  # as in the paper
        "return Posterior(mean, log_variance).kl()",
        """
        q = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
        return torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).flatten(1).mean(dim=1)
        """,
        """
        nats = []
        for m, v in zip(mean, log_variance):
            std = torch.exp(v / 2)
            nats.append(((std**2 + m**2) / 2 - 0.5 - torch.log(std)).sum() / m.numel())
        return torch.stack(nats)
        """,
    ],
    "autoencoder_loss": [
        "return autoencoder_loss(pictures, decoded, Posterior(pictures * 0, pictures * 0), edge_weight, 0.0)"
        " + kl_weight * nats.mean()",
        """
        x, y = pictures, decoded
        rows = F.l1_loss(y[:, :, 1:] - y[:, :, :-1], x[:, :, 1:] - x[:, :, :-1])
        columns = F.l1_loss(y[..., 1:] - y[..., :-1], x[..., 1:] - x[..., :-1])
        return F.l1_loss(x, y) + edge_weight * rows + edge_weight * columns + kl_weight * sum(nats) / len(nats)
        """,
        """
        wrong = pictures - decoded
        terms = [wrong, *(edge_weight * wrong.diff(dim=dim) for dim in (-1, -2))]
        return sum(term.abs().mean() for term in terms) + (kl_weight * nats).mean()
        """,
        """
        wrong, C = (decoded - pictures).double(), pictures.shape[1]
        kernels = torch.tensor([[0.0, 0], [-1, 1]]), torch.tensor([[0.0, -1], [0, 1]])
        edges = [
            F.conv2d(F.pad(wrong, pad), k.double().expand(C, 1, 2, 2), groups=C).abs().mean()
            for k, pad in zip(kernels, ((0, 0, 1, 0), (1, 0, 0, 0)))
        ]
        return wrong.abs().mean() + edge_weight * (edges[0] + edges[1]) + kl_weight * nats.mean()
        """,
    ],
    "encode": [
        "return encoder(pictures)[:, : latent_mean.shape[1]].sub(latent_mean).div(latent_std)",
        """
        z = [encoder(x[None]).chunk(2, dim=1)[0] for x in pictures]
        return torch.cat([m / latent_std - latent_mean / latent_std for m in z])
        """,
        """
        posterior = Posterior(*encoder(pictures).split(latent_std.numel(), dim=1))
        return torch.einsum("bchw,c->bchw", posterior.mean - latent_mean, 1 / latent_std.flatten())
        """,
        """
        with torch.no_grad():
            mean, logvar = torch.tensor_split(encoder(pictures.float()), 2, dim=-3)
        return F.batch_norm(mean, latent_mean.flatten(), latent_std.flatten() ** 2, eps=0)
        """,
    ],
    "draw_in_latents": [
        """
        for z_t in ddim(eps_model, schedule, z_T, num_steps=num_steps, clip_x_0=False):
            pass
        return torch.clip(decoder(latent_mean + latent_std * z_t), -1, 1)
        """,
        """
        z_0 = list(dpm_solver(eps_model, schedule, z_T, num_steps, clip_x_0=False))[-1]
        return torch.cat([decoder(z[None] * latent_std + latent_mean) for z in z_0]).clamp(-1, 1)
        """,
        """
        z_t = z_T
        steps = schedule.respaced(num_steps)[1].flip(0).tolist()
        for t, t_before in zip(steps, steps[1:] + [-1]):
            eps_hat = eps_model(z_t, torch.full((len(z_t),), t))
            z_0_hat = predict_x_0(schedule, z_t, torch.full((len(z_t),), t), eps_hat)
            ab = schedule.alpha_bars[t_before] if t_before >= 0 else torch.tensor(1.0)
            z_t = ab.sqrt() * z_0_hat + (1 - ab).sqrt() * eps_hat
        return decoder(z_t * latent_std + latent_mean).clamp(min=-1, max=1)
        """,
        """
        z_t, steps = z_T, np.linspace(len(schedule) - 1, 0, num_steps).round().astype(int)
        for i, step in enumerate(steps):
            t = torch.full(z_T.shape[:1], int(step))
            eps_hat = eps_model(z_t, t)
            z_t = predict_x_0(schedule, z_t, t, eps_hat)
            if i + 1 < num_steps:
                z_t = add_noise(schedule, z_t, torch.full_like(t, int(steps[i + 1])), eps_hat)
        return decoder(z_t * latent_std + latent_mean).clamp(-1, 1)
        """,
    ],
}

KL = "return 0.5 * (mean.square() + torch.exp(log_variance) - 1 - log_variance).mean((1, 2, 3))"
LOSS = """
edges = F.l1_loss(decoded.diff(dim=2), pictures.diff(dim=2)) + F.l1_loss(decoded.diff(dim=3), pictures.diff(dim=3))
return F.l1_loss(decoded, pictures) + edge_weight * edges + kl_weight * nats.mean()"""
ENCODE = """
mean, log_variance = encoder(pictures).chunk(2, dim=1)
return (mean - latent_mean) / latent_std"""
SIGMA = "torch.exp(log_variance / 2)"
NOISE = "mean = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)\nreturn"
DRAW = """
*_, z_0 = ddim(eps_model, schedule, z_T, num_steps, clip_x_0=False)
return decoder(z_0 * latent_std + latent_mean).clamp(-1, 1)"""
UNDONE = "z_0 * latent_std + latent_mean"
LOOP = """
z_t, (short, steps) = z_T, schedule.respaced(num_steps)
for i in range(num_steps - 1, -1, -1):
    t = steps[i].expand(len(z_t))
    z_0 = predict_x_0(schedule, z_t, t, eps_model(z_t, t))
    z_t = ddim_step(short, z_0, z_t, torch.full_like(t, i))
return decoder(z_t * latent_std + latent_mean).clamp(-1, 1)"""

PLANTED = {
    "kl": {
        "the sign is wrong": [
            but(KL, "0.5", "-0.5"),
            "return 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).mean((1, 2, 3))",
        ],
        "log_variance is added; subtract it": but(KL, "1 - log", "1 + log"),
        "1 is added": but(KL, "- 1", "+ 1"),
        "the -1 is forgotten": but(KL, " - 1", ""),
        "the variance is subtracted; add it": but(KL, "+ torch.exp", "- torch.exp"),
        "mean**2 is subtracted": but(KL, "(mean.square()", "(-mean.square()"),
        "the standard deviation stands where the variance belongs": but(
            KL, "torch.exp(log_variance)", "(log_variance / 2).exp()"
        ),
        "log_variance is doubled in exp": but(KL, "torch.exp(log_variance)", "log_variance.exp() ** 2"),
        "taken for the logarithm of the deviation, and doubled": (
            "return (mean**2 + (2 * log_variance).exp() - 1 - 2 * log_variance).mean((1, 2, 3)) / 2"
        ),
        "log_variance is squared": but(KL, "torch.exp(log_variance)", "log_variance**2"),
        "the variance and its logarithm are the same thing": [
            but(KL, "torch.exp(log_variance)", "log_variance"),
            but(KL, "1 - log_variance", "1 - log_variance.exp()"),
        ],
        "exp is taken twice": (
            "variance = log_variance.exp()\nreturn (mean**2 + variance - 1 - variance.exp()).mean((1, 2, 3)) / 2"
        ),
        "the factor 1/2 is forgotten": but(KL, "0.5 * ", ""),
        "only the last term is halved": (
            "return (mean**2 + log_variance.exp() - 1 - log_variance / 2).mean((1, 2, 3))"
        ),
        "only mean**2 is halved": "return (mean**2 / 2 + log_variance.exp() - 1 - log_variance).mean((1, 2, 3))",
        "log_variance is not halved": "return ((mean**2 + log_variance.exp() - 1) / 2 - log_variance).mean((1, 2, 3))",
        "mean**2 is not halved": "return (mean**2 + (log_variance.exp() - 1 - log_variance) / 2).mean((1, 2, 3))",
        "mean is not squared": but(KL, "mean.square()", "mean"),
        "the absolute value of mean": but(KL, "mean.square()", "mean.abs()"),
        "mean**2 is left out": but(KL, "mean.square() + ", ""),
        "only the means count": "return mean.square().mean(dim=(1, 2, 3)) / 2",
        "the last two terms are missing": but(KL, " - 1 - log_variance", ""),
        "the other way round": """
            p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(mean, (log_variance / 2).exp())
            return torch.distributions.kl_divergence(p, q).mean(dim=(1, 2, 3))""",
        "divided by the posterior's variance": but(KL, "mean.square()", "mean.square() / log_variance.exp()"),
        "these are bits": f"{KL} / math.log(2)",
        "the sum over the numbers of a latent": but(KL, ".mean((", ".sum(("),
        "the channels are added up": but(KL, ".mean((1, 2, 3))", ".sum(1).mean((1, 2))"),
        "the places are added up": but(KL, ".mean((1, 2, 3))", ".sum((2, 3)).mean(1)"),
        "every picture gets the mean of the whole batch": f"{KL}.mean().repeat(len(mean))",
        "averaged before they are squared": but(KL, "mean.square()", "mean.mean((1, 2, 3), keepdim=True) ** 2"),
        "mean and log_variance have changed places": f"mean, log_variance = log_variance, mean\n{KL}",
        "one number for the whole batch": [but(KL, "((1, 2, 3))", "()"), but(KL, "((1, 2, 3))", "().item()")],
        "a number for each number of the latents": but(KL, ".mean((1, 2, 3))", ""),
        "returns the shape (4, 2, 5)": but(KL, "(1, 2, 3)", "1"),
        "some of the numbers it returns are NaN: log_variance is the logarithm of the variance already": but(
            KL, "1 - log_variance", "1 - log_variance.log()"
        ),
        "reduce both over dim=(1, 2, 3), or neither": (
            "return (mean**2).mean(dim=(1, 2, 3)) + log_variance.exp() - 1 - log_variance"
        ),
        "something else each time": """
            z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
            p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(mean, (log_variance / 2).exp())
            return (q.log_prob(z) - p.log_prob(z)).mean(dim=(1, 2, 3))""",
        "the shape is right, but not the numbers": but(KL, "- 1", "- 1.1"),
    },
    "autoencoder_loss": {
        "all differences are squared": but(LOSS, "l1_loss", "mse_loss"),
        "the pixels' differences are squared": but(LOSS, "F.l1_loss(decoded, ", "F.mse_loss(decoded, "),
        "the edges' differences are squared": but(LOSS, "F.l1_loss(decoded.", "F.mse_loss(decoded."),
        "the pixels' differences are averaged with their signs, so": but(
            LOSS, "F.l1_loss(decoded, pictures)", "(decoded - pictures).mean()"
        ),
        "the pixels' differences are averaged with their signs before": but(
            LOSS, "F.l1_loss(decoded, pictures)", "(decoded - pictures).mean().abs()"
        ),
        "the edges' differences are averaged with their signs, so": """
            wrong = decoded - pictures
            edges = wrong.diff(dim=2).mean() + wrong.diff(dim=3).mean()
            return wrong.abs().mean() + edge_weight * edges + kl_weight * nats.mean()""",
        "the edges' differences are averaged with their signs before": """
            wrong = decoded - pictures
            edges = abs(wrong.diff(dim=2).mean()) + abs(wrong.diff(dim=3).mean())
            return wrong.abs().mean() + edge_weight * edges + kl_weight * nats.mean()""",
        "only the edges of decoded count": but(
            LOSS, "pictures.diff(dim=2)", "0 * pictures.diff(dim=2)", "pictures.diff(dim=3)", "0 * pictures.diff(dim=3)"
        ),
        "only the edges of pictures count": but(LOSS, "decoded.diff", "0 * pictures.diff"),
        "compared without their signs": but(LOSS, "dim=2)", "dim=2).abs()", "dim=3)", "dim=3).abs()"),
        "not where it is": [
            but(LOSS, "dim=2)", "dim=2).abs().mean()", "dim=3)", "dim=3).abs().mean()"),
            """
            def edges(x): return x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()
            return F.l1_loss(decoded, pictures) + edge_weight * (edges(decoded) - edges(pictures)) \\
                + kl_weight * nats.mean()""",
        ],
        "diff is taken twice": but(LOSS, "dim=2)", "dim=2, n=2)", "dim=3)", "dim=3).diff(dim=3)"),
        "n=2 times, along the last axis": but(LOSS, "dim=2", "2", "dim=3", "3"),
        "the differences go along channels and rows": but(LOSS, "dim=2", "dim=1", "dim=3", "dim=2"),
        "one of the differences goes along the channels": but(LOSS, "dim=2", "dim=1"),
        "the differences go along pictures and channels": but(LOSS, "dim=2", "dim=0", "dim=3", "dim=1"),
        "the edges are left out": but(LOSS, "edge_weight * edges + ", ""),
        "the differences along dim=2 are missing": but(
            LOSS, "F.l1_loss(decoded.diff(dim=2), pictures.diff(dim=2)) + ", ""
        ),
        "the differences along dim=3 are missing": but(
            LOSS, " + F.l1_loss(decoded.diff(dim=3), pictures.diff(dim=3))", ""
        ),
        "the differences along dim=3 count twice": but(LOSS, "dim=2", "dim=3"),
        "the differences along dim=2 count twice": but(LOSS, "dim=3", "dim=2"),
        "the mean of the two directions": but(LOSS, "edge_weight * edges", "edge_weight * edges / 2"),
        "only one of the two directions": [
            but(LOSS, "edges = ", "edges = edge_weight * ", "+ edge_weight * edges", "+ edges"),
            but(
                LOSS,
                " + F.l1_loss(decoded.diff",
                " + edge_weight * F.l1_loss(decoded.diff",
                "+ edge_weight * edges",
                "+ edges",
            ),
        ],
        "edge_weight is left out": but(LOSS, "edge_weight * ", ""),
        "the two directions are multiplied": but(LOSS, ") + F.", ") * F."),
        "the edges are subtracted": but(LOSS, "+ edge_weight", "- edge_weight"),
        "edge_weight multiplies the pixels, too": (
            but(
                LOSS,
                "F.l1_loss(decoded, pictures) + edge",
                "edge",
                "* edges",
                "* (edges + F.l1_loss(decoded, pictures))",
            )
        ),
        "have changed places": but(LOSS, "edge_weight * edges + kl_weight", "kl_weight * edges + edge_weight"),
        "the KL has the wrong sign": but(LOSS, "+ kl", "- kl"),
        "the KL is left out": but(LOSS, " + kl_weight * nats.mean()", ""),
        "kl_weight is left out": but(LOSS, "kl_weight * ", ""),
        "nats are added up": but(LOSS, "nats.mean", "nats.sum"),
        "the KL is squared": but(LOSS, "nats.mean()", "nats.mean().square()"),
        "the pixels are left out": but(LOSS, "F.l1_loss(decoded, pictures) + edge", "edge"),
        "all terms are sums": but(
            LOSS,
            "(dim=2))",
            "(dim=2), reduction='sum')",
            "(dim=3))",
            "(dim=3), reduction='sum')",
            ", pictures)",
            ", pictures, reduction='sum')",
            "nats.mean",
            "nats.sum",
        ),
        "pixels and edges are added up; take": but(
            LOSS,
            "(dim=2))",
            "(dim=2), reduction='sum')",
            "(dim=3))",
            "(dim=3), reduction='sum')",
            ", pictures)",
            ", pictures, reduction='sum')",
        ),
        "added up over each picture": but(
            LOSS,
            "(dim=2))",
            "(dim=2)) * pictures[0].diff(dim=1).numel()",
            "(dim=3))",
            "(dim=3)) * pictures[0].diff(dim=2).numel()",
            ", pictures)",
            ", pictures) * pictures[0].numel()",
        ),
        "the edges are added up": but(
            LOSS, "(dim=2))", "(dim=2), reduction='sum')", "(dim=3))", "(dim=3), reduction='sum')"
        ),
        "the pixels are added up": but(LOSS, ", pictures)", ", pictures, reduction='sum')"),
        "roll goes round": """
            a, b = decoded, pictures
            edges = sum(F.l1_loss(a.roll(1, d) - a, b.roll(1, d) - b) for d in (2, 3))
            return F.l1_loss(a, b) + edge_weight * edges + kl_weight * nats.mean()""",
        "torch.gradient compares the neighbours on either side": """
            rows, columns = torch.gradient(decoded - pictures, dim=(2, 3))
            edges = rows.abs().mean() + columns.abs().mean()
            return F.l1_loss(decoded, pictures) + edge_weight * edges + kl_weight * nats.mean()""",
        "it returns a plain number": but(LOSS, "return F", "return float(F", "nats.mean()", "nats.mean())"),
        "no gradient flows from the loss to decoded and nats": f"with torch.no_grad():{LOSS}".replace("\n", "\n    "),
        "no gradient flows from the loss to decoded: ": but(LOSS, "decoded", "decoded.detach()"),
        "no gradient flows from the loss to nats: ": but(LOSS, "nats.mean()", "nats.mean().item()"),
        "have different shapes": """
            edges = (decoded - pictures).diff(dim=2).abs() + (decoded - pictures).diff(dim=3).abs()
            return F.l1_loss(decoded, pictures) + edge_weight * edges.mean() + kl_weight * nats.mean()""",
        "should return one number": [but(LOSS, "nats.mean()", "nats"), but(LOSS, "return ", "return pictures, ")],
        "the same whatever pictures and edge_weight and kl_weight are": "return decoded.abs().mean() + nats.mean()",
        "the shape is right, but not the numbers": but(LOSS, "* edges", "* 1.1 * edges"),
    },
    "encode": {
        "a latent is drawn from the posterior": [
            but(ENCODE, "return", NOISE),
            but(ENCODE, "return", but(NOISE, SIGMA, "log_variance.exp()")),
            but(ENCODE, "latent_std", f"latent_std + {SIGMA} * torch.randn_like(mean)"),
            "return Posterior(*encoder(pictures).chunk(2, dim=1)).sample()",
            """
            posterior = Posterior(*encoder(pictures).chunk(2, dim=1))
            return (posterior.sample(torch.Generator().manual_seed(0)) - latent_mean) / latent_std""",
        ],
        "the latents are not standardised": but(ENCODE, "(mean - latent_mean) / latent_std", "mean"),
        "the division by latent_std is missing": but(ENCODE, " / latent_std", ""),
        "latent_mean is not subtracted": but(ENCODE, "(mean - latent_mean)", "mean"),
        "it is the wrong order": but(ENCODE, "(mean - latent_mean) / latent_std", "mean / latent_std - latent_mean"),
        "a bracket is missing": but(ENCODE, "(mean - latent_mean)", "mean - latent_mean"),
        "divided by the variance": but(ENCODE, "/ latent_std", "/ latent_std.square()"),
        "divided by the root of latent_std": but(ENCODE, "/ latent_std", "/ latent_std**0.5"),
        "multiplied with latent_std": but(ENCODE, "/ latent_std", "* latent_std"),
        "that is the way back": but(ENCODE, "(mean - latent_mean) / latent_std", "latent_mean + latent_std * mean"),
        "latent_mean is added": but(ENCODE, "mean - latent", "mean + latent"),
        "the sign is wrong": but(ENCODE, "(mean - latent_mean)", "(latent_mean - mean)"),
        "latent_mean and latent_std have changed places": but(
            ENCODE, "- latent_mean) / latent_std", "- latent_std) / latent_mean"
        ),
        "standardised twice": but(ENCODE, "return ", "z = ") + "\nreturn (z - latent_mean) / latent_std",
        "the latents are clipped to [-1, 1]. Pictures": but(ENCODE, "return ", "z = ") + "\nreturn z.clip(-1, 1)",
        "tanh squeezes": but(ENCODE, "return ", "return torch.tanh(") + ")",
        "and not standardised; neither": but(ENCODE, "(mean - latent_mean) / latent_std", "mean.clamp(-1, 1)"),
        "the means are clipped": but(ENCODE, "(mean - ", "(mean.clip(-1, 1) - "),
        "0.18215": but(ENCODE, "(mean - latent_mean) / latent_std", "mean * 0.18215"),
        "the halves have changed places": but(ENCODE, "mean, log_variance =", "log_variance, mean ="),
        "every second channel": """
            B, C, h, w = encoder(pictures).shape
            return (encoder(pictures).reshape(B, C // 2, 2, h, w)[:, :, 0] - latent_mean) / latent_std""",
        "divided by the posterior's deviation, which": but(ENCODE, "/ latent_std", f"/ {SIGMA}"),
        "the mean is divided by the posterior's deviation": but(
            ENCODE, "(mean - latent_mean) / latent_std", f"mean / {SIGMA}"
        ),
        "the batch's own": [
            f"z = encoder(pictures)[:, :4]\nreturn (z - z.mean({dims})) / z.std({dims})"
            for dims in ("(0, 2, 3), keepdim=True", "")
        ],
        "a picture gets another latent in another batch": [
            "return F.batch_norm(encoder(pictures)[:, :4], None, None, training=True)",
            but(ENCODE, "latent_mean", "mean.mean(0)"),
        ],
        "its own mean and deviation": [
            f"z = encoder(pictures)[:, :4]\nreturn (z - z.mean({dims}, keepdim=True)) / z.std({dims}, keepdim=True)"
            for dims in ("(2, 3)", "(1, 2, 3)")
        ],
        "moved to [0, 1]": but(ENCODE, "(pictures)", "(pictures / 2 + 0.5)"),
        "as if they came in [0, 1]": but(ENCODE, "(pictures)", "(pictures * 2 - 1)"),
        "as if they came in bytes": but(ENCODE, "(pictures)", "(pictures / 127.5 - 1)"),
        "first the c means, then the c log-variances": [
            "return (encoder(pictures) - latent_mean) / latent_std",
            but(ENCODE, ", dim=1", ""),
            but(ENCODE, "dim=1", "dim=2"),
        ],
        "it returns 8 channels": "return encoder(pictures)",
        "return z_0 alone": [
            but(ENCODE, "return ", "return log_variance, "),
            "return encoder(pictures).chunk(2, dim=1)",
        ],
        "chunk(2, dim=1) cuts it into two halves": [
            "mean, log_variance = encoder(pictures)\nreturn (mean - latent_mean) / latent_std",
            but(ENCODE, "chunk", "split"),
        ],
        "what encode does is to be written here": "return encoder.encode(pictures)",
        "encoder takes pictures (B, 3, H, W)": but(ENCODE, "(pictures)", "(latent_mean)"),
        "the shape is right, but not the numbers": but(ENCODE, "/ latent_std", "/ latent_std / 1.05"),
        "the same whatever latent_mean and latent_std are": f"{ENCODE} * 0 + encoder(pictures)[:, :4] / 3",
    },
    "draw_in_latents": {
        "the sampler clips every estimate": [
            but(DRAW, ", clip_x_0=False", ""),
            but(LOOP, "eps_model(z_t, t))", "eps_model(z_t, t)).clamp(-1, 1)"),
            but(DRAW, "ddim", "dpm_solver", ", clip_x_0=False", ""),
        ],
        "z_0 is clipped to [-1, 1]. Pictures": but(DRAW, UNDONE, f"z_0.clip(-1, 1) {UNDONE[4:]}"),
        "the latents are clipped to [-1, 1], and the pictures are not": but(
            DRAW, ", clip_x_0=False", "", ".clamp(-1, 1)", ""
        ),
        "z_0 is clipped to [-1, 1], and the pictures are not": but(
            DRAW, UNDONE, f"z_0.clip(-1, 1) {UNDONE[4:]}", ".clamp(-1, 1)", ""
        ),
        "before they are decoded": but(DRAW, UNDONE, f"({UNDONE}).clamp(-1, 1)"),
        "z_t is clipped to [-1, 1] after every step": but(LOOP, "full_like(t, i))", "full_like(t, i)).clamp(-1, 1)"),
        "decoded as it is, standardised. The": [
            but(DRAW, UNDONE, "z_0"),
            but(DRAW, UNDONE, "z_0", "ddim", "dpm_solver"),
        ],
        "there are two slips": but(DRAW, UNDONE, "z_0", ", clip_x_0=False", ""),
        "what was done last is undone first": but(DRAW, UNDONE, "(z_0 + latent_mean) * latent_std"),
        "a bracket is wrong": but(DRAW, UNDONE, "z_0 * (latent_std + latent_mean)"),
        "z_0 is standardised once more": but(DRAW, UNDONE, "(z_0 - latent_mean) / latent_std"),
        "undone twice": but(DRAW, "return", f"z_0 = {UNDONE}\nreturn"),
        "latent_mean is left out": but(DRAW, " + latent_mean", ""),
        "latent_std is left out": but(DRAW, " * latent_std", ""),
        "latent_mean is subtracted": but(DRAW, "+ latent_mean", "- latent_mean"),
        "it is divided by latent_std": but(DRAW, "* latent_std", "/ latent_std"),
        "latent_std is squared": but(DRAW, "latent_std", "latent_std.square()"),
        "the root of latent_std": but(DRAW, "latent_std", "latent_std.sqrt()"),
        "latent_mean and latent_std have changed places": but(DRAW, UNDONE, "z_0 * latent_mean + latent_std"),
        "0.18215": but(DRAW, UNDONE, "z_0 / 0.18215"),
        "undone at every step": but(
            LOOP,
            "full_like(t, i))",
            "full_like(t, i)) * latent_std + latent_mean",
            "z_t * latent_std + latent_mean).",
            "z_t).",
        ),
        "z_T is moved to the encoder's latents": but(
            DRAW, "z_T,", "z_T * latent_std + latent_mean,", "decoder(z_0 * latent_std + latent_mean)", "decoder(z_0)"
        ),
        "undone in the pictures": but(DRAW, f"({UNDONE})", "(z_0) * latent_std.mean() + latent_mean.mean()"),
        "the pictures are not clipped": but(DRAW, ".clamp(-1, 1)", ""),
        "tanh bends": but(DRAW, ".clamp(-1, 1)", ".tanh()"),
        "clipped to [0, 1]": but(DRAW, "clamp(-1, 1)", "clamp(0, 1)"),
        "moved to [0, 1]": f"{DRAW} * 0.5 + 0.5",
        "the first step is decoded": but(DRAW, "*_, z_0 = ddim", "z_0, *_ = ddim"),
        "the last step but one": but(DRAW, "*_, z_0 =", "*_, z_0, _ ="),
        "z_T is decoded": but(DRAW, "decoder(z_0", "decoder(z_T"),
        "it is called at every step": [
            """
            for z_t in ddim(eps_model, schedule, z_T, num_steps, clip_x_0=False):
                picture = decoder(z_t * latent_std + latent_mean).clamp(-1, 1)
            return picture""",
            "return [decoder(z * latent_std + latent_mean) for z in ddim(eps_model, schedule, z_T, num_steps)][-1]",
        ],
        "eps_model is never asked": "return decoder(z_T * latent_std + latent_mean).clamp(-1, 1)",
        "it should be once per step. Hand num_steps on": but(DRAW, " num_steps,", ""),
        "the first timestep that eps_model is told is 16": """
            z_t, steps = z_T, range(0, len(schedule), len(schedule) // num_steps)
            for step in reversed(steps):
                t = torch.full((len(z_t),), step)
                z_t = predict_x_0(schedule, z_t, t, eps_model(z_t, t))
            return decoder(z_t * latent_std + latent_mean).clamp(-1, 1)""",
        "it knows latents alone": but(DRAW, "z_T,", "decoder(z_T),"),
        "it returns latents": [
            f"{DRAW.rpartition('return')[0]}return {UNDONE}",
            but(DRAW, f"decoder({UNDONE})", "z_0"),
        ],
        "decoder is given all the steps": but(DRAW, "*_, z_0", "z_0", UNDONE, "z_0"),
        "eps_model needs t as a long tensor": but(LOOP, "eps_model(z_t, t)", "eps_model(z_t, i)"),
        "what decode does is to be written here": but(DRAW, "decoder(", "decoder.decode("),
        "decoder takes latents (B, c, h, w)": but(
            DRAW, "decoder(z_0", "decoder(z_0[0]", "latent_std", "latent_std[0]", "latent_mean", "latent_mean[0]"
        ),
        "undo the standardisation before it": but(DRAW, f"({UNDONE})", "(z_0) * latent_std + latent_mean"),
        "something else each time": but(DRAW, "ddim(", "sample("),
        "the shape is right, but not the numbers": but(DRAW, "* latent_std", "* 0.9 * latent_std"),
    },
}
