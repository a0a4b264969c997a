"""Answers to the exercises of notebook 09: right ones in many styles, and planted bugs."""

from writing import but

RIGHT = {
    "dynamic_threshold": [
        "return dynamic_threshold(share)(x_0_hat)",
        """
        pictures = []
        for x in x_0_hat:
            s = max(1.0, torch.quantile(x.abs(), share).item())
            pictures.append((x / s).clip(-1, 1))
        return torch.stack(pictures)
        """,
        """
        s = np.percentile(np.abs(x_0_hat.numpy()), 100 * share, axis=(1, 2, 3), keepdims=True)
        s = torch.tensor(s).clamp(min=1)
        return torch.where(x_0_hat.abs() > s, x_0_hat.sign(), x_0_hat / s)
        """,
        """
        rows = x_0_hat.double().abs().reshape(len(x_0_hat), -1)
        s = torch.maximum(torch.quantile(rows, share, dim=-1), torch.ones(1))[:, None, None, None]
        return torch.minimum(torch.maximum(x_0_hat, -s), s) / s
        """,
        """
        rows = x_0_hat.abs().flatten(1).sort(dim=1).values  # without interpolation
        s = rows[:, int(share * rows.shape[1])].view(-1, 1, 1, 1)
        s[s < 1] = 1
        return torch.clamp(x_0_hat / s, -1, 1)
        """,
        """
        rows = x_0_hat.abs().flatten(1)
        s = rows.kthvalue(int(share * rows.shape[1]), dim=1).values.clamp_min(1).view(-1, 1, 1, 1)
        return x_0_hat.clamp(-s, s).div(s)
        """,
    ],
    "super_resolver_input": [
        """
        sure = augmented(low, level, None) * 0 + torch.einsum("b,bchw->bchw", (1 - level**2) ** 0.5, low)
        sure = sure + torch.einsum("b,bchw->bchw", level, noise)
        plane = torch.ones_like(x_t[:, :1]) * level[:, None, None, None]
        return torch.cat((x_t, F.interpolate(sure, size=x_t.shape[-2:], mode="bicubic"), plane), 1)
        """,
        """
        H, W = x_t.shape[2:]
        level = level.view(-1, 1, 1, 1)
        picture, grain = (F.interpolate(x, (H, W), mode="bicubic", align_corners=False) for x in (low, noise))
        enlarged = torch.sqrt(1 - level.square()) * picture + level * grain  # enlarging is linear
        return torch.hstack([x_t, enlarged, level.repeat(1, 1, H, W)])
        """,
        """
        whole = []
        for x, small, sigma, z in zip(x_t, low, level, noise):
            small = math.sqrt(1 - sigma.item() ** 2) * small + sigma * z
            large = F.interpolate(small[None], scale_factor=x.shape[1] // small.shape[1], mode="bicubic")[0]
            whole.append(torch.cat([x, large, torch.full_like(x[:1], sigma.item())]))
        return torch.stack(whole)
        """,
        """
        angle = torch.asin(level)[:, None, None, None]
        mixed = angle.cos() * low + angle.sin() * noise
        B, C, H, W = x_t.shape
        result = torch.empty(B, 2 * C + 1, H, W)
        result[:, :C], result[:, C:-1] = x_t, nn.Upsample((H, W), mode="bicubic")(mixed)
        result[:, -1] = level.reshape(B, 1, 1)
        return result
        """,
    ],
    "best_candidate": [
        """
        cosines = torch.cosine_similarity(candidates, text_vectors[None], dim=2)
        best = F.normalize(candidates[cosines.max(dim=0).indices, range(len(text_vectors))])
        return best
        """,
        """
        drawn = F.normalize(candidates, dim=-1).transpose(0, 1)
        scores = torch.bmm(drawn, text_vectors[:, :, None])
        return drawn.take_along_dim(scores.argmax(dim=1, keepdim=True), dim=1)[:, 0]
        """,
        """
        kept = []
        for i, text in enumerate(text_vectors):
            own = [v / v.norm() for v in candidates[:, i]]
            kept.append(max(own, key=lambda v: float(v @ text)))
        return torch.stack(kept)
        """,
        """
        drawn = F.normalize(candidates, dim=2)
        best, best_cosine = drawn[0], (drawn[0] * text_vectors).sum(1, keepdim=True)
        for each in drawn[1:]:
            cosine = (each * text_vectors).sum(1, keepdim=True)
            best = torch.where(cosine > best_cosine, each, best)
            best_cosine = torch.maximum(cosine, best_cosine)
        return best
        """,
        """
        drawn = candidates / torch.linalg.vector_norm(candidates, dim=-1, keepdim=True)
        nearest = torch.cdist(drawn.transpose(0, 1), text_vectors[:, None]).squeeze(2).argmin(dim=1)
        return torch.einsum("bk,kbd->bd", F.one_hot(nearest, len(drawn)).float(), drawn)
        """,
    ],
    "text_difference": [
        "return text_difference(vectors, before, after, share)",
        "return slerp(vectors, F.normalize(after - before), share)",
        """
        way = F.normalize(after.double() - before, dim=-1)
        cosine = (vectors * way).sum(dim=1, keepdim=True)
        across = F.normalize(way - cosine * vectors, dim=1)  # at a right angle to the pictures' vectors
        angle = share * torch.acos(cosine)
        return angle.cos() * vectors + angle.sin() * across
        """,
        """
        d = after - before
        d = d / torch.sqrt((d**2).sum(-1, keepdim=True))
        rows = [slerp(v[None], w[None], share)[0] for v, w in zip(vectors, d.expand(len(vectors), -1))]
        return torch.stack(rows)
        """,
        "return slerp(F.normalize(before - after), vectors, 1 - share) * 0 + slerp(F.normalize(after - before)"
        ".expand_as(vectors), vectors, 1 - share)",
    ],
}

