"""Answers to the exercises of notebook 06: right ones in many styles, and planted bugs."""

from writing import but

RIGHT = {
    "ddim_eta_step": [
        """
        out = []
        for i, (now, then) in enumerate(zip(t.tolist(), t_before.tolist())):
            a = float(schedule.alpha_bars[now])
            b = float(schedule.alpha_bars[then]) if then >= 0 else 1.0
            variance = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
            x_0_hat = (x_t[i].double() - math.sqrt(1 - a) * eps_hat[i]) / math.sqrt(a)
            out.append(b**0.5 * x_0_hat + math.sqrt(1 - b - variance) * eps_hat[i] + math.sqrt(variance) * z[i])
        return torch.stack(out)
        """,
        """
        x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)  # two independent noises are as good as one
        before = torch.where(t_before < 0, 1, schedule.alpha_bars[t_before])[:, None, None, None]
        alpha_bar = schedule.alpha_bars[t][:, None, None, None]
        beta = 1 - alpha_bar / before  # of the whole step
        share = eta * torch.sqrt(beta / (1 - alpha_bar))
        return before.sqrt() * x_0_hat + (1 - before).sqrt() * ((1 - share**2).sqrt() * eps_hat + share * z)
        """,
        """
        last = (t_before < 0).view(-1, 1, 1, 1)
        x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
        before = schedule.alpha_bars[t_before.clamp(min=0)].view(-1, 1, 1, 1)
        alpha_bar = schedule.alpha_bars[t].view(-1, 1, 1, 1)
        sigma = eta * ((1 - before) / (1 - alpha_bar)) ** 0.5 * (1 - alpha_bar / before).clamp(min=0) ** 0.5
        noisy = before**0.5 * x_0_hat + (1 - before - sigma.square()).clamp(min=0) ** 0.5 * eps_hat + sigma * z
        return torch.where(last, x_0_hat, noisy)
        """,
    ],
    "inpaint_step": [
        """
        last, t_before = (t_before < 0).view(-1, 1, 1, 1), t_before.clamp(min=0)
        x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
        drawn = torch.where(last, x_0_hat, add_noise(schedule, x_0_hat, t_before, eps_hat))
        known = torch.where(last, x_0, add_noise(schedule, x_0, t_before, eps))
        return mask * drawn + ~mask * known
        """,
        """
        clean = torch.where(mask, predict_x_0(schedule, x_t, t, eps_hat), x_0)  # first joined, then noised
        noise = torch.where(mask, eps_hat, eps)
        before = torch.cat([torch.ones(1), schedule.alpha_bars])[t_before + 1][:, None, None, None]
        return before.sqrt() * clean + (1 - before).sqrt() * noise
        """,
        """
        out = []
        for i in range(len(x_t)):
            a, b = schedule.alpha_bars[t[i]], schedule.alpha_bars[t_before[i]] if t_before[i] >= 0 else torch.ones(())
            row = b.sqrt() * (x_t[i] - (1 - a).sqrt() * eps_hat[i]) / a.sqrt() + (1 - b).sqrt() * eps_hat[i]
            row[:, ~mask] = (b.sqrt() * x_0[i] + (1 - b).sqrt() * eps[i])[:, ~mask]
            out.append(row)
        return torch.stack(out)
        """,
    ],
    "slerp": [
        """
        rows = []
        for x, y in zip(a.double(), b.double()):
            cosine = float((x * y).sum() / (x.norm() * y.norm()))
            angle = math.acos(max(-1.0, min(1.0, cosine)))
            if angle < 1e-4:
                rows.append(x + share * (y - x))
            else:
                rows.append((math.sin((1 - share) * angle) * x + math.sin(share * angle) * y) / math.sin(angle))
        return torch.stack(rows)
        """,
        """
        u, v = F.normalize(a.flatten(1), dim=1), F.normalize(b.flatten(1), dim=1)
        dot = (u * v).sum(1).view(-1, 1, 1, 1)
        angle = dot.clamp(-1, 1).acos()
        arc = torch.sin((1 - share) * angle) / torch.sin(angle) * a + torch.sin(share * angle) / torch.sin(angle) * b
        return torch.where(dot.abs() > 0.9995, torch.lerp(a, b, share), arc)
        """,
        """
        angle = F.cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1 + 1e-7, 1 - 1e-7).acos()  # never quite 0
        of_a, of_b = torch.sin((1 - share) * angle) / torch.sin(angle), torch.sin(share * angle) / torch.sin(angle)
        return torch.einsum("b,bchw->bchw", of_a, a) + torch.einsum("b,bchw->bchw", of_b, b)
        """,
        """
        x, y = a.flatten(1).double(), b.flatten(1).double()  # with the tangent at a, and no acos
        along = (x * y).sum(1, True) / x.square().sum(1, True) * x
        angle = torch.atan2((y - along).norm(dim=1, keepdim=True), (x * y).sum(1, True) / x.norm(dim=1, keepdim=True))
        angle = angle.clamp(min=1e-6)
        return ((((1 - share) * angle).sin() * x + (share * angle).sin() * y) / angle.sin()).view(a.shape)
        """,
    ],
    "sdedit_start": [
        """
        k = int(len(schedule) * strength + 0.5)
        t = (k - 1) * torch.ones(x_0.shape[0], dtype=torch.int64)
        keep = schedule.alpha_bars[k - 1].item()
        return t, math.sqrt(keep) * x_0.double() + math.sqrt(1 - keep) * eps
        """,
        """
        steps = list(range(len(schedule)))[::-1]
        visited = steps[round(len(steps) * (1 - strength)):]
        t = torch.tensor(visited[:1] * len(x_0))
        return [t, add_noise(schedule, x_0, t, eps)]
        """,
    ],
}

