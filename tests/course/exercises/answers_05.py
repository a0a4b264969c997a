"""Answers to the exercises of notebook 05: right ones in many styles, and planted bugs."""

from writing import but

RIGHT = {
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

ATTENTION = """
scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
return scores.masked_fill(padding[:, None], -math.inf).softmax(-1) @ v"""
GUIDED = """
null = null_cond.expand_as(cond)
return lambda x, t: model(x, t, null) + guidance_scale * (model(x, t, cond) - model(x, t, null))"""
MIXTURE = "model(x, t, null) + guidance_scale * (model(x, t, cond) - model(x, t, null))"
DROP = "return torch.where(torch.rand(len(cond), 1, generator=generator) < p, null_cond, cond)"
MASK = "mask = torch.rand(len(cond), generator=generator) < p\n"

PLANTED = {
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
        "padding (B, L) fits them as padding[:, None, :]": [
            but(ATTENTION, "[:, None]", ""),
            but(ATTENTION, "k.transpose(1, 2)", "k"),
        ],
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
