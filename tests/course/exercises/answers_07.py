"""Answers to the exercises of notebook 07: right ones in many styles, and planted bugs."""

from writing import but

UNIT = """
a, b = F.normalize(image_vectors), F.normalize(text_vectors)
"""
TABLE = f"{UNIT}logits = a @ b.T / temperature\n"

RIGHT = {
    "contrastive_loss": [
        "return contrastive_loss(F.normalize(image_vectors), F.normalize(text_vectors), temperature, fits)",
        f"""{TABLE}
targets = fits.float()
one = F.cross_entropy(logits, targets / targets.sum(1, keepdim=True))
two = F.cross_entropy(logits.T, targets.T / targets.T.sum(1, keepdim=True))
return (one + two) / 2
        """,
        """
        total = 0
        for own, other, good in ((image_vectors, text_vectors, fits), (text_vectors, image_vectors, fits.T)):
            for i in range(len(own)):
                scores = torch.stack([F.cosine_similarity(own[i], each, dim=0) / temperature for each in other])
                surprise = torch.logsumexp(scores, 0) - scores  # -log of each probability
                total = total + surprise[good[i]].mean()
        return total / (2 * len(fits))
        """,
        """
        cosines = F.cosine_similarity(image_vectors[:, None].double(), text_vectors[None], dim=-1)
        scale = math.exp(math.log(1 / float(temperature)))  # as in the paper
        p, q = (scale * cosines).softmax(1), (scale * cosines).softmax(0)
        return -((fits * p.log()).sum(1) / fits.sum(1) + (fits * q.log()).sum(0) / fits.sum(0)).mean() / 2
        """,
    ],
    "search": [
        "return F.cosine_similarity(vectors, query_vector[None]).argsort(descending=True)[:k]",
        "return torch.topk(F.normalize(vectors) @ F.normalize(query_vector, dim=0), k)[1]",
        "return (F.normalize(vectors) - query_vector / query_vector.norm()).norm(dim=1).topk(k, largest=False).indices",
        "return torch.cdist(query_vector[None] / 3, F.normalize(vectors))[0].argsort()[:k]",
        """
        scored = [(float(row @ query_vector / row.norm()), i) for i, row in enumerate(vectors)]
        return torch.tensor([i for _, i in sorted(scored, reverse=True)[:k]])
        """,
        "return torch.from_numpy(np.argsort(-F.cosine_similarity(vectors, query_vector, dim=1).numpy())[:k].copy())",
    ],
    "zero_shot": [
        "return torch.einsum('bd,kd->bk', image_vectors, F.normalize(prompt_vectors.sum(dim=1))).argmax(1)",
        """
        best = []
        for picture in image_vectors:
            scores = [F.cosine_similarity(picture, prompts.mean(0), dim=0).item() for prompts in prompt_vectors]
            best.append(scores.index(max(scores)))
        return torch.tensor(best)
        """,
        "return torch.cdist(image_vectors, F.normalize(prompt_vectors.mean(1))).argmin(dim=1)",
        "return (10 * image_vectors @ F.normalize(prompt_vectors.mean(1)).T).softmax(dim=1).max(dim=1).indices",
    ],
    "keep_pairs": [
        "return (F.normalize(image_vectors) * F.normalize(text_vectors)).sum(dim=-1) > threshold",
        "return F.cosine_similarity(image_vectors[:, None], text_vectors, dim=2).diagonal().ge(threshold)",
        "return torch.einsum('nd,nd->n', F.normalize(image_vectors), F.normalize(text_vectors)) >= threshold",
        """
        kept = []
        for a, b in zip(image_vectors.tolist(), text_vectors.tolist()):
            product = sum(x * y for x, y in zip(a, b))
            kept.append(product / math.hypot(*a) / math.hypot(*b) > threshold)
        return torch.tensor(kept)
        """,
    ],
}

