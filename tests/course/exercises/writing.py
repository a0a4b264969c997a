"""Bodies of answers, as a learner would write them, and edits of them."""

LOOKED_UP = """
a, b, ab = (v[t].reshape(-1, 1, 1, 1) for v in (schedule.alphas, schedule.betas, schedule.alpha_bars))
p = torch.cat([torch.ones(1), schedule.alpha_bars])[t].reshape(-1, 1, 1, 1)
"""
PREVIOUS = "torch.cat([torch.ones(1), schedule.alpha_bars])[t]"


def but(body: str, *edits: str) -> str:
    """The body with pieces replaced: old, new, old, new, ..."""
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        assert old in body
        body = body.replace(old, new)
    return body