THRESHOLD = """
s = x_0_hat.abs().flatten(1).quantile(share, dim=1)
s = torch.clamp(s, min=1.0)[:, None, None, None]
return torch.clamp(x_0_hat, -s, s) / s"""
CUT = "torch.clamp(x_0_hat, -s, s) / s"
QUANTILE = "x_0_hat.abs().flatten(1).quantile(share, dim=1)"
INPUT = """
a = level[:, None, None, None]
small = torch.sqrt(1 - a**2) * low + a * noise
large = F.interpolate(small, x_t.shape[2:], mode="bicubic")
return torch.cat([x_t, large, a.expand(-1, -1, *x_t.shape[2:])], dim=1)"""
MIX, PLANE = "torch.sqrt(1 - a**2) * low + a * noise", "a.expand(-1, -1, *x_t.shape[2:])"
BICUBIC, JOINED = 'mode="bicubic"', f"[x_t, large, {PLANE}]"
BEST = """
v = F.normalize(candidates, dim=2)
cosines = torch.einsum("kbd,bd->kb", v, text_vectors)
return v[cosines.argmax(dim=0), torch.arange(v.shape[1])]"""
MOVE = """
difference = F.normalize(after - before, dim=1)
return slerp(vectors, difference, share)"""
OWN = """
d = F.normalize(after - before, dim=1).expand_as(vectors)
angle = (vectors * d).sum(1, keepdim=True).clamp(-1, 1).acos()
return (torch.sin((1 - share) * angle) * vectors + torch.sin(share * angle) * d) / torch.sin(angle)"""

