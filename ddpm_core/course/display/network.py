"""Looking at a network: which word each place of the picture looks at."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ddpm_core.blocks import CrossAttentionBlock
from ddpm_core.course.display.style import label_columns, label_rows, show_figure
from ddpm_core.support.pixels import to_pixels


@contextmanager
def record_attention(model: nn.Module) -> Iterator[list[Tensor]]:
    """A list that grows, inside the with block, whenever one of model's cross-attention blocks runs.

    Each entry: how much each pixel looks at each token, the mean over the heads, (B, L, H, W) at the block's own size.
    Outside the with block nothing is recorded and nothing is slower.
    """
    maps: list[Tensor] = []

    def record(block: CrossAttentionBlock, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        with torch.no_grad():
            maps.append(block.attention_weights(*inputs).mean(dim=1))

    blocks = [module for module in model.modules() if isinstance(module, CrossAttentionBlock)]
    hooks = [block.register_forward_hook(record) for block in blocks]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def show_attention(pictures: Tensor, maps: Tensor, words: Sequence[str], row_titles: Sequence[str] = ()) -> None:
    """Shows attention_figure: rows of a picture and, beside it, how much each place looks at each word."""
    figure = attention_figure(pictures, maps, words, row_titles)
    show_figure(figure, alt=f"How much each place of the picture looks at the words {', '.join(words)}")


def attention_figure(pictures: Tensor, maps: Tensor, words: Sequence[str], row_titles: Sequence[str] = ()) -> Figure:
    """Rows of a picture and, beside it, how much each place looks at each word: bright is much.

    pictures: (N, C, H, W) in [-1, 1]; maps: (N, L, h, w), as record_attention's, L words. Each row has its own scale,
    from 0 to the number at its end.
    """
    N, L, h, w = maps.shape
    if len(pictures) != N or len(words) != L:
        raise ValueError(
            f"maps of shape {tuple(maps.shape)} need {N} pictures and {L} words; got {len(pictures)} and {len(words)}"
        )
    width = 1.15 * pictures.shape[3] / pictures.shape[2] / 2 + 0.4  # inches, as matplotlib wants them
    figure, axes = plt.subplots(N, L + 1, figsize=(width * (L + 1) + 0.4, width * h / w * N + 0.5), squeeze=False)
    for row, picture, row_maps in zip(axes, to_pixels(pictures), maps.numpy(), strict=True):
        row[0].imshow(picture, interpolation="nearest")
        for axis, word_map in zip(row[1:], row_maps, strict=True):
            axis.imshow(word_map, cmap="viridis", vmin=0, vmax=row_maps.max(), interpolation="nearest")
        row[-1].text(1.06, 0.5, f"0 to\n{row_maps.max():.2f}", transform=row[-1].transAxes, va="center", fontsize=8)
        for axis in row:
            axis.set_axis_off()
    label_columns(axes[0], ["picture", *words])
    label_rows(axes[:, 0], row_titles)
    return figure
