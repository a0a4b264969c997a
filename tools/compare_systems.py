"""The four systems of the course side by side: the same prompts, the same measures, one table.

    python tools/compare_systems.py              # 300 pairs, about 15 minutes on two cores
    python tools/compare_systems.py --count 40   # a look, with wide margins

All draw 64x64 but the first one, whose pictures are 32x32 and are judged at that size; for CLIP they are enlarged.
"""

import time

import click
import torch

from ddpm_core import (
    CLIP,
    EmojiDataset,
    clip_score,
    companions_of,
    draw_emoji,
    encode_in_batches,
    frechet_distance,
    judge_emoji,
    judge_style,
    load_checkpoint,
    retrieval_agreement,
    shipped_checkpoint,
)
from ddpm_core.checkpoint import Checkpoint, shipped_model

SYSTEMS = {  # checkpoint: its title, and the side of its pictures
    "emoji": ("pixels", 32),
    "stable-diffusion": ("latents", 64),
    "imagen": ("cascade", 64),
    "dalle2": ("prior and decoder", 64),
}


def networks(checkpoint: Checkpoint, companions: dict) -> list[Checkpoint | torch.nn.Module]:
    """All that take part in drawing from a prompt."""
    clip = companions["clip"]
    of_clip = [clip.text_encoder, clip.text_head] if clip else []
    others = [companions["autoencoder"], companions["super_resolver"] and companions["super_resolver"].model]
    return [checkpoint.model, *of_clip, *filter(None, others)]


def training_seconds(checkpoint: Checkpoint) -> float:
    seconds = checkpoint.notes["seconds"]
    return sum(seconds.values()) if isinstance(seconds, dict) else seconds


def measure(name: str, count: int, clip: CLIP) -> dict[str, float]:
    checkpoint, size = load_checkpoint(shipped_checkpoint(name)), SYSTEMS[name][1]
    companions = companions_of(checkpoint)
    others = [stage for stage in ("autoencoder", "super_resolver") if companions[stage]]
    beside = [load_checkpoint(shipped_checkpoint(stage.replace("_", "-"))) for stage in others]
    data, generator = EmojiDataset(size, split="all"), torch.Generator().manual_seed(0)
    table = {
        "million weights": sum(p.numel() for each in networks(checkpoint, companions) for p in each.parameters()) / 1e6,
        "minutes of training": sum(map(training_seconds, [checkpoint, *beside])) / 60,
    }
    for kind, is_meant in (("trained", ~data.is_withheld), ("withheld", data.is_withheld)):
        rows = torch.nonzero(is_meant & data.is_everyday)[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)[:count]]
        for language in data.languages:
            began = time.perf_counter()
            scale = checkpoint.notes["guidance_scale"]
            drawn = draw_emoji(checkpoint.model, checkpoint.schedule, data, rows, language, scale, **companions)
            table.setdefault("seconds a picture", (time.perf_counter() - began) / len(rows))
            where = f"{kind}, {language}"
            names = [data.caption(row, language, with_style=False) for row in rows.tolist()]
            table |= {
                f"own, {where}": 100 * judge_emoji(drawn, data, rows).float().mean().item(),
                f"style, {where}": 100 * judge_style(drawn, data, rows).float().mean().item(),
                f"CLIP first, {where}": 100
                * retrieval_agreement(clip, drawn, names, data.names[language]).float().mean().item(),
                f"CLIP score, {where}": clip_score(clip, drawn, [data.caption(row, language) for row in rows.tolist()])
                .mean()
                .item(),
                f"Frechet, {where}": frechet_distance(
                    encode_in_batches(clip, drawn), encode_in_batches(clip, data.pictures[rows])
                ),
            }
    return table


@click.command()
@click.option("--count", default=300, show_default=True, type=click.IntRange(2), help="Pairs of each kind, at most.")
def main(count: int) -> None:
    clip = shipped_model("clip", CLIP)
    columns = {name: measure(name, count, clip) for name in SYSTEMS}
    print(" " * 24 + "".join(f"{title:>20}" for title, _ in SYSTEMS.values()))
    for row in columns["emoji"]:
        print(f"{row:24}" + "".join(f"{table[row]:20.3g}" for table in columns.values()), flush=True)


if __name__ == "__main__":
    main()
