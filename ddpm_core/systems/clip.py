"""Pictures and captions as vectors in one space, close where they belong together (CLIP, Radford et al. 2021).

Shapes in comments: B pairs of a picture and a caption, L tokens, dim numbers in a vector of the shared space.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core.blocks import AttentionBlock, ResidualBlock, group_norm, mean_of_tokens
from ddpm_core.support import guards
from ddpm_core.support.memory import explain_out_of_memory, in_parts
from ddpm_core.support.pixels import as_floats
from ddpm_core.support.registry import register
from ddpm_core.text import TextEncoder, Tokenizer, padding_mask
from ddpm_core.training import fit
from ddpm_core.training_state import TrainingState

FIRST_TEMPERATURE, LEAST_TEMPERATURE = 0.07, 0.01  # those of the paper, section 2.5
# Of a picture in training, at most: radians, logarithms of factors, and a shift of half the picture is 1.
MOST_TURN, MOST_RESIZE, MOST_SQUASH, MOST_SHIFT = 0.3, 0.25, 0.15, 0.12
LIKE_A_CAPTION = (1, 16, 16)  # a picture that needs about as much memory


@register
class ImageEncoder(nn.Module):
    """Reads a picture: the way down of a U-Net without timesteps, and what it finds in each part of the picture.

    in_channels:      channels of the pictures (1 grey, 3 colour)
    channels:         width of each level, finest first; each level works at half the size of the one before
    blocks_per_level: residual blocks
    patch_size:       side of the squares of pixels that the network takes for one position
    grid_size:        the last layer sees grid_size x grid_size means, each over its part of the picture, and so what is
                      where; 1 is a mean over all of it
    dim:              numbers in the vector of a picture
    picture_size:     (height, width) of the pictures that it is trained on: a CLIP brings others to it

    forward: (B, in_channels, H, W) floats in [-1, 1] -> (B, dim). Raises ValueError where H or W is not divisible by
    patch_size * 2 ** (levels - 1).
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: tuple[int, ...] = (32, 64, 128),
        blocks_per_level: int = 1,
        patch_size: int = 1,
        grid_size: int = 4,
        dim: int = 128,
        picture_size: tuple[int, int] = (32, 32),
    ):
        super().__init__()
        counts = dict(in_channels=in_channels, blocks_per_level=blocks_per_level, patch_size=patch_size)
        guards.unet_plan(channels, (), (), None, **counts)
        guards.whole_number("grid_size", grid_size)
        guards.whole_number("dim", dim)
        guards.height_and_width("picture_size", picture_size)
        stem = nn.Conv2d(in_channels * patch_size**2, channels[0], 3, padding=1)
        layers = [nn.PixelUnshuffle(patch_size), stem]
        for level, (above, width) in enumerate(pairwise([channels[0], *channels])):
            if level > 0:
                layers.append(nn.Conv2d(above, above, 3, stride=2, padding=1))  # half the size
            widths = [above] + [width] * blocks_per_level
            layers += [ResidualBlock(a, b, embedding_dim=None) for a, b in pairwise(widths)]
        layers += [AttentionBlock(channels[-1]), group_norm(channels[-1]), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(grid_size), nn.Flatten())
        self.head = nn.Linear(channels[-1] * grid_size**2, dim)
        self.to(memory_format=torch.channels_last)  # faster, as in the U-Net

    def forward(self, pictures: Tensor) -> Tensor:
        guards.network_input("pictures", pictures, "ImageEncoder", self.config, self.head.weight.dtype)
        return self.head(self.layers(pictures))