LOSS = f"""{TABLE}
p, q = F.normalize(fits.float(), p=1, dim=1), F.normalize(fits.T.float(), p=1, dim=1)
return (F.cross_entropy(logits, p) + F.cross_entropy(logits.T, q)) / 2"""
NORMALISED = "F.normalize(image_vectors), F.normalize(text_vectors)"
PAPER = but(LOSS, "p, q =", "arange = torch.arange(len(logits))\np, q =", "logits, p", "logits, arange")
SEARCH = "return (F.normalize(vectors) @ query_vector).topk(k).indices"
CLASSES = """
classes = F.normalize(prompt_vectors.mean(dim=1))
return (image_vectors @ classes.T).argmax(dim=1)"""
COSINES = f"{UNIT}cosines = (a * b).sum(1)\n"
KEEP = f"{COSINES}return cosines > threshold"

PLANTED = {
    "contrastive_loss": {
        "the vectors are not normalised": but(LOSS, NORMALISED, "image_vectors, text_vectors"),
        "image_vectors are not normalised, text": but(LOSS, "F.normalize(image_vectors)", "image_vectors"),
        "text_vectors are not normalised, image": but(LOSS, "F.normalize(text_vectors)", "text_vectors"),
        "the columns are normalised": but(LOSS, "_vectors)", "_vectors, dim=0)"),
        "the length of the whole table": but(
            LOSS, NORMALISED, "image_vectors / image_vectors.norm(), text_vectors / text_vectors.norm()"
        ),
        "divided by the squares of their lengths": but(
            LOSS, NORMALISED, "[v / v.pow(2).sum(1)[:, None] for v in (image_vectors, text_vectors)]"
        ),
        "divided by the sum of their absolute values": but(LOSS, "_vectors)", "_vectors, p=1)"),
        "softmax makes the numbers of a vector add up to 1": but(
            LOSS, NORMALISED, "image_vectors.softmax(1), text_vectors.softmax(1)"
        ),
        "the cosines are multiplied with temperature": but(LOSS, "/ temp", "* temp"),
        "temperature is left out": but(LOSS, " / temperature", ""),
        "divided by temperature twice": [
            but(LOSS, "logits, p", "logits / temperature, p", "logits.T,", "logits.T / temperature,"),
            but(LOSS, "/ temperature", "/ temperature**2"),
        ],
        "divided by the root of temperature": but(LOSS, "/ temperature", "/ math.sqrt(temperature)"),
        "multiplied with exp(temperature)": but(LOSS, "/ temperature", "* np.exp(float(temperature))"),
        "divided by exp(temperature)": but(LOSS, "/ temperature", "/ math.exp(temperature)"),
        "the table compares pictures with pictures": but(LOSS, "a @ b.T", "a @ a.T"),
        "the table compares captions with captions": but(LOSS, "a @ b.T", "b @ b.T"),
        "the table is captions by pictures": but(LOSS, "a @ b.T", "b @ a.T"),
        "only the pictures are asked": [
            f"{LOSS.rpartition('return')[0]}return F.cross_entropy(logits, p)",
            but(LOSS, "logits.T, q", "logits, p"),
        ],
        "only the captions are asked": [
            f"{LOSS.rpartition('return')[0]}return F.cross_entropy(logits.T, q)",
            but(LOSS, "logits, p", "logits.T, q"),
        ],
        "half of the pictures' loss": f"{LOSS.rpartition('return')[0]}return F.cross_entropy(logits, p) / 2",
        "the two losses are added": but(LOSS, ")) / 2", "))"),
        "the softmax still goes along the captions": f"""{TABLE}
p = logits.log_softmax(dim=-1)
return -((fits * p).sum(1) / fits.sum(1) + (fits * p).sum(0) / fits.sum(0)).mean() / 2""",
        "both softmaxes go along the wrong axis": f"""{TABLE}
p, q = logits.log_softmax(dim=0), logits.log_softmax(dim=1)
return -((fits * p).sum(1) / fits.sum(1) + (fits * q).sum(0) / fits.sum(0)).mean() / 2""",
        "for the pictures the softmax goes along the pictures": f"""{TABLE}
q = logits.log_softmax(dim=0)
return -((fits * q).sum(1) / fits.sum(1) + (fits * q).sum(0) / fits.sum(0)).mean() / 2""",
        "fits is turned over and logits is not": but(LOSS, "logits.T, q", "logits, q"),
        "logits is turned over and fits is not": but(LOSS, "logits.T, q", "logits.T, p"),
        "those of a caption need not add up to 1": but(LOSS, "logits.T, q", "logits.T, p.T"),
        "only the diagonal counts as right": [
            but(PAPER, "logits.T, q", "logits.T, arange"),
            but(LOSS, "fits.float()", "torch.eye(len(fits))", "fits.T.float()", "torch.eye(len(fits))"),
        ],
        "fits itself is the target": but(LOSS, "logits, p", "logits, fits.float()", "T, q", "T, fits.T.float()"),
        "fits of the pictures is divided along the wrong axis": f"""{TABLE}
p, q = fits / fits.sum(1), fits / fits.sum(0)
return -((p * logits.log_softmax(1)).sum(1) + (q * logits.log_softmax(0)).sum(0)).mean() / 2""",
        "divided along the wrong axis, for pictures and captions": but(
            LOSS, "logits, p", "logits, fits / fits.sum(dim=1)", "T, q", "T, fits.T / fits.T.sum(dim=1)"
        ),
        "fits is divided by the sum over all of it": but(
            LOSS, "logits, p", "logits, fits / fits.sum()", "T, q", "T, fits.T / fits.sum()"
        ),
        "argmax finds the first that fits": but(
            LOSS, "logits, p", "logits, p.argmax(1)", "logits.T, q", "logits.T, q.argmax(1)"
        ),
        "left out of the softmax": f"{UNIT}return contrastive_loss(a, b, temperature, fits, other_fits='ignore')",
        "one of them may take all": f"""{TABLE}
good = logits.masked_fill(~fits, -math.inf)
pictures = logits.logsumexp(1) - good.logsumexp(1)
captions = logits.logsumexp(0) - good.logsumexp(0)
return (pictures.mean() + captions.mean()) / 2""",
        "as in SigLIP": f"{TABLE}return F.binary_cross_entropy_with_logits(logits, fits.float())",
        "softmax is taken twice": but(
            LOSS, "logits, p", "logits.softmax(1), p", "logits.T, q", "logits.T.softmax(1), q"
        ),
        "the logarithm is missing": f"""{TABLE}
p, q = logits.softmax(dim=1), logits.softmax(dim=0)
return -((fits * p).sum(1) / fits.sum(1) + (fits * q).sum(0) / fits.sum(0)).mean() / 2""",
        "the sign is missing": but(LOSS, "return ", "return -"),
        "the losses are summed over the batch": but(
            LOSS, ", p)", ", p, reduction='sum')", ", q)", ", q, reduction='sum')"
        ),
        "over all B * B cells": f"""{TABLE}
p, q = fits / fits.sum(1, keepdim=True), fits / fits.sum(0)
return -(p * logits.log_softmax(1) + q * logits.log_softmax(0)).mean() / 2""",
        "it returns a plain number, from which nothing can be learnt": [
            but(LOSS, "return (", "return float("),
            but(LOSS, ")) / 2", ")).item() / 2"),
        ],
        "no gradient flows from the loss": [
            but(LOSS, "_vectors)", "_vectors.detach())"),
            f"with torch.no_grad():{LOSS}".replace("\n", "\n    "),
        ],
        "should return one number, but returns float32 tensor of shape": [
            f"{TABLE}return logits",
            but(LOSS, ", p)", ", p, reduction='none')", ", q)", ", q, reduction='none')"),
        ],
        "True and False become 1 and 0 with .float()": [
            but(LOSS, "fits.float()", "fits"),
            but(LOSS, "logits, p", "logits, fits"),
        ],
        "is the table (B, B), pictures by captions": but(LOSS, "b.T", "b"),
        "is a column (B, 1)": but(LOSS, "F.normalize(image_vectors)", "image_vectors / image_vectors.norm(dim=1)"),
        "the same whatever text_vectors and temperature and fits are": "return image_vectors.square().mean()",
        "the shape is right, but not the numbers": but(LOSS, "logits.T, q", "logits.T, q.flip(0)"),
        "draw none of your own": but(PAPER, "logits.T, q", "logits.T, torch.randperm(len(logits))"),
        "some of the numbers it returns are NaN": but(LOSS, "logits, p", "logits.log(), p"),
        "it stops with ValueError: image_vectors must": (
            "return contrastive_loss(image_vectors, text_vectors, temperature, fits)"
        ),
    },
    "search": {
        "the vectors are not normalised": [
            "return (vectors @ query_vector).topk(k).indices",
            "return (vectors @ F.normalize(query_vector, dim=0)).topk(k).indices",
        ],
        "divided by the square of the length": "return (vectors @ query_vector / vectors.square().sum(1)).topk(k)[1]",
        "multiplied with the lengths": "return (vectors @ query_vector * vectors.norm(dim=1)).topk(k).indices",
        "the columns are normalised": but(SEARCH, "(vectors)", "(vectors, dim=0)"),
        "the sign of the product is lost": but(SEARCH, ".topk", ".square().topk"),
        "the distance is taken between vectors of any length": (
            "return torch.cdist(query_vector[None], vectors)[0].argsort()[:k]"
        ),
        "the farthest come first": "return torch.cdist(query_vector[None], vectors)[0].topk(k).indices",
        "only the query is normalised": (
            "return torch.cdist(F.normalize(query_vector[None]), vectors)[0].argsort()[:k]"
        ),
        "the least similar come first": [
            but(SEARCH, "topk(k)", "topk(k, largest=False)"),
            but(SEARCH, ".topk(k).indices", ".argsort()[:k]"),
            "return torch.cdist(query_vector[None], F.normalize(vectors))[0].topk(k).indices",
        ],
        "the k least similar; take the other end": but(SEARCH, "topk(k).indices", "argsort(descending=True)[-k:]"),
        "the best of them is last": but(SEARCH, ".topk(k).indices", ".argsort()[-k:]"),
        "in the order in which they stand in vectors": but(SEARCH, "indices", "indices.sort().values"),
        "the best one is left out": but(SEARCH, "topk(k).indices", "topk(k + 1).indices[1:]"),
        "the rows are counted from 1": but(SEARCH, "indices", "indices + 1"),
        "one argsort, not two": but(SEARCH, ".topk(k).indices", ".argsort(descending=True).argsort()[:k]"),
        "it returns scores; return the rows": but(SEARCH, "indices", "values"),
        "it returns two things, as max, sort and topk do": [
            but(SEARCH, ".indices", ""),
            but(SEARCH, ".topk(k).indices", ".sort()"),
        ],
        "it returns 7 rows for k = 6": but(SEARCH, "topk(k)", "topk(k + 1)"),
        "it returns 40 rows for k = 6": but(SEARCH, "topk(k).indices", "argsort(descending=True)"),
        "it should return a tensor of whole numbers; it returns [": but(SEARCH, "indices", "indices.tolist()"),
        "it returns vectors; return the numbers of the rows": but(SEARCH, "return ", "return vectors[") + "]",
        "it should return whole numbers; it returns a float32": f"{SEARCH}.float()",
        "it should return whole numbers; it returns a bool tensor": "return vectors @ query_vector > 0.5",
        "returns the shape (1, 6)": "return (query_vector[None] @ F.normalize(vectors).T).topk(k).indices",
        "is one product for each row, (N,)": but(SEARCH, "F.normalize(vectors)", "F.normalize(vectors).T"),
        "must be a column, keepdim=True": "return (vectors / vectors.norm(dim=1) @ query_vector).topk(k).indices",
        "it returns the same whatever query_vector is": "return vectors.norm(dim=1).topk(k).indices",
        "the shape is right, but not the numbers": "return (vectors.sign() @ query_vector).topk(k).indices",
    },
    "zero_shot": {
        "the means of the classes' prompts are not normalised": [
            "c = prompt_vectors.mean(1)\nreturn (image_vectors @ (c / c.norm()).T).argmax(1)",
            but(CLASSES, "F.normalize(prompt_vectors.mean(dim=1))", "prompt_vectors.mean(dim=1)"),
            "return torch.einsum('kpd,bd->bkp', prompt_vectors, image_vectors).mean(dim=2).argmax(dim=1)",
            but(CLASSES, "F.normalize(prompt_vectors.mean(dim=1))", "F.normalize(prompt_vectors, dim=2).mean(dim=1)"),
        ],
        "the columns are normalised": but(CLASSES, "(dim=1))", "(dim=1), dim=0)"),
        "divided by the square of their length": (
            "c = prompt_vectors.mean(1)\nreturn (image_vectors @ (c.T / c.square().sum(1))).argmax(1)"
        ),
        "multiplied with their lengths": (
            "c = prompt_vectors.mean(1)\nreturn (image_vectors @ (c * c.norm(dim=1, keepdim=True)).T).argmax(1)"
        ),
        "only the first prompt": but(CLASSES, ".mean(dim=1)", "[:, 0]"),
        "only the last prompt": but(CLASSES, ".mean(dim=1)", "[:, -1]"),
        "the mean goes over the classes": but(CLASSES, "mean(dim=1)", "mean(dim=0)"),
        "that is no direction": but(CLASSES, "mean(dim=1)", "max(dim=1).values"),
        "the median of the prompts": but(CLASSES, "mean(dim=1)", "median(dim=1).values"),
        "argmin finds the class that fits least": but(CLASSES, "argmax", "argmin"),
        "the sign of the cosine is lost": but(CLASSES, ".argmax", ".square().argmax"),
        "the classes are counted from 1": f"{CLASSES} + 1",
        "the one prompt that fits best decides": (
            "P = prompt_vectors.shape[1]\nreturn (image_vectors @ prompt_vectors.flatten(0, 1).T).argmax(dim=1) // P"
        ),
        "the one prompt that fits worst decides": (
            "return (prompt_vectors @ image_vectors.T).amin(dim=1).argmax(dim=0)"
        ),
        "the number of a prompt, from 0 to K * P - 1": (
            "return (image_vectors @ prompt_vectors.flatten(0, 1).T).argmax(dim=1)"
        ),
        "every prompt has a vote": (
            "votes = (prompt_vectors @ image_vectors.T).argmax(dim=0)\nreturn votes.mode(dim=0).values"
        ),
        "that is the table of scores": [but(CLASSES, ".argmax(dim=1)", ""), but(CLASSES, "argmax", "softmax")],
        "it returns the largest score of each picture": but(CLASSES, "argmax", "amax"),
        "argmax goes over the pictures": but(CLASSES, "argmax(dim=1)", "argmax(dim=0)"),
        "a class for each picture and prompt": "return (prompt_vectors @ image_vectors.T).argmax(dim=0).T",
        "it should return a tensor of whole numbers; it returns": [
            but(CLASSES, "argmax(dim=1)", "argmax(dim=1).tolist()"),
        ],
        "it returns two things, as max, sort and topk do": but(CLASSES, "argmax(dim=1)", "max(dim=1)"),
        "the table of scores is image_vectors (B, dim) @ classes.T": but(CLASSES, "classes.T", "classes"),
        "the same whatever prompt_vectors is": "return image_vectors[:, :5].argmax(dim=1)",
        "the shape is right, but not the numbers": but(CLASSES, "prompt_vectors", "prompt_vectors.sign()"),
    },
    "keep_pairs": {
        "the vectors are not normalised": "return (image_vectors * text_vectors).sum(dim=1) >= threshold",
        "image_vectors are not normalised": but(KEEP, "F.normalize(image_vectors)", "image_vectors"),
        "text_vectors are not normalised": but(KEEP, "F.normalize(text_vectors)", "text_vectors"),
        "the columns are normalised": but(KEEP, "_vectors)", "_vectors, dim=0)"),
        "the length of the whole table": (
            "a, b = image_vectors, text_vectors\nreturn (a * b).sum(1) / a.norm() / b.norm() > threshold"
        ),
        "it is upside down": but(KEEP, "> threshold", "< threshold"),
        "the sign of the cosine is lost": but(KEEP, "cosines >", "cosines.abs() >"),
        "a distance or an angle is large": [
            but(KEEP, "cosines >", "1 - cosines >"),
            but(KEEP, "cosines >", "cosines.acos() >"),
            but(KEEP, "cosines >", "F.pairwise_distance(a, b) >"),
        ],
        "a distance or an angle is compared": [
            but(KEEP, "cosines >", "1 - cosines <"),
            but(KEEP, "cosines >", "cosines.acos() <"),
            but(KEEP, "cosines >", "F.pairwise_distance(a, b) <"),
        ],
        "it is dim times too small": but(KEEP, ".sum(1)", ".mean(1)"),
        "multiplied with 100": but(KEEP, "cosines >", "100 * cosines >"),
        "as in CLIPScore": but(KEEP, "cosines >", "2.5 * cosines.relu() >"),
        "moved to [0, 1]": but(KEEP, "cosines >", "0.5 + 0.5 * cosines >"),
        "any of all the captions": but(KEEP, "(a * b).sum(1)", "(a @ b.T).max(dim=1).values"),
        "any of all the pictures": but(KEEP, "(a * b).sum(1)", "(a @ b.T).max(dim=0).values"),
        "the mean over all the captions": but(KEEP, "(a * b).sum(1)", "(a @ b.T).mean(dim=1)"),
        "a softmax is taken over all the captions": but(KEEP, "(a * b).sum(1)", "(a @ b.T).softmax(1).diagonal()"),
        "its caption is the best of all": f"{UNIT}return (a @ b.T).argmax(1) == torch.arange(len(a))",
        "its neighbour's caption": but(KEEP, "a * b", "a * b.roll(1, 0)"),
        "threshold is taken as a share of the pairs": but(KEEP, "> threshold", "> cosines.quantile(threshold)"),
        "it keeps every pair": "return torch.ones(len(image_vectors)).bool()",
        "it keeps not a single pair": "return torch.zeros(len(image_vectors)).bool()",
        "the table of all pictures by all captions": f"{UNIT}return a @ b.T",
        "it returns 0 and 1": [
            f"{COSINES}return (cosines > threshold).float()",
            f"{COSINES}return torch.where(cosines > threshold, 1, 0)",
        ],
        "it returns a score for each pair": f"{COSINES}return cosines",
        "it returns vectors": f"{COSINES}return image_vectors[cosines > threshold]",
        "it returns the rows of the kept pairs": f"{COSINES}return (cosines > threshold).nonzero()",
        "for every picture and every caption whether": f"{UNIT}return a @ b.T > threshold",
        "one for each pair; it returns [": f"{COSINES}return (cosines > threshold).tolist()",
        "is a column, (N, 1)": "return (image_vectors / image_vectors.norm(dim=1) * text_vectors).sum(1) > threshold",
        "whatever threshold is": f"{COSINES}return cosines > 0.3",
        "the shape is right, but not the numbers": but(KEEP, "cosines > ", "cosines > 0.5 * "),
    },
}
