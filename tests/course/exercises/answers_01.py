"""Answers to the exercises of notebook 01: right ones in many styles, and planted bugs."""

from writing import but

RIGHT = {
    "x_T": [
        "torch.randn((16, 3, 32, 32), generator=torch.Generator().manual_seed(7))",
        "torch.randn(16 * 3 * 32 * 32, generator=torch.Generator().manual_seed(7)).view(16, 3, 32, 32)",
        "torch.empty(16, 3, 32, 32).normal_(generator=torch.Generator().manual_seed(7))",
    ],
    "reverse_step": [
        "return (x_t - (1 - alpha) / math.sqrt(1 - alpha_bar) * eps_hat) / math.sqrt(alpha)",
        "return torch.as_tensor((x_t - beta * eps_hat / (1 - alpha_bar) ** 0.5) / alpha**0.5).float()",
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
}

X_T = "torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(7))"
STEP_BACK = "return (x_t - beta / (1 - alpha_bar)**.5 * eps_hat) / alpha**.5"
CENSUS = """
nearest = torch.cdist(points, centres).argmin(dim=1)
towns = [points[nearest == k] for k in range(len(centres))]
shares, deviations = [len(town) / len(points) for town in towns], [town.std(0).mean() for town in towns]
return shares, deviations"""

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
        "write x ** 0.5, or math.sqrt(x)": [
            "return (x_t - beta * eps_hat / (1 - alpha_bar).sqrt()) / alpha.sqrt()",
            "return (x_t - beta * eps_hat / torch.sqrt(1 - alpha_bar)) / torch.sqrt(alpha)",
        ],
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
        "it should return one number": "return torch.tensor([x_t, eps_hat])",
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
}