STEP = """
alpha_bars = torch.cat([torch.ones(1), schedule.alpha_bars])
a, b = alpha_bars[t + 1].view(-1, 1, 1, 1), alpha_bars[t_before + 1].view(-1, 1, 1, 1)
x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
"""
ETA = f"""{STEP}sigma = eta * torch.sqrt((1 - b) / (1 - a)) * torch.sqrt(1 - a / b)
return b.sqrt() * x_0_hat + torch.sqrt(1 - b - sigma**2) * eps_hat + sigma * z"""
INPAINT = f"""{STEP}drawn = b.sqrt() * x_0_hat + (1 - b).sqrt() * eps_hat
known = b.sqrt() * x_0 + (1 - b).sqrt() * eps
return torch.where(mask, drawn, known)"""
BY_HAND = "predict_x_0(schedule, x_t, t, eps_hat)", "(x_t - (1 - a).sqrt() * eps_hat) / a.sqrt()"
AT_BEFORE = "alpha_bars[t_before + 1]"
SLERP = """
dot = (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
angle = dot.clamp(-1, 1).acos()[:, None, None, None]
arc = torch.sin((1 - share) * angle) / angle.sin() * a + torch.sin(share * angle) / angle.sin() * b
return torch.where(angle < 1e-3, a + share * (b - a), arc)"""
NORMS = "(a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))"
START = """
k = round(strength * len(schedule))
t = torch.full((len(x_0),), k - 1)
return t, add_noise(schedule, x_0, t, eps)"""