@register
class CLIP(nn.Module):
    """Two encoders, one of pictures and one of captions, that learn to agree: train them with contrastive_loss and fit.

    image_encoder: its dim is that of the shared space
    text_encoder:  made for the tokenizer's vocabulary
    tokenizer:     kept beside the weights, as in TextToImage

    forward: pictures (B, C, H, W), tokens long (B, L) -> the vectors of both, (B, dim) of length 1 each. The cosine of
    the angle between two vectors is then their product, whether of pictures or of captions. Pictures of another size
    than the image encoder's picture_size are averaged over areas, and stretched where the shape is another one.
    """

    def __init__(self, image_encoder: ImageEncoder, text_encoder: TextEncoder, tokenizer: Tokenizer):
        super().__init__()
        guards.tokenized(text_encoder.config, (len(tokenizer), tokenizer.max_length))
        self.image_encoder, self.text_encoder, self.tokenizer = image_encoder, text_encoder, tokenizer
        self.text_head = nn.Linear(text_encoder.config["dim"], image_encoder.config["dim"])
        # The paper learns log(1 / temperature) and cuts it off after each step, so that a temperature never falls below
        # 0.01. Here that is where the exponential ends, and there is nothing to cut.
        self.log_temperature = nn.Parameter(torch.tensor(math.log(FIRST_TEMPERATURE - LEAST_TEMPERATURE)))

    @property
    def temperature(self) -> Tensor:
        """What cosines are divided by before the softmax: learnt, a scalar above 0.01."""
        return LEAST_TEMPERATURE + self.log_temperature.exp()

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) floats in [-1, 1], of any size -> vectors of length 1, (B, dim)."""
        guards.pictures(pictures, look=False)
        picture_size = self.image_encoder.config["picture_size"]
        if tuple(pictures.shape[2:]) != picture_size:
            pictures = F.interpolate(pictures, picture_size, mode="area")
        return F.normalize(self.image_encoder(pictures), dim=1)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Long (B, L), from the tokenizer -> vectors of length 1, (B, dim): the mean of each caption's tokens."""
        gist = mean_of_tokens(self.text_encoder(tokens), padding_mask(tokens))
        return F.normalize(self.text_head(gist), dim=1)

    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """As encode_tokens, of captions. Words that the tokenizer never saw are left out, see its unknown_words."""
        return self.encode_tokens(self.tokenizer(captions).to(self.log_temperature.device))

    def forward(self, pictures: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.encode_pictures(pictures), self.encode_tokens(tokens)


@torch.no_grad()
def encode_in_batches(clip: CLIP, pictures_or_captions: Tensor | Sequence[str], progress: bool = False) -> Tensor:
    """The vectors of more pictures, or of more captions, than memory holds at once: (N, dim), on the CPU.

    pictures_or_captions: pictures (N, C, H, W), floats in [-1, 1] or uint8, or a list of N captions
    progress:             show a bar

    Raises ValueError where there are none.
    """
    from tqdm import tqdm

    guards.instance("clip", clip, CLIP)
    given, vectors = pictures_or_captions, []
    if are_pictures := isinstance(given, Tensor):
        guards.pictures(given, bytes_too=True)
    else:
        guards.some_captions("captions", given)
    with tqdm(total=len(given), unit="picture" if are_pictures else "caption", ncols=90, disable=not progress) as bar:
        for part in in_parts(len(given), given.shape[1:] if are_pictures else LIKE_A_CAPTION):
            some = given[part.start : part.stop]
            if are_pictures:
                some = some.to(clip.log_temperature.device)
                some = clip.encode_pictures(as_floats(some).float())
            else:
                some = clip.encode_captions(some)
            vectors.append(some.cpu())
            bar.update(len(part))
    return torch.cat(vectors)


def contrastive_loss(
    image_vectors: Tensor,
    text_vectors: Tensor,
    temperature: Tensor | float,
    fits: Tensor | None = None,
    other_fits: str = "share",
) -> Tensor:
    """Which caption belongs to each picture, and which picture to each caption: a scalar (Radford et al. 2021, 2.3).

    image_vectors, text_vectors: (B, dim) of length 1 each; row i of one belongs to row i of the other
    temperature: cosines are divided by it, so that a small one makes the softmax sharp
    fits:        bool (B, B), whether caption j fits picture i, True for i = j (None: nowhere else). Without it, a
                 caption that is true of a second picture of the batch counts as wrong there, a false negative
    other_fits:  what becomes of those that fit beside the own one: "share", they are as right as it is (the targets of
                 Khosla et al. 2020; among equal captions, whose cosines are equal, this changes nothing), or "ignore",
                 they are neither right nor wrong and are left out of the softmax

    Raises ValueError where the vectors do not fit together, or have another length.
    """
    guards.pairs(image_vectors, text_vectors, temperature, fits)
    guards.one_of("other_fits", other_fits, ("share", "ignore"))
    logits = image_vectors @ text_vectors.T / temperature  # pictures by captions
    of_pictures = of_captions = torch.arange(len(logits), device=logits.device)  # the answers: each its own
    if fits is not None and other_fits == "ignore":
        logits = logits.masked_fill(fits.clone().fill_diagonal_(False), -math.inf)
    elif fits is not None:
        fits = fits.to(logits.dtype)
        of_pictures, of_captions = F.normalize(fits, p=1, dim=1), F.normalize(fits.T, p=1, dim=1)  # rows sum to 1
    return (F.cross_entropy(logits, of_pictures) + F.cross_entropy(logits.T, of_captions)) / 2


def train_clip(
    state: TrainingState,
    pictures: Tensor,
    captions: Sequence[Sequence[str]],
    num_iterations: int,
    batch_size: int = 256,
    learning_rate: float = 4e-3,
    warmup_iterations: int = 100,
    max_grad_norm: float = 1.0,
    ema_decay: float = 0.99,
    group_ids: Tensor | None = None,
    other_fits: str = "share",
    augmentation: float = 1.0,
) -> Iterator[TrainingState]:
    """Teaches state.model, a CLIP, which pictures and captions belong together, with fit. Raises what fit raises.

    pictures:   (N, C, H, W) floats in [-1, 1] or uint8
    captions:   several lists of N captions, in other languages or wordings; each time one of a picture's is drawn. It
                also fits the other pictures of the batch that have it among their own: "rocket" every rocket,
                "openmoji rocket" one of them
    group_ids:  long (N,), the same number for pictures that show the same thing. A batch then has two of each group, so
                that what tells them apart has to be learnt: the style
    other_fits: see contrastive_loss
    augmentation: how much each picture is turned, resized and moved each time, see moved; 0 is not at all. With more,
                learning takes longer, and less is learnt by heart
    """
    guards.instance("state", state, TrainingState, "TrainingState(model)")
    guards.instance("state.model", state.model, CLIP)
    guards.pictures_to_learn(pictures)
    guards.captions_of_pictures(captions, group_ids, len(pictures))
    guards.whole_number("batch_size", batch_size, least=2, why=", as the others of a batch are what is wrong")
    guards.one_of("other_fits", other_fits, ("share", "ignore"))
    guards.number("augmentation", augmentation, least=0)
    tokens = torch.stack([state.model.tokenizer(some) for some in captions], dim=1)  # (N, wordings, L)
    guards.have_words(captions, padding_mask(tokens[:, :, 1:]).all(dim=2))  # all begin with the start token

    def batch_loss(batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, batch_tokens, fits = batch
        return contrastive_loss(*state.model(x, batch_tokens), state.model.temperature, fits, other_fits)

    batches = pair_batches(pictures, tokens, group_ids, batch_size, state.generator, augmentation)
    with explain_out_of_memory(batch_size):
        yield from fit(
            state, batch_loss, batches, num_iterations, learning_rate, warmup_iterations, max_grad_norm, ema_decay
        )


def pair_batches(
    pictures: Tensor,
    tokens: Tensor,
    group_ids: Tensor | None,
    batch_size: int,
    generator: torch.Generator,
    augmentation: float = 1.0,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches as train_clip wants them: pictures (B, C, H, W), tokens (B, L), fits (B, B).

    tokens: long (N, K, L), K captions of each picture
    """
    device = generator.device
    pictures, tokens = pictures.to(device), tokens.to(device)
    options = dict(generator=generator, device=device)
    if group_ids is not None:
        group_ids = group_ids.to(device)
        members, sizes = group_ids.argsort(), group_ids.bincount()  # the rows of group g begin at starts[g]
        starts = sizes.cumsum(0) - sizes
    while True:
        rows = torch.randint(len(pictures), (batch_size,), **options)
        if group_ids is not None:
            groups = group_ids[rows[: batch_size // 2]]
            places = (torch.rand(len(groups), **options) * sizes[groups]).long()
            rows[-len(groups) :] = members[starts[groups] + places]
        wordings = torch.randint(tokens.shape[1], (batch_size,), **options)
        some = tokens[rows, wordings]
        fits = (tokens[rows][:, wordings] == some).all(dim=2)  # is caption j also picture i's, in the same wording?
        x = as_floats(pictures[rows]).float()
        yield moved(x, generator, augmentation), some, fits


def moved(pictures: Tensor, generator: torch.Generator, augmentation: float = 1.0) -> Tensor:
    """Each picture a little turned, resized, squashed and moved at random; its edge fills what comes in.

    At an augmentation of 1 by up to 17 degrees, a factor of 1.3, one of 1.16 for the width alone, and 6 % of the side.
    """

    def amount(limit: float) -> Tensor:
        return augmentation * limit * (2 * torch.rand(len(pictures), generator=generator, device=pictures.device) - 1)

    turn, squash, height = amount(MOST_TURN), amount(MOST_SQUASH).exp(), amount(MOST_RESIZE).exp()
    width = squash * height
    first = torch.stack([width * turn.cos(), -height * turn.sin(), amount(MOST_SHIFT)], dim=1)
    second = torch.stack([width * turn.sin(), height * turn.cos(), amount(MOST_SHIFT)], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