PLANTED = {
    "dynamic_threshold": {
        "that is static clipping": ["return x_0_hat.clamp(-1, 1)", f"x_0_hat = x_0_hat.clip(-1, 1){THRESHOLD}"],
        "cut off at 1 before it is divided": but(THRESHOLD, "-s, s", "-1, 1"),
        "nothing is cut off: ": but(THRESHOLD, CUT, "x_0_hat / s"),
        "there are two slips": but(THRESHOLD, CUT, "x_0_hat / s", ", min=1.0", ", min=0"),
        "the division is forgotten": but(THRESHOLD, " / s", ""),
        "after the division the bounds are -1 and 1": but(THRESHOLD, CUT, "torch.clamp(x_0_hat / s, -s, s)"),
        "divided by s twice": but(THRESHOLD, " / s", " / s / s"),
        "it is multiplied with s": but(THRESHOLD, " / s", " * s"),
        "only what is above s is cut off": but(THRESHOLD, CUT, "torch.minimum(x_0_hat, s) / s"),
        "only what is below -s is cut off": but(THRESHOLD, CUT, "torch.maximum(x_0_hat, -s) / s"),
        "everything below 0 is cut off": but(THRESHOLD, CUT, "(x_0_hat / s).clamp(0, 1)"),
        "the signs are lost": f"x_0_hat = x_0_hat.abs(){THRESHOLD}",
        "s may be below 1": but(THRESHOLD, "torch.clamp(s, min=1.0)", "s"),
        "s is at most 1": but(THRESHOLD, "min=1.0", "max=1.0"),
        "1 is added to s": but(THRESHOLD, "torch.clamp(s, min=1.0)", "(1 + s)"),
        "comes back as it is, with the few numbers": but(
            THRESHOLD, "torch.clamp(s, min=1.0)", "s", CUT, f"torch.where(s <= 1, x_0_hat, {CUT})"
        ),
        "the numbers with their signs": but(THRESHOLD, ".abs()", ""),
        "looked for above and below": but(
            THRESHOLD,
            QUANTILE,
            "torch.stack([(sign * x_0_hat).flatten(1).quantile(share, dim=1) for sign in (1, -1)]).amax(0)",
        ),
        "the quantile of squares": but(THRESHOLD, "abs", "square"),
        "1 - share stands where share belongs": but(THRESHOLD, "quantile(share", "quantile(1 - share"),
        "one s for the whole batch": but(THRESHOLD, QUANTILE, "x_0_hat.abs().quantile(share).reshape(1)"),
        "the largest s of the batch": but(THRESHOLD, QUANTILE, f"{QUANTILE}.max().reshape(1)"),
        "the mean s of the batch": but(THRESHOLD, QUANTILE, f"{QUANTILE}.mean().reshape(1)"),
        "the s of the first picture": but(THRESHOLD, QUANTILE, f"{QUANTILE}[:1]"),
        "every pixel has an s of its own": but(THRESHOLD, ".flatten(1)", "", "[:, None, None, None]", "[:, None]"),
        "every channel has an s of its own": but(
            THRESHOLD, "flatten(1)", "flatten(2)", "dim=1", "dim=2", "[:, None, None, None]", "[:, :, None, None]"
        ),
        "every column of pixels": but(
            THRESHOLD, ".flatten(1)", "", "dim=1", "dim=2", "[:, None, None, None]", "[:, :, None]"
        ),
        "every row of pixels": but(
            THRESHOLD, ".flatten(1)", "", "dim=1", "dim=3", "[:, None, None, None]", "[:, :, :, None]"
        ),
        "over the pictures of the batch": but(
            THRESHOLD, ".flatten(1)", "", "dim=1", "dim=0", "[:, None, None, None]", "[None]"
        ),
        "one wild pixel": but(THRESHOLD, "quantile(share, dim=1)", "max(dim=1).values"),
        "this share of the largest number": but(THRESHOLD, QUANTILE, "share * x_0_hat.abs().amax((1, 2, 3))"),
        "s is the mean": but(THRESHOLD, "quantile(share, dim=1)", "mean(dim=1)"),
        "share itself stands where s belongs": "return x_0_hat.clamp(-share, share) / share",
        "it returns one number per picture": [
            but(THRESHOLD, CUT, "s"),
            f"return {QUANTILE}.clamp(min=1)",
        ],
        "it returns a function, as the package's own does": "return dynamic_threshold(share)",
        "(B, C, H, W) as (B, 1, 1, 1): reshape it": but(THRESHOLD, "[:, None, None, None]", ""),
        "quantile goes along one axis": but(THRESHOLD, ".flatten(1)", "", "dim=1", "dim=(1, 2, 3)"),
        "quantile() q must be in the range [0, 1]": but(THRESHOLD, "quantile(share", "quantile(100 * share"),
        "use torch.where": [
            but(THRESHOLD, "torch.clamp(s, min=1.0)", "max(s, 1)"),
            f"s = {QUANTILE}\nif s < 1:\n    s = 1\n{THRESHOLD}",
        ],
        "it changes one of its inputs in place": but(THRESHOLD, "x_0_hat.abs()", "x_0_hat.abs_()"),
        "whatever share is": but(THRESHOLD, "share", "0.9"),
        "the shape is right, but not the numbers": but(THRESHOLD, "min=1.0", "min=2.0"),
    },
    "super_resolver_input": {
        "mixed as 1 - level and level": [
            but(INPUT, "torch.sqrt(1 - a**2)", "(1 - a)"),
            but(INPUT, MIX, "low.lerp(noise, a)"),
        ],
        "the noise comes on top": but(INPUT, "torch.sqrt(1 - a**2) * ", ""),
        "level is taken for a variance": but(INPUT, "1 - a**2", "1 - a", "+ a *", "+ a**0.5 *"),
        "a square is missing under the root": but(INPUT, "a**2", "a"),
        "low's factor lacks its root": but(INPUT, "torch.sqrt(1 - a**2)", "(1 - a**2)"),
        "both factors are variances": but(INPUT, "torch.sqrt(1 - a**2)", "(1 - a**2)", "+ a *", "+ a**2 *"),
        "level is squared in front of noise": but(INPUT, "+ a *", "+ a**2 *"),
        "squared once too often": but(INPUT, "1 - a**2", "1 - a**4", "+ a *", "+ a**2 *"),
        "noise gets the root of level": but(INPUT, "+ a *", "+ a.sqrt() *"),
        "level**2 is added under the root": but(INPUT, "1 - a**2", "1 + a**2"),
        "noise is subtracted": but(INPUT, "+ a *", "- a *"),
        "noise comes in at full strength": but(INPUT, "+ a *", "+"),
        "no noise comes in its place": but(INPUT, " + a * noise", ""),
        "the two factors have changed places": but(INPUT, MIX, "a * low + torch.sqrt(1 - a**2) * noise"),
        "half of it is still picture at level 1": but(INPUT, MIX, "(low + a * noise) / torch.hypot(a, torch.ones(1))"),
        "no noise is added to the small picture": but(INPUT, MIX, "low"),
        "noise stands in the place of the small picture": but(INPUT, MIX, "noise"),
        "the small picture is multiplied with level": but(INPUT, MIX, "a * low"),
        "clipped after the noise is added": but(INPUT, MIX, f"({MIX}).clip(-1, 1)"),
        "the level of the first picture is used for all": f"level = level[0].repeat(len(level)){INPUT}",
        "the mean level of the batch is used for all": f"level = level.mean().repeat(len(level)){INPUT}",
        "all get noise of the first one's level": but(
            INPUT, MIX, "torch.sqrt(1 - level[0] ** 2) * low + level[0] * noise"
        ),
        "all get noise of the mean level": but(
            INPUT, MIX, "(1 - level.mean() ** 2).sqrt() * low + level.mean() * noise"
        ),
        "the plane says level 0": but(INPUT, PLANE, "torch.zeros_like(x_t[:, :1])"),
        "the plane is 1 everywhere": but(INPUT, PLANE, "torch.ones_like(x_t[:, :1])"),
        "the plane has the square of level": but(INPUT, PLANE, f"{PLANE} ** 2"),
        "the plane has the root of level": but(INPUT, PLANE, f"{PLANE}.sqrt()"),
        "the plane says 1 - level": but(INPUT, PLANE, f"1 - {PLANE}"),
        "the plane has the factor of the picture": but(INPUT, PLANE, f"torch.sqrt(1 - {PLANE} ** 2)"),
        "the first picture's level in all": but(INPUT, PLANE, "torch.full_like(x_t[:, :1], level[0].item())"),
        "the mean level in all": but(INPUT, PLANE, "torch.full_like(x_t[:, :1], level.mean().item())"),
        "in squares of one colour": [
            but(INPUT, f", {BICUBIC}", ""),
            but(
                INPUT,
                f"F.interpolate(small, x_t.shape[2:], {BICUBIC})",
                "small.repeat_interleave(len(x_t[0, 0]) // len(low[0, 0]), 2)"
                ".repeat_interleave(x_t.shape[3] // low.shape[3], 3)",
            ),
        ],
        'mode="bilinear"; mode="bicubic" is asked for': but(INPUT, "bicubic", "bilinear"),
        "align_corners=True stretches": but(INPUT, BICUBIC, f"{BICUBIC}, align_corners=True"),
        "antialias=True takes another curve": but(INPUT, BICUBIC, f"{BICUBIC}, antialias=True"),
        "the enlarged picture is clipped": but(INPUT, "return", "large = large.clamp(-1, 1)\nreturn"),
        "the order is another one": [
            but(INPUT, JOINED, f"[{', '.join(parts)}]")
            for parts in (
                ("large", "x_t", PLANE),
                ("x_t", PLANE, "large"),
                (PLANE, "x_t", "large"),
                (PLANE, "large", "x_t"),
                ("large", PLANE, "x_t"),
            )
        ],
        "subtracted from x_t": but(INPUT, "[x_t,", "[x_t - large,"),
        "added to x_t": but(INPUT, "[x_t,", "[x_t + large,"),
        "x_t stands twice": but(INPUT, "[x_t, large,", "[x_t, x_t,"),
        "the enlarged picture stands twice": but(INPUT, "[x_t, large,", "[large, large,"),
        "it returns several things": but(INPUT, f"torch.cat({JOINED}, dim=1)", "x_t, large, a"),
        "joined along the batch": but(INPUT, f"{JOINED}, dim=1", "[x_t, large]"),
        "it returns only the small picture": f"{but(INPUT, 'return', 'x =')}\nreturn small",
        "3 channels, as many as x_t has": but(INPUT, f"torch.cat({JOINED}, dim=1)", "x_t + large"),
        "the plane with level is missing": but(INPUT, JOINED, "[x_t, large]"),
        "a picture is missing": f"x_t = x_t.repeat(1, 2, 1, 1){but(INPUT, 'x_t, large, ', 'large, ')}",
        "level takes a single one": but(INPUT, PLANE, "a.expand_as(x_t)"),
        "goes with pictures as (B, 1, 1, 1)": [
            but(INPUT, "[:, None, None, None]", "", PLANE, "level[:, None, None, None].expand_as(x_t[:, :1])"),
            but(INPUT, PLANE, "level.expand_as(x_t[:, :1])"),
            but(INPUT, "x_t.shape[2:], m", "(64, 64), m"),
            but(INPUT, PLANE, "level"),
        ],
        "two of the three parts; level's plane is not": but(INPUT, PLANE, f"0.5 * {PLANE}"),
        "with its noise, enlarged, is not": but(INPUT, "= F", "= 0.5 * F"),
        "two of the three parts; x_t is not": but(INPUT, "[x_t,", "[0.5 * x_t,"),
        "draw none of your own": but(INPUT, "a * noise", "a * torch.randn_like(low)"),
        "the shape is right, but not the numbers": but(INPUT, JOINED, f"[0.5 * x_t, large, 0.5 * {PLANE}]"),
        "it stops with ValueError": but(INPUT, "x_t.shape[2:], m", "x_t.shape, m"),
    },
    "best_candidate": {
        "neither to choose nor in the end": but(BEST, "F.normalize(candidates, dim=2)", "candidates"),
        "before the candidates are normalised": but(BEST, "v, text", "candidates, text"),
        "but returned as they were drawn": but(BEST, "return v", "return candidates"),
        "the longest candidate is chosen": but(BEST, "cosines.argmax", "candidates.norm(dim=2).argmax"),
        "the lengths go over the candidates of a text": but(BEST, "dim=2", "dim=0"),
        "the lengths go over the texts": but(BEST, ", dim=2", ""),
        "all candidates are divided by one number": but(
            BEST, "F.normalize(candidates, dim=2)", "candidates / candidates.norm()"
        ),
        "the squares of their lengths": but(
            BEST, "F.normalize(candidates, dim=2)", "candidates / candidates.square().sum(2, keepdim=True)"
        ),
        "multiplied with their lengths": but(
            BEST, "F.normalize(candidates, dim=2)", "candidates * candidates.norm(dim=2)[..., None]"
        ),
        "argmin finds the candidate that fits least": [
            but(BEST, "argmax", "argmin"),
            but(BEST, "cosines.argmax", "(v - text_vectors).norm(dim=2).argmax"),
        ],
        "the sign of the cosine is lost": but(BEST, "cosines.argmax", "cosines.square().argmax"),
        "one candidate's number is chosen for the whole batch; ": [
            "v = F.normalize(candidates, dim=2)\nreturn v[(v * text_vectors).sum(dim=(1, 2)).argmax()]",
            but(BEST, "cosines.argmax(dim=0)", "cosines.sum(1).argmax()"),
        ],
        "that of the largest cosine of all": but(BEST, "cosines.argmax(dim=0)", "cosines.amax(1).argmax()"),
        "the first candidate is taken": "return F.normalize(candidates[0])",
        "the last candidate is taken": "return F.normalize(candidates[-1])",
        "and it is shorter than 1": "return F.normalize(candidates, dim=2).mean(dim=0)",
        "keep the best one.": [
            "return F.normalize(F.normalize(candidates, dim=2).sum(dim=0))",
            but(BEST, "v[cosines", "torch.einsum('kb,kbd->bd', cosines.softmax(0), v) #"),
        ],
        "that is no direction": but(BEST, "v[cosines", "v.max(dim=0).values #"),
        "it returns the texts' vectors": "return text_vectors.clone()",
        "among the candidates of all texts": """
            v = F.normalize(candidates, dim=2).reshape(-1, candidates.shape[2])
            return v[(v @ text_vectors.T).argmax(dim=0)]""",
        "the distance is taken from vectors of any length": but(
            BEST, "cosines.argmax", "(candidates - text_vectors).square().sum(2).argmin"
        ),
        "candidates is read as (B, K, D)": """
            v = F.normalize(candidates.view(len(text_vectors), -1, text_vectors.shape[1]), dim=2)
            best = torch.einsum("bkd,bd->bk", v, text_vectors).argmax(dim=1)
            return v[torch.arange(len(v)), best]""",
        "its neighbour's text": but(BEST, "v, text_vectors", "v, text_vectors.roll(1, 0)"),
        "it returns the numbers of the candidates": but(BEST, "v[cosines.argmax(dim=0), ", "cosines.argmax(dim=0) # "),
        "it returns one number per text, a cosine": but(BEST, "v[cosines", "cosines.amax(dim=0) # "),
        "it returns the cosines of all candidates": but(BEST, "v[cosines", "cosines # "),
        "it returns a single vector": but(BEST, "v[cosines", "v.flatten(0, 1)[cosines.argmax()] #"),
        "candidates[best] picks a candidate's vectors for all the texts": but(BEST, ", torch.arange(v.shape[1])", ""),
        "it returns all the candidates": but(BEST, "v[cosines", "v # "),
        "should return a tensor of shape (9, 5), but returns [": but(BEST, "return v[", "return [v[").replace(
            "shape[1])]", "shape[1])]]"
        ),
        "and the cosines are (K, B)": [
            but(BEST, "argmax(dim=0)", "argmax(dim=1)"),
            "v = candidates / candidates.norm(dim=2)" + but(BEST, "v = F.normalize(candidates, dim=2)", ""),
            but(BEST, "kbd,bd->kb", "bkd,bd->kb"),
        ],
        "whatever candidates is": "return F.normalize(text_vectors.flip(0))",
        "whatever text_vectors is": but(BEST, "cosines.argmax", "v.sum(2).argmax"),
        "the shape is right, but not the numbers": but(
            BEST, "cosines.argmax", "(v - text_vectors).abs().sum(2).argmin"
        ),
    },
    "text_difference": {
        "before and after have changed places": but(MOVE, "after - before", "before - after"),
        "the texts are added": but(MOVE, "after - before", "after + before"),
        "it turns towards after itself": [
            "return slerp(vectors, after, share)",
            "return slerp(vectors, after.expand_as(vectors), share)",
        ],
        "it turns towards before": "return slerp(vectors, before, share)",
        "it turns away from before": but(MOVE, "after - before", "-before"),
        "the picture's own vector stands where before belongs": but(MOVE, "- before", "- vectors"),
        "towards vectors + after - before": but(MOVE, "after - before", "vectors + after - before"),
        "the difference is not normalised": "return slerp(vectors, after - before, share)",
        "the length of the whole table": but(
            MOVE, "F.normalize(after - before, dim=1)", "(after - before) / (after - before).norm()"
        ),
        "the columns are normalised": but(MOVE, "dim=1", "dim=0"),
        "the square of its length": but(
            MOVE, "F.normalize(after - before, dim=1)", "(after - before) / (after - before).square().sum(1, True)"
        ),
        "share is counted from the wrong end": [
            but(MOVE, "share)", "1 - share)"),
            but(MOVE, "vectors, difference", "difference.expand_as(vectors), vectors"),
        ],
        "and what it returns is shorter than 1": but(MOVE, "slerp", "torch.lerp"),
        "stretched to length 1 again": but(
            MOVE, "slerp(vectors, difference, share)", "F.normalize(torch.lerp(vectors, difference, share))"
        ),
        "the difference is added, and the result": but(
            MOVE, "slerp(vectors, difference, share)", "vectors + share * difference"
        ),
        "the difference is added, and the sum": but(
            MOVE, "slerp(vectors, difference, share)", "F.normalize(vectors + share * difference)"
        ),
        "as it is, and the result": "return vectors + share * (after - before)",
        "as it is, and the sum": "return F.normalize(vectors + share * (after - before), dim=1)",
        "as in king - man + woman": "return F.normalize(vectors + after - before, dim=1)",
        "the whole difference is added, whatever share is, and the result": "return vectors - before + after",
        "the pictures' vectors come back as they are": "return vectors.clone()",
        "it returns the difference alone": [
            but(MOVE, "slerp(vectors, difference, share)", "difference.expand_as(vectors)"),
            but(MOVE, ", share)", ", 1.0)"),
        ],
        "the division by the sine of the angle is missing": but(OWN, " / torch.sin(angle)", ""),
        "the sine is taken of share alone": but(
            OWN,
            "torch.sin((1 - share) * angle)",
            "math.sin(1 - share)",
            "torch.sin(share * angle)",
            "math.sin(share)",
            "return",
            "moved =",
        )
        + "\nreturn F.normalize(moved)",
        "the angle is in degrees": but(OWN, ".acos()", ".acos() * 180 / math.pi", "return", "moved =")
        + "\nreturn F.normalize(moved)",
        "acos is missing": but(OWN, ".acos()", "", "return", "moved =") + "\nreturn F.normalize(moved)",
        "one angle is taken for the whole batch": but(OWN, "sum(1, keepdim=True)", "sum()", "return", "moved =")
        + "\nreturn F.normalize(moved)",
        "it begins at the text before": but(MOVE, "slerp(vectors", "slerp(before.expand_as(vectors)"),
        "it goes from before to after": "return slerp(before, after, share).expand_as(vectors)",
        "my_slerp of notebook 06 is for pictures": "return vectors[:, None, None]",
        "before and after may have a single row": but(MOVE, "vectors, d", "vectors[: len(before)], d"),
        "is a column, keepdim=True": "d = after - before\nreturn slerp(vectors, d / d.norm(dim=1), share)",
        "it returns the same whatever": but(MOVE, "share)", "0.3)"),
        "it stops with ValueError": but(MOVE, "share)", "100 * share)"),
        "some of the numbers it returns are NaN": but(
            OWN, "F.normalize(after - before, dim=1)", "(4 * after)", ".clamp(-1, 1)", ""
        ),
        "the shape is right, but not the numbers": but(MOVE, "share)", "share / 2)"),
    },
}