PLANTED = {
    "ddim_eta_step": {
        "eta is squared in sigma": but(ETA, "= eta", "= eta**2"),
        "eta is not squared in the variance": [
            but(ETA, "= eta", "= eta**0.5"),
            f"""{STEP}variance = eta * (1 - b) / (1 - a) * (1 - a / b)
return b.sqrt() * x_0_hat + (1 - b - variance).sqrt() * eps_hat + variance.sqrt() * z""",
        ],
        "eta is left out": but(ETA, "eta * ", ""),
        "this is the step for eta = 0": f"{STEP}return b.sqrt() * x_0_hat + (1 - b).sqrt() * eps_hat",
        "the two noises have changed places": but(ETA, "* eps_hat", "* z", "sigma * z", "sigma * eps_hat"),
        "eps_hat gets the factor sigma, too": but(ETA, "torch.sqrt(1 - b - sigma**2)", "sigma"),
        "the fresh noise comes on top": but(ETA, " - sigma**2", ""),
        "sigma is not squared in eps_hat's factor": but(ETA, "sigma**2", "sigma"),
        "deviations are subtracted": but(ETA, "torch.sqrt(1 - b - sigma**2)", "((1 - b).sqrt() - sigma)"),
        "sigma**2 is added": but(ETA, "b - sigma", "b + sigma"),
        "eps_hat gets the factor sqrt(": but(ETA, "torch.sqrt(1 - b - sigma**2)", "(1 - b - sigma**2)"),
        "the factor of eps_hat comes from t": but(ETA, "(1 - b - ", "(1 - a - "),
        "the factor of x_0_hat comes from t": but(ETA, "b.sqrt() * x", "a.sqrt() * x"),
        "eps_hat comes back at full strength": but(ETA, "torch.sqrt(1 - b - sigma**2) * ", ""),
        "eps_hat is left out": but(ETA, "torch.sqrt(1 - b - sigma**2) * eps_hat + ", ""),
        "x_t stands in the mixture": but(ETA, "* eps_hat", "* x_t"),
        "multiplied with the variance": but(ETA, "sigma * z", "sigma**2 * z"),
        "z is subtracted": but(ETA, "+ sigma * z", "- sigma * z"),
        "z is left out: eps_hat": but(ETA, " + sigma * z", ""),
        "z is left out: sigma": but(ETA, "sigma * z", "sigma"),
        "Algorithm 2 counts from 1": but(ETA, "sigma * z", "sigma * z * (t > 1).view(-1, 1, 1, 1)"),
        "z is left out at t_before = 0": but(
            ETA, "sigma * z", "torch.where(t_before > 0, 1, 0)[:, None, None, None] * sigma * z"
        ),
        "z comes in at full strength": but(ETA, "sigma * z", "z"),
        "z gets the factor eta": but(ETA, "sigma * z", "eta * z"),
        "With eta = 1 all noise would be fresh": but(
            ETA, "torch.sqrt((1 - b) / (1 - a)) * torch.sqrt(1 - a / b)", "torch.sqrt(1 - b)"
        ),
        "shared out as eta and 1 - eta": f"""{STEP}noise = (1 - eta) * eps_hat + eta * z
return b.sqrt() * x_0_hat + (1 - b).sqrt() * noise""",
        "the second factor is missing": but(ETA, " * torch.sqrt(1 - a / b)", ""),
        "noise is added at the last step": [
            but(ETA, "torch.sqrt((1 - b) / (1 - a)) * ", ""),
            but(
                ETA,
                "torch.sqrt((1 - b) / (1 - a)) * ",
                "",
                "sigma**2)",
                "sigma**2).clamp(min=0)",
                "torch.sqrt(1 - b -",
                "(1 - b -",
                ".clamp(min=0)",
                ".clamp(min=0).sqrt()",
            ),
            but(
                ETA,
                "torch.sqrt((1 - b) / (1 - a)) * torch.sqrt(1 - a / b)",
                "schedule.betas[t].view(-1, 1, 1, 1) ** 0.5",
                "torch.sqrt(1 - b - sigma**2)",
                "torch.sqrt((1 - b - sigma**2).clamp(min=0))",
            ),
        ],
        "the first fraction stands on its head": but(ETA, "(1 - b) / (1 - a)", "(1 - a) / (1 - b)"),
        "in sigma the alpha_bar of t, the smaller one, is divided": but(ETA, "1 - a / b", "1 - b / a"),
        "the root is missing in sigma": but(ETA, "torch.sqrt((1 - b) / (1 - a)) * torch.sqrt", "(1 - b) / (1 - a) * "),
        "sigma is the variance here": but(
            ETA, "eta * torch.sqrt((1 - b) / (1 - a)) * torch.sqrt", "eta**2 * (1 - b) / (1 - a) * "
        ),
        "root of the first factor": but(ETA, "torch.sqrt((1 - b) / (1 - a))", "(1 - b) / (1 - a)"),
        "root of the second factor": but(ETA, "torch.sqrt(1 - a / b)", "(1 - a / b)"),
        "in sigma stands beta": but(ETA, "(1 - a / b)", "(schedule.betas[t].view(-1, 1, 1, 1))"),
        "sigma is that of a step from t to t - 1": but(
            ETA,
            "sigma =",
            "c = schedule.alpha_bars_prev[t].view(-1, 1, 1, 1)\nsigma =",
            "(1 - b) /",
            "(1 - c) /",
            "a / b",
            "a / c",
        ),
        "it returns x_0_hat": f"{STEP}return x_0_hat",
        "this reads alpha_bars[-1]": but(ETA, AT_BEFORE, "schedule.alpha_bars[t_before]"),
        "noise is left at the last step": but(ETA, AT_BEFORE, "schedule.alpha_bars[t_before.clamp(min=0)]"),
        "t_before is left out": but(ETA, AT_BEFORE, "alpha_bars[t]"),
        "this mixes for t_before - 1": but(ETA, AT_BEFORE, "alpha_bars[t_before]"),
        "x_0_hat is x_t - eps_hat": but(ETA, "predict_x_0(schedule, x_t, t, eps_hat)", "x_t - eps_hat"),
        "is clipped to [-1, 1]": but(ETA, "t, eps_hat)", "t, eps_hat).clamp(-1, 1)"),
        "read from alphas": but(
            ETA,
            "schedule.alpha_bars",
            "schedule.alphas",
            *BY_HAND,
        ),
        "x_t and eps_hat have changed places": but(ETA, "x_t, t, eps_hat", "eps_hat, t, x_t"),
        "not right yet: t has shape (B,)": but(ETA, ".view(-1, 1, 1, 1)", "", *BY_HAND),
        "reshape them to (B, 1, 1, 1) first": but(ETA, ".view(-1, 1, 1, 1)", ""),
        "draw none of your own": but(ETA, "sigma * z", "sigma * torch.randn_like(z)"),
        "it returns the same whatever z is": but(ETA, "sigma * z", "sigma * eps_hat"),
        "the shape is right, but not the numbers": but(ETA, "= eta", "= 0.9 * eta"),
        "use torch.where": f"if t_before < 0:\n    return predict_x_0(schedule, x_t, t, eps_hat){ETA}",
        "it returns None": but(ETA, "return ", "x = "),
        "an endless loop": "while True:\n    pass",
    },
    "inpaint_step": {
        "the mask is upside down": but(INPAINT, "drawn, known)", "known, drawn)"),
        "pasted clean": but(INPAINT, "drawn, known)", "drawn, x_0)"),
        "noised to the level of t": [
            but(INPAINT, "b.sqrt() * x_0 + (1 - b)", "a.sqrt() * x_0 + (1 - a)"),
            but(INPAINT, "b.sqrt() * x_0 + (1 - b).sqrt() * eps\n", "add_noise(schedule, x_0, t, eps)\n"),
        ],
        "the known part is noised to the level of t - 1": but(
            INPAINT, "known =", "b = alpha_bars[t].view(-1, 1, 1, 1)\nknown ="
        ),
        "it is noised for t_before + 1": but(
            INPAINT, "known =", "b = schedule.alpha_bars[t_before + 1].view(-1, 1, 1, 1)\nknown ="
        ),
        "the known part is left out": but(INPAINT, "torch.where(mask, drawn, known)", "drawn"),
        "the drawn part is left out": but(INPAINT, "torch.where(mask, drawn, known)", "known"),
        "the known part is mixed with eps_hat": [
            but(INPAINT, "eps\n", "eps_hat\n"),
            but(
                INPAINT,
                "drawn =",
                "x_0_hat = torch.where(mask, x_0_hat, x_0)\ndrawn =",
                "torch.where(mask, drawn, known)",
                "drawn",
            ),
        ],
        "the drawn part is mixed with eps;": but(INPAINT, "eps_hat\n", "eps\n"),
        "the two noises have changed places": but(
            INPAINT, "* eps_hat\n", "* E\n", "* eps\n", "* eps_hat\n", "E", "eps"
        ),
        "set in before the step": but(
            INPAINT,
            "x_0_hat = ",
            "x_t = torch.where(mask, x_t, add_noise(schedule, x_0, t, eps))\nx_0_hat = ",
            "torch.where(mask, drawn, known)",
            "drawn",
        ),
        "the known part is not restored at the end": but(
            INPAINT, "mask, drawn", "mask | (t_before < 0)[:, None, None, None], drawn"
        ),
        "the known part is still noisy at the end": but(
            INPAINT, "b.sqrt() * x_0 + (1 - b).sqrt() * eps\n", "add_noise(schedule, x_0, t_before.clamp(min=0), eps)\n"
        ),
        "noise is left at the end": but(INPAINT, AT_BEFORE, "schedule.alpha_bars[t_before.clamp(min=0)]"),
        "the known part is nearly all noise at the end": but(
            INPAINT, "known =", "b = schedule.alpha_bars[t_before].view(-1, 1, 1, 1)\nknown ="
        ),
        "reads alpha_bars[-1], the last of the schedule. Before step 0": but(
            INPAINT, AT_BEFORE, "schedule.alpha_bars[t_before]"
        ),
        "it returns x_t itself": but(INPAINT, "mask, drawn", "mask, x_t"),
        "where it is to be drawn it returns x_0_hat": but(INPAINT, "mask, drawn", "mask, x_0_hat"),
        "added up where the mask is True": but(INPAINT, "torch.where(mask, drawn, known)", "mask * drawn + known"),
        "added up where the mask is False": but(INPAINT, "torch.where(mask, drawn, known)", "drawn + known * ~mask"),
        "added up everywhere": but(INPAINT, "torch.where(mask, drawn, known)", "drawn + known"),
        "it averages drawn and known": but(INPAINT, "torch.where(mask, drawn, known)", "0.5 * (drawn + known)"),
        "the known part is made of x_0_hat": but(INPAINT, "* x_0 ", "* x_0_hat "),
        "in the known part both roots are missing": but(
            INPAINT, "b.sqrt() * x_0 + (1 - b).sqrt() * eps\n", "b * x_0 + (1 - b) * eps\n"
        ),
        "in the known part a root is missing: x_0": but(INPAINT, "b.sqrt() * x_0 ", "b * x_0 "),
        "in the known part a root is missing: eps": but(INPAINT, "(1 - b).sqrt() * eps\n", "(1 - b) * eps\n"),
        "x_0 is not shrunk": but(INPAINT, "b.sqrt() * x_0 ", "x_0 "),
        "eps comes in at full strength": but(INPAINT, "(1 - b).sqrt() * eps\n", "eps\n"),
        "noise alone": but(INPAINT, "b.sqrt() * x_0 + ", ""),
        "in the drawn part the factor of eps_hat comes from t": but(
            INPAINT, "(1 - b).sqrt() * eps_hat", "(1 - a).sqrt() * eps_hat"
        ),
        "in the drawn part a root is missing": but(INPAINT, "(1 - b).sqrt() * eps_hat", "(1 - b) * eps_hat"),
        "the factor of x_0_hat comes from t": but(INPAINT, "b.sqrt() * x_0_hat", "a.sqrt() * x_0_hat"),
        "this mixes for t_before - 1": but(INPAINT, AT_BEFORE, "alpha_bars[t_before]"),
        "t_before is left out": but(INPAINT, AT_BEFORE, "alpha_bars[t]"),
        "is clipped to [-1, 1]": but(INPAINT, "t, eps_hat)", "t, eps_hat).clamp(-1, 1)"),
        "the t of the first one is used for all": but(
            INPAINT,
            "[t + 1]",
            "[t[:1] + 1]",
            "[t_before + 1]",
            "[t_before[:1] + 1]",
            *BY_HAND,
        ),
        "not right yet: t has shape (B,)": but(INPAINT, ".view(-1, 1, 1, 1)", "", *BY_HAND),
        "multiply pictures as (B, 1, 1, 1); the mask": but(INPAINT, ".view(-1, 1, 1, 1)", ""),
        "with a bool tensor": but(INPAINT, "torch.where(mask, drawn, known)", "mask * drawn + (1 - mask) * known"),
        "changes one of its inputs in place": but(
            INPAINT, "torch.where(mask, drawn, known)", "x_t.copy_(torch.where(mask, drawn, known))"
        ),
        "draw none of your own": but(INPAINT, "eps\n", "torch.randn_like(x_0)\n"),
        "it returns the same whatever mask is": but(
            INPAINT, "torch.where(mask, drawn, known)", "torch.where(x_0 > 0, drawn, known)"
        ),
        "it stops with ValueError": but(
            INPAINT, "b.sqrt() * x_0 + (1 - b).sqrt() * eps\n", "add_noise(schedule, x_0, t_before, eps)\n"
        ),
        "the mask, (H, W), fits pictures as it is": but(INPAINT, "mask,", "mask.flatten(),"),
    },
    "slerp": {
        "that is the straight line": [
            "return torch.lerp(a, b, share)",
            but(
                SLERP,
                "torch.sin((1 - share) * angle)",
                "(1 - share) * angle.sin()",
                "torch.sin(share * angle)",
                "share * angle.sin()",
            ),
        ],
        "the angle is 0, and 0 / 0 is NaN. The arc": but(
            SLERP, "torch.where(angle < 1e-3, a + share * (b - a), arc)", "arc"
        ),
        "only hides that this is 0 / 0": [
            but(SLERP, "torch.where(angle < 1e-3, a + share * (b - a), arc)", "arc.nan_to_num()"),
            but(
                SLERP,
                "torch.where(angle < 1e-3, a + share * (b - a), arc)",
                "arc",
                "/ angle.sin()",
                "/ (angle.sin() + 1e-8)",
            ),
        ],
        "it returns a, whatever share is": but(SLERP, "a + share * (b - a)", "a"),
        "it returns b, whatever share is": but(SLERP, "a + share * (b - a)", "b"),
        "vectors that are not normalised": but(SLERP, f" / {NORMS}", ""),
        "acos of a number beyond 1 is NaN": but(SLERP, f" / {NORMS}", "", ".clamp(-1, 1)", "").replace(
            "sum(1)", "sum(1) * 100"
        ),
        "square of a's length": but(SLERP, NORMS, "a.flatten(1).square().sum(1)"),
        "square of b's length": but(SLERP, NORMS, "b.flatten(1).square().sum(1)"),
        "divided by the number of pixels": but(SLERP, NORMS, "a[0].numel()"),
        "one angle is taken for the whole batch": [
            but(
                SLERP,
                f"(a * b).flatten(1).sum(1) / {NORMS}",
                "(a * b).sum() / a.norm() / b.norm()",
                "[:, None, None, None]",
                "",
            ),
            but(
                SLERP,
                f"(a * b).flatten(1).sum(1) / {NORMS}",
                "F.cosine_similarity(a.flatten(), b.flatten(), dim=0)",
                "[:, None, None, None]",
                "",
            ),
        ],
        "every pixel gets an angle of its own": but(
            SLERP,
            f"(a * b).flatten(1).sum(1) / {NORMS}",
            "F.cosine_similarity(a, b)",
            "[:, None, None, None]",
            "[:, None]",
        ),
        "every channel gets an angle of its own": but(
            SLERP,
            f"(a * b).flatten(1).sum(1) / {NORMS}",
            "F.cosine_similarity(a.flatten(2), b.flatten(2), dim=2)",
            "[:, None, None, None]",
            "[..., None, None]",
        ),
        "each row of pixels gets an angle": but(
            SLERP,
            f"(a * b).flatten(1).sum(1) / {NORMS}",
            "F.cosine_similarity(a, b, dim=-1)",
            "[:, None, None, None]",
            "[..., None]",
        ),
        "the angle is in degrees": [
            but(SLERP, ".acos()", ".acos().rad2deg()"),
            but(SLERP, ".acos()", ".acos().mul(180 / math.pi)", "angle < 1e-3", "angle.sin() < 1e-3"),
        ],
        "acos is missing": but(SLERP, ".acos()", "", "angle < 1e-3", "angle.sin() < 1e-3"),
        "asin stands where acos belongs": but(SLERP, ".acos()", ".asin()", "angle < 1e-3", "angle.sin() < 1e-3"),
        "share is counted from the wrong end": "a, b = b, a" + SLERP,
        "on the arc share is counted from the wrong end": but(
            SLERP, "(1 - share) *", "S *", "sin(share *", "sin((1 - share) *", "S *", "share *"
        ),
        "the division by the sine": but(SLERP, " / angle.sin()", ""),
        "the sine is taken of share alone": but(
            SLERP,
            "torch.sin((1 - share) * angle)",
            "math.sin(1 - share) * angle",
            "torch.sin(share * angle)",
            "math.sin(share) * angle",
        ),
        "fit only where a and b are at a right angle": but(
            SLERP,
            "torch.sin((1 - share) * angle) / angle.sin()",
            "torch.cos(share * angle)",
            "torch.sin(share * angle) / angle.sin()",
            "torch.sin(share * angle)",
        ),
        "roots of the shares": "return math.sqrt(1 - share) * a + math.sqrt(share) * b",
        "stretched by one number for all": "return torch.lerp(a, b, share) / math.hypot(1 - share, share)",
        "the straight line is stretched back to the sphere": """
            line = torch.lerp(a, b, share)
            length, of_a, of_b = (x.flatten(1).norm(dim=1)[:, None, None, None] for x in (line, a, b))
            return line / length * torch.lerp(of_a, of_b, share)
            """,
        "the lengths of a and b are lost": "a, b = (x / x.flatten(1).norm(dim=1)[:, None, None, None] for x in (a, b))"
        + SLERP,
        "it goes to -b instead of b": f"b = torch.where((a * b).sum((1, 2, 3), True) < 0, -b, b){SLERP}",
        "the sign of the dot product is lost": but(SLERP, "dot.clamp(-1, 1)", "dot.abs().clamp(-1, 1)"),
        "it multiplies pictures as (B, 1, 1, 1)": but(SLERP, "[:, None, None, None]", ""),
        "use torch.where": but(
            SLERP, "return torch.where(angle < 1e-3, a + share * (b - a), arc)", "return arc if angle > 0 else a"
        ),
        "it returns the same whatever share is": but(SLERP, "share", "0.5"),
        "the shape is right, but not the numbers": but(
            SLERP, ".acos()", ".acos().div(2)", "angle < 1e-3", "angle.sin() < 1e-3"
        ),
        "should return a tensor of shape (4, 4, 4, 4), but returns 0.5": "return 0.5",
    },
    "sdedit_start": {
        "strength is upside down": but(START, "strength", "(1 - strength)"),
        "t is one too high": but(START, "k - 1", "k"),
        "t is one too low": but(START, "k - 1", "k - 2"),
        "t is round(strength * (T - 1))": but(START, "len(schedule)", "(len(schedule) - 1)", "k - 1", "k"),
        "strength is squared": but(START, "strength", "strength**2"),
        "the root of strength is taken": but(START, "strength", "strength**0.5"),
        "t is counted from the noisy end": but(START, "k - 1", "len(schedule) - k"),
        "it begins at T - 1 whatever strength is": but(START, "k - 1", "len(schedule) - 1"),
        "a root is missing in x_t: eps": but(
            START, "add_noise(schedule, x_0, t, eps)", "K**0.5 * x_0 + (1 - K) * eps", "K", "schedule.alpha_bars[k - 1]"
        ),
        "a root is missing in x_t: x_0": but(
            START, "add_noise(schedule, x_0, t, eps)", "K * x_0 + (1 - K)**0.5 * eps", "K", "schedule.alpha_bars[k - 1]"
        ),
        "both roots are missing": but(
            START, "add_noise(schedule, x_0, t, eps)", "K * x_0 + (1 - K) * eps", "K", "schedule.alpha_bars[k - 1]"
        ),
        "x_t is x_0 + strength * eps": but(START, "add_noise(schedule, x_0, t, eps)", "x_0 + strength * eps"),
        "x_0 and eps are mixed by strength": but(START, "add_noise(schedule, x_0, t, eps)", "x_0.lerp(eps, strength)"),
        "by the roots of strength": but(
            START, "add_noise(schedule, x_0, t, eps)", "(1 - strength)**0.5 * x_0 + strength**0.5 * eps"
        ),
        "x_t is the clean picture": but(START, "add_noise(schedule, x_0, t, eps)", "x_0"),
        "x_t is noise alone": but(START, "add_noise(schedule, x_0, t, eps)", "eps"),
        "x_0 is not shrunk in x_t": but(
            START, "add_noise(schedule, x_0, t, eps)", "x_0 + (1 - schedule.alpha_bars[k - 1])**0.5 * eps"
        ),
        "eps comes in at full strength": but(
            START, "add_noise(schedule, x_0, t, eps)", "schedule.alpha_bars[k - 1]**0.5 * x_0 + eps"
        ),
        "read from alphas": but(
            START,
            "add_noise(schedule, x_0, t, eps)",
            "K**0.5 * x_0 + (1 - K)**0.5 * eps",
            "K",
            "schedule.alphas[k - 1]",
        ),
        "x_t has the noise of the step before t": but(START, "x_0, t, eps", "x_0, t - 1, eps"),
        "t and x_t have changed places": but(
            START, "t, add_noise(schedule, x_0, t, eps)", "add_noise(schedule, x_0, t, eps), t"
        ),
        "t should be a long tensor of shape (B,)": [
            but(START, "return t,", "return k - 1,"),
            but(START, "return t,", "return t[:1],"),
            but(START, "return t,", "return t / 20,"),
        ],
        "it should return two things": but(START, "return t, ", "return "),
        "the numbers are wrong, in t alone": but(START, "return t,", "return t // 2,"),
        "the numbers are wrong, in x_t alone": but(START, "t, eps)", "t, eps / 2)"),
        "draw none of your own": but(START, "t, eps)", "t, torch.randn_like(x_0))"),
        "it stops with TypeError": but(START, "round(strength * len(schedule))", "strength * schedule"),
    },
}
