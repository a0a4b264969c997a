"""Judging emoji: is a picture nearest to the one that was asked for, of all in its style, and is it in that style?"""

from collections import deque
from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core.data.emoji import STYLES, EmojiDataset
from ddpm_core.judging.copies import distances
from ddpm_core.judging.drawing import draw_all
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards
from ddpm_core.support.pixels import from_bytes
from ddpm_core.text_to_image import TextToImage
from ddpm_core.training import fit
from ddpm_core.training_state import TrainingState

SHADES = 16  # of red, of green and of blue, that the style reader tells apart


def draw_emoji(
    model: TextToImage,
    schedule: NoiseSchedule,
    data: EmojiDataset,
    rows: Tensor,
    language: str,
    guidance_scale: float = 3.0,
    **options: int,
) -> Tensor:
    """Asks a model for what data.pictures shows in these rows, each in its style: (N, 3, size, size).

    options: num_steps and seed, as of generate
    """
    prompts = [data.caption(row, language) for row in rows.tolist()]
    shape = tuple(data.pictures.shape[1:])
    return draw_all(model, schedule, prompts, shape, guidance_scale, **options)


def judge_emoji(pictures: Tensor, data: EmojiDataset, rows: Tensor) -> Tensor:
    """Is no other emoji of its style nearer to each picture (N, 3, size, size) than the one it should be? bool, (N,).

    data: EmojiDataset(size, split="all"), or there would be fewer to mistake it for; rows: what each of pictures should
    be, of data.pictures. Raises ValueError for another split.
    """
    guards.whole_split("data", data.split)
    right = torch.zeros(len(rows), dtype=torch.bool)
    for style_id in data.style_ids[rows].unique():
        here = torch.nonzero(data.style_ids[rows] == style_id)[:, 0]
        same_style = torch.nonzero(data.style_ids == style_id)[:, 0]
        to_each = distances(pictures[here].cpu(), from_bytes(data.pictures[same_style]))
        own = torch.searchsorted(same_style, rows[here])
        right[here] = to_each[torch.arange(len(here)), own] == to_each.amin(dim=1)
    return right


class StyleReader:
    """A small network that tells the styles apart by their colours: each set of emoji has a palette of its own.

    It sees how much of a picture each colour takes, and not where. A convolutional network, which sees shapes, too, was
    wrong five times as often after as long a training.

    size:     of the pictures that it reads, as of EmojiDataset
    accuracy: share of the pictures whose style it reads rightly, of a tenth of the emoji, held out in every style
    """

    def __init__(self, size: int = 32):
        data = EmojiDataset(size, split="all")
        self.size = size
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(data.characters), generator=generator)
        is_held_out = torch.isin(data.name_ids, order[: len(order) // 10])
        pictures = from_bytes(data.pictures)
        self._train(pictures[~is_held_out], data.style_ids[~is_held_out], generator)
        read = self.probabilities(pictures[is_held_out]).argmax(dim=1)
        self.accuracy = (read == data.style_ids[is_held_out]).float().mean().item()

    def probabilities(self, pictures: Tensor) -> Tensor:
        """How likely each picture is to be in each of STYLES: (N, 3, size, size) in [-1, 1] -> (N, 7)."""
        guards.pictures(pictures)
        if pictures.shape[1:] != (3, self.size, self.size):
            raise ValueError(
                f"this style reader reads pictures of shape (N, 3, {self.size}, {self.size}); got "
                f"{tuple(pictures.shape)}"
            )
        with torch.no_grad():
            return self.network(_colours(pictures.detach().cpu())).softmax(dim=1)

    def _train(self, pictures: Tensor, style_ids: Tensor, generator: torch.Generator) -> None:
        """Teaches it the pictures as they are, and as a model might draw them: with some noise, in stronger colours."""
        contrasts = 0.95 + 0.15 * torch.rand(len(pictures), 1, 1, 1, generator=generator)
        drawn = [pictures, pictures, (pictures - 1) * contrasts + 1]  # white stays white
        colours = torch.stack(
            [
                _colours(each + noise * torch.randn(each.shape, generator=generator)).half()
                for each, noise in zip(drawn, (0, 0.03, 0.03), strict=True)
            ]
        )

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            while True:
                rows = torch.randint(len(pictures), (128,), generator=generator)
                yield colours[torch.randint(3, (128,), generator=generator), rows].float(), style_ids[rows]

        with torch.random.fork_rng(devices=[]):  # of PyTorch's own generator, which draws weights and dropout
            torch.manual_seed(0)
            layers = nn.Linear(SHADES**3, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, len(STYLES))
            state = TrainingState(nn.Sequential(*layers))
            deque(fit(state, lambda batch: F.cross_entropy(state.model(batch[0]), batch[1]), batches(), 1500), maxlen=0)
        self.network = state.ema_model


def _colours(pictures: Tensor) -> Tensor:
    """Roots of the shares of a picture that each of SHADES^3 colours takes: (N, 3, H, W) in [-1, 1] -> (N, SHADES^3).

    A pixel between colours counts for its eight neighbours, the more the nearer.
    """
    return torch.cat([_colour_shares(piece) for piece in pictures.split(500)]).sqrt()


def _colour_shares(pictures: Tensor) -> Tensor:
    shares = torch.zeros(len(pictures), SHADES**3)
    place = (pictures.clamp(-1, 1).flatten(2) + 1) / 2 * (SHADES - 1)  # (N, 3, pixels)
    below = place.floor().clamp(max=SHADES - 2)
    for corner in product((0, 1), repeat=3):
        colour = below + torch.tensor(corner)[:, None]
        weight = (1 - (place - colour).abs()).prod(dim=1)
        number = (colour * torch.tensor([SHADES**2, SHADES, 1])[:, None]).sum(dim=1)
        shares.scatter_add_(1, number.long(), weight / place.shape[2])
    return shares
