"""Answers to the exercises of notebook 03: right ones in many styles, and planted bugs."""

from writing import but

RIGHT = {
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
}

ANGLES = """
half = num_sinusoids // 2
angles = t[:, None] * 10_000 ** (-torch.arange(half) / half)
return torch.cat([angles.sin(), angles.cos()], dim=1)"""
BLOCK = """
h = block.conv_1(F.silu(block.norm_1(x)))
scale, shift = block.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
return block.shortcut(x) + block.conv_2(F.silu(block.norm_2(h) * (1 + scale) + shift))"""

PLANTED = {
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
        "that is what block.shortcut(x) is for": but(BLOCK, "block.shortcut(x)", "x"),
        "scale and shift need the shape (B, C, 1, 1)": [
            but(BLOCK, "[:, :, None, None]", ""),
            but(BLOCK, "[:, :, None, None]", "[:, :, None]"),
            but(BLOCK, "chunk(2, dim=1)", "chunk(2, dim=0)"),
        ],
    },
    "middle_shape": {
        "6 is 96 after 4 halvings": "(256, 6, 6)",
        "It would be 6 with patches of 2 x 2": "(256, 6, 6)",
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
}
