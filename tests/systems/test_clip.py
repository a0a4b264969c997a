import math
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core import (
    CLIP,
    EmojiDataset,
    ImageEncoder,
    TextEncoder,
    Tokenizer,
    TrainingDiverged,
    TrainingState,
    UNet,
    contrastive_loss,
    encode_in_batches,
    load_checkpoint,
    resume_training,
    save_checkpoint,
    shipped_checkpoint,
    train_clip,
)
from ddpm_core.systems.clip import moved, pair_batches

CAPTIONS = ["a red seven", "红色的七", "the digit seven in blue", "a blue three"]


def new_clip(dim: int = 12) -> CLIP:
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_captions(CAPTIONS)
    text_encoder = TextEncoder(len(tokenizer), tokenizer.max_length, dim=16)
    image_encoder = ImageEncoder(3, (8, 16), patch_size=2, dim=dim, picture_size=(8, 8))
    return CLIP(image_encoder, text_encoder, tokenizer)


@pytest.fixture
def clip() -> CLIP:
    return new_clip()


def training(state: TrainingState, num_iterations: int, **options):
    """Four pictures, with the four captions and with the same in capitals."""
    captions = [CAPTIONS, [caption.upper() for caption in CAPTIONS]]
    options = dict(captions=captions, batch_size=8, warmup_iterations=3) | options
    return train_clip(state, pictures(4), num_iterations=num_iterations, **options)


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def vectors(count: int, seed: int, dim: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64), dim=1)


def pairs_that_fit(count: int, *pairs: tuple[int, int]) -> Tensor:
    fits = torch.eye(count, dtype=torch.bool)
    for picture, caption in pairs:
        fits[picture, caption] = True
    return fits


# ---- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other_fits", ["share", "ignore"])
@pytest.mark.parametrize("fits", [None, torch.eye(5, dtype=torch.bool)], ids=["no fits", "nothing else fits"])
def test_without_other_fits_it_is_the_cross_entropy_of_rows_and_of_columns(fits, other_fits):
    a, b = vectors(5, 0), vectors(5, 1)
    rows = F.cross_entropy(a @ b.T / 0.2, torch.arange(5))
    columns = F.cross_entropy(b @ a.T / 0.2, torch.arange(5))
    torch.testing.assert_close(contrastive_loss(a, b, 0.2, fits, other_fits), (rows + columns) / 2)


def test_pairs_that_agree_exactly_and_share_nothing_have_a_loss_in_closed_form():
    axes = torch.eye(4, dtype=torch.float64)
    expected = math.log(1 + 3 * math.exp(-1 / 0.5))  # one logit of 1 / 0.5, three of 0
    assert contrastive_loss(axes, axes, 0.5).item() == pytest.approx(expected)


def test_vectors_that_are_all_the_same_are_told_apart_by_chance():
    same = vectors(1, 0).expand(7, -1)
    assert contrastive_loss(same, same, 0.07).item() == pytest.approx(math.log(7))


def test_a_pair_that_occurs_twice_costs_log_2_where_it_is_shared_and_nothing_where_it_is_ignored():
    """Two of a kind and a stranger at a right angle, at a temperature that decides: who counts only."""
    axes = torch.eye(2, dtype=torch.float64)[[0, 0, 1]]
    fits = pairs_that_fit(3, (0, 1), (1, 0))
    shared, ignored = (contrastive_loss(axes, axes, 0.01, fits, how).item() for how in ("share", "ignore"))
    assert shared == pytest.approx(2 / 3 * math.log(2))  # the least there can be: the entropy of the answers
    assert ignored == pytest.approx(0, abs=1e-9)
    assert contrastive_loss(axes, axes, 0.01).item() == pytest.approx(2 / 3 * math.log(2))


def test_what_is_ignored_might_as_well_not_be_there():
    a, b = vectors(4, 0), vectors(4, 1)
    fits = pairs_that_fit(4, (0, 1), (3, 0))
    total = 0.0
    for one, other, fit_ in [(a, b, fits), (b, a, fits.T)]:
        for i in range(4):
            kept = [j for j in range(4) if j == i or not fit_[i, j]]
            total += F.cross_entropy((other[kept] @ one[i] / 0.3)[None], torch.tensor([kept.index(i)])).item()
    assert contrastive_loss(a, b, 0.3, fits, "ignore").item() == pytest.approx(total / 8)


def test_what_is_shared_is_the_mean_of_the_answers_that_fit():
    a, b = vectors(4, 0), vectors(4, 1)
    fits = pairs_that_fit(4, (0, 1), (0, 3), (2, 1))
    total = 0.0
    for one, other, fit_ in [(a, b, fits), (b, a, fits.T)]:
        for i in range(4):
            answers = fit_[i].nonzero()[:, 0]
            logits = (other @ one[i] / 0.3).expand(len(answers), -1)
            total += F.cross_entropy(logits, answers).item()
    assert contrastive_loss(a, b, 0.3, fits, "share").item() == pytest.approx(total / 8)


def test_to_share_among_equal_captions_changes_nothing():
    """Their logits are the same, so each already gets its share; only to leave the others out makes a difference."""
    a, texts = vectors(4, 0), vectors(3, 1).requires_grad_()
    results = {}
    for how in ("nothing", "share", "ignore"):
        fits = None if how == "nothing" else pairs_that_fit(4, (0, 1), (1, 0))
        loss = contrastive_loss(a, texts[[0, 0, 1, 2]], 0.1, fits, "share" if how == "nothing" else how)
        results[how] = torch.cat([loss.reshape(1), *torch.autograd.grad(loss, texts)[0]])
    torch.testing.assert_close(results["share"], results["nothing"])
    assert (results["ignore"] - results["nothing"]).abs().max() > 0.1


@pytest.mark.parametrize("other_fits", ["share", "ignore"])
def test_the_gradient_is_that_of_finite_differences(other_fits):
    a, b = (vectors(4, seed).requires_grad_() for seed in (0, 1))
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    fits = pairs_that_fit(4, (0, 2), (2, 0), (3, 1))
    assert torch.autograd.gradcheck(
        lambda a, b, temperature: contrastive_loss(
            F.normalize(a, dim=1), F.normalize(b, dim=1), temperature, fits, other_fits
        ),
        (a, b, temperature),
    )


ONES = torch.eye(3)


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ((ONES * 5, ONES, 0.1), ValueError, "image_vectors must have length 1.* 5 to 5"),
        ((ONES, ONES * 5, 0.1), ValueError, "text_vectors must have length 1"),
        ((ONES, ONES[:2], 0.1), ValueError, r"text_vectors must .*image_vectors' shape \(3, 3\); got .*\(2, 3\)"),
        ((ONES[0], ONES, 0.1), ValueError, r"image_vectors must be a tensor of floats \(B, dim\)"),
        ((ONES, ONES.long(), 0.1), ValueError, "text_vectors must be a tensor of floats .*int64"),
        ((ONES, ONES, 0), ValueError, "temperature must be a number above 0; got 0"),
        ((ONES, ONES, torch.tensor(-0.5)), ValueError, "temperature must be a number above 0; got -0.5"),
        ((ONES, ONES, torch.ones(3)), ValueError, r"temperature must be one number; got .*\(3,\)"),
        ((ONES, ONES.double(), 0.1), ValueError, "must be of one kind; got float32 and float64"),
        ((ONES, ONES, 0.1, ONES), ValueError, r"fits must be bool, \(3, 3\), .*float32"),
        ((ONES, ONES, 0.1, torch.ones(2, 2).bool()), ValueError, r"fits must be bool, \(3, 3\), .*\(2, 2\)"),
        ((ONES, ONES, 0.1, torch.tensor([1, 0, 1]).diag().bool()), ValueError, "fits .* diagonal.* row 1 is not"),
        ((ONES, ONES, 0.1, ONES.bool(), "mask"), ValueError, 'other_fits must be "share" or "ignore"; got .mask'),
    ],
)
def test_a_slip_in_the_loss_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        contrastive_loss(*arguments)


# ---- the encoders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_channels, channels, patch_size, size", [(1, (8,), 1, 7), (3, (8, 16, 24), 2, 16)])
def test_a_picture_becomes_a_vector(in_channels, channels, patch_size, size):
    encoder = ImageEncoder(in_channels, channels, blocks_per_level=2, patch_size=patch_size, dim=5)
    assert encoder(torch.zeros(4, in_channels, size, size)).shape == (4, 5)
    assert encoder.head.in_features == channels[-1] * 16


def test_each_level_works_at_half_the_size():
    encoder, seen = ImageEncoder(3, (8, 16, 24), patch_size=2), []
    *convolutions, _, _ = encoder.layers
    for layer in convolutions:
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(tuple(output.shape[1:])))
    encoder(torch.zeros(1, 3, 32, 32))
    assert seen[0] == (12, 16, 16) and seen[-1] == (24, 4, 4)
    assert {shape[1] for shape in seen} == {16, 8, 4}


@pytest.mark.parametrize("grid_size", [1, 2])
def test_the_last_layer_sees_a_mean_over_each_part_of_the_picture(grid_size):
    encoder = ImageEncoder(3, (8, 16), grid_size=grid_size, dim=5)
    *convolutions, _, _ = encoder.layers
    x = pictures(2)
    for layer in convolutions:
        x = layer(x)
    side = 4 // grid_size
    means = [part.mean(dim=(2, 3)) for row in x.split(side, dim=2) for part in row.split(side, dim=3)]
    weight = encoder.head.weight.reshape(5, 16, grid_size**2)
    expected = sum(mean @ weight[:, :, i].T for i, mean in enumerate(means)) + encoder.head.bias
    torch.testing.assert_close(encoder(pictures(2)), expected, rtol=0, atol=1e-5)


def test_both_kinds_of_vectors_have_length_1_and_one_space(clip):
    image_vectors, text_vectors = clip(pictures(4), clip.tokenizer(CAPTIONS))
    assert image_vectors.shape == text_vectors.shape == (4, 12)
    for lengths in (image_vectors.norm(dim=1), text_vectors.norm(dim=1)):
        torch.testing.assert_close(lengths, torch.ones(4))
    assert torch.equal(clip.encode_pictures(pictures(4)), image_vectors)
    assert torch.equal(clip.encode_captions(CAPTIONS), text_vectors)


def test_a_vector_does_not_depend_on_the_rest_of_the_batch_or_on_padding(clip):
    tokens = clip.tokenizer(CAPTIONS)
    for i, caption in enumerate(CAPTIONS):
        alone = clip.encode_captions([caption])[0]
        torch.testing.assert_close(clip.encode_tokens(tokens)[i], alone, rtol=0, atol=1e-6)
    short = tokens[:1, :4]
    torch.testing.assert_close(clip.encode_tokens(short), clip.encode_tokens(tokens[:1]), rtol=0, atol=1e-6)
    one_by_one = torch.cat([clip.encode_pictures(picture[None]) for picture in pictures(3)])
    torch.testing.assert_close(clip.encode_pictures(pictures(3)), one_by_one, rtol=0, atol=1e-5)


def test_more_pictures_and_captions_than_are_encoded_at_once_get_the_same_vectors(clip, monkeypatch):
    monkeypatch.setattr("ddpm_core.support.memory.PIXELS_AT_ONCE", 3 * 8 * 8)
    bytes_ = (torch.arange(10 * 3 * 64) * 37 % 256).to(torch.uint8).view(10, 3, 8, 8)
    floats = bytes_ / 127.5 - 1
    sizes = []
    clip.image_encoder.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    vectors_ = encode_in_batches(clip, floats)
    assert sizes == [3, 3, 3, 1] and not vectors_.requires_grad
    torch.testing.assert_close(vectors_, clip.encode_pictures(floats).detach())
    torch.testing.assert_close(encode_in_batches(clip, bytes_), vectors_)
    many = CAPTIONS * 200
    of_captions = encode_in_batches(clip, many)
    torch.testing.assert_close(of_captions, clip.encode_captions(CAPTIONS).detach().repeat(200, 1))
    torch.testing.assert_close(encode_in_batches(clip, tuple(CAPTIONS)), of_captions[:4])


def test_a_bar_counts_pictures_and_captions_where_it_is_wanted(clip, capsys):
    for given, words in ((pictures(4), "4/4 ["), (CAPTIONS[:3], "3/3 [")):
        encode_in_batches(clip, given)
        assert capsys.readouterr().err == ""
        encode_in_batches(clip, given, progress=True)
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "given, error, words",
    [
        ([], ValueError, r"captions.*at least one"),
        ("a red seven", TypeError, r"captions.*\['a red seven'\]"),
        (["a red seven", 7], TypeError, "caption.*7"),
        (torch.zeros(0, 3, 8, 8), ValueError, "pictures"),
        (torch.full((1, 3, 8, 8), 200.0), ValueError, r"\[-1, 1\]"),
        (None, ValueError, "captions.*None"),
    ],
)
def test_what_cannot_be_encoded_is_named(clip, given, error, words):
    with pytest.raises(error, match=words):
        encode_in_batches(clip, given)


@pytest.mark.parametrize("H, W", [(16, 16), (32, 8), (8, 4), (4, 4)])
def test_a_picture_of_another_size_is_brought_to_the_models(clip, H, W):
    large = pictures(2).repeat_interleave(H, dim=2).repeat_interleave(W, dim=3)  # 8H x 8W pixels
    other = F.avg_pool2d(large, (8, 8))  # H x W pixels: plain means
    brought = F.avg_pool2d(other.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3), (H, W))
    torch.testing.assert_close(clip.encode_pictures(other), clip.encode_pictures(brought), rtol=0, atol=1e-5)


def test_the_temperature_begins_at_the_papers_and_stays_above_its_least(clip):
    assert clip.temperature.item() == pytest.approx(0.07)
    with torch.no_grad():
        clip.log_temperature.fill_(-100)
    assert clip.temperature.item() == pytest.approx(0.01)


def test_every_weight_learns(clip):
    list(training(TrainingState(clip), 2, warmup_iterations=1))  # blocks begin as shortcuts: a step wakes them
    clip.zero_grad()
    contrastive_loss(*clip(pictures(4), clip.tokenizer(CAPTIONS)), clip.temperature).backward()
    assert {name for name, weight in clip.named_parameters() if weight.grad is None or not weight.grad.any()} == set()


@pytest.mark.parametrize(
    "slip, words",
    [
        (lambda clip: clip.encode_pictures(torch.zeros(2, 1, 8, 8)), "pictures has 1 channels, but this ImageEncoder"),
        (lambda clip: clip.image_encoder(torch.zeros(2, 3, 8, 6)), "8x6 cannot be halved once.* multiples of 4"),
        (lambda clip: clip.image_encoder(torch.zeros(3, 8, 8)), "pictures must be pictures, a tensor of floats"),
        (lambda clip: clip.encode_pictures(torch.zeros(3, 8, 8)), "pictures must be a tensor of pictures"),
        (lambda clip: clip.encode_pictures(torch.zeros(2, 3, 8, 8).byte()), "pictures must be floats in .* uint8"),
        (lambda clip: clip.encode_captions("a red seven"), "captions must be a list of captions"),
        (lambda clip: clip.encode_tokens(torch.zeros(3)), "tokens must be long"),
        (lambda clip: ImageEncoder(channels=(12,)), "channels must be multiples of 8"),
        (lambda clip: ImageEncoder(dim=0), "dim must be a whole number, 1 or more; got 0"),
        (lambda clip: ImageEncoder(picture_size=32), r"picture_size must be a height and a width .*\(32, 32\); got 32"),
        (lambda clip: ImageEncoder(picture_size=(32, 0)), r"picture_size must be a height and a width .* \(32, 0\)"),
        (lambda clip: CLIP(clip.image_encoder, TextEncoder(3, 5), clip.tokenizer), r"made for .*\(3, 5\)"),
    ],
)
def test_a_slip_is_named(clip, slip, words):
    with pytest.raises((TypeError, ValueError), match=words):
        slip(clip)


# ---- training and files ----------------------------------------------------------------------------------------------


def test_it_learns_which_caption_belongs_to_which_picture(clip):
    state, colours = TrainingState(clip), torch.tensor([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]]) * 0.5
    plain = colours[:, :, None, None].expand(-1, -1, 8, 8)
    list(train_clip(state, plain, [CAPTIONS], 100, batch_size=16, warmup_iterations=5))
    image_vectors, text_vectors = clip.encode_pictures(plain), clip.encode_captions(CAPTIONS)
    assert (image_vectors @ text_vectors.T).argmax(dim=1).tolist() == [0, 1, 2, 3]
    assert clip.temperature.item() < 0.07  # surer of itself than it began


@pytest.mark.parametrize("other_fits", ["share", "ignore"])
def test_the_loss_of_a_run_is_that_of_its_batches(clip, other_fits):
    state, twin = TrainingState(clip), new_clip()
    wordings = [CAPTIONS, ["a seven", "a seven", "a seven", "a three"]]
    next(training(state, 1, captions=wordings, other_fits=other_fits))
    tokens = torch.stack([clip.tokenizer(some) for some in wordings], dim=1)
    x, some, fits = next(pair_batches(pictures(4), tokens, None, 8, torch.Generator().manual_seed(0)))
    expected = contrastive_loss(*twin(x, some), twin.temperature, fits, other_fits).item()
    assert state.losses == [pytest.approx(expected)]
    assert contrastive_loss(*twin(x, some), twin.temperature).item() != pytest.approx(expected)


def test_pictures_in_double_precision_are_taken_as_they_are(clip):
    losses = []
    for some in (pictures(4), pictures(4).double()):
        state = TrainingState(new_clip())
        next(train_clip(state, some, [CAPTIONS], 1))
        losses += state.losses
    assert losses[0] == pytest.approx(losses[1])


def test_a_batch_is_of_pictures_with_their_own_captions_in_every_wording():
    numbers = torch.arange(5, dtype=torch.uint8)
    tokens = torch.tensor([[[1, 10 + i], [1, 20 + i]] for i in range(5)])
    pairs = pair_batches(numbers[:, None, None, None].expand(5, 1, 4, 4), tokens, None, 64, torch.Generator())
    x, some, fits = next(pairs)
    which = ((x[:, 0, 0, 0] + 1) * 127.5).round().long()
    assert torch.equal(some[:, 1] % 10, which)
    assert set(some[:, 1].tolist()) == {10, 11, 12, 13, 14, 20, 21, 22, 23, 24}
    assert torch.equal(fits, which[:, None] == which)


def test_a_caption_fits_each_picture_that_has_it_among_its_own():
    """Two rockets of different styles and a cat, with the style and without: as [style, name] and [name, padding]."""
    styled, plain = torch.tensor([[1, 7], [2, 7], [1, 8]]), torch.tensor([[7, 0], [7, 0], [8, 0]])
    numbers = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 1, 2, 2)
    x, some, fits = next(pair_batches(numbers, torch.stack([styled, plain], dim=1), None, 64, torch.Generator()))
    which = ((x[:, 0, 0, 0] + 1) * 127.5).round().long()
    is_plain = some[:, 1] == 0
    same_name = (which[:, None] < 2) == (which < 2)
    expected = torch.where(is_plain, same_name, which[:, None] == which)
    assert torch.equal(fits, expected) and (fits.sum() > torch.eye(64).sum()) and not torch.equal(fits, fits.T)


def test_of_each_group_a_batch_has_two():
    """A thousand pictures in groups of one, two and seven, in no order."""
    group_ids = torch.tensor([1] * 2 + [2] * 7 + [0] + [3] * 990)[torch.randperm(1000)]
    numbers = torch.arange(1000)
    pairs = pair_batches(torch.zeros(1000, 1, 2, 2), numbers[:, None, None], group_ids, 5001, torch.Generator())
    _, some, _ = next(pairs)
    rows = some[:, 0]
    assert torch.equal(group_ids[rows[:2500]], group_ids[rows[2501:]])
    of_three = rows[2501:][group_ids[rows[2501:]] == 3]
    assert len(of_three.unique()) > 800  # whichever, not the first of the group


def test_a_picture_is_turned_resized_and_moved_a_little():
    """Where the weight of a blob lies, and how far it reaches, against what was asked for."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 33), torch.linspace(-1, 1, 33), indexing="ij")
    blob = (-((x / 0.4) ** 2 + (y / 0.1) ** 2)).exp()[None, None]
    seen = moved(blob.expand(500, 1, 33, 33), torch.Generator().manual_seed(0))[:, 0]
    weight = seen / seen.sum(dim=(1, 2), keepdim=True)
    mean_x, mean_y = (weight * x).sum(dim=(1, 2)), (weight * y).sum(dim=(1, 2))
    for mean in (mean_x, mean_y):
        assert 0.1 < mean.abs().max() < 0.2  # a shift of 0.12, in the resized picture
    dx, dy = x - mean_x[:, None, None], y - mean_y[:, None, None]
    xx, yy, xy = ((weight * a * b).sum(dim=(1, 2)) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    angle = torch.atan2(2 * xy, xx - yy) / 2
    assert 0.25 < angle.abs().max() < 0.35
    length = xx.add(yy).sqrt() / 0.4 * 2**0.5
    assert 0.6 < length.min() < 0.8 and 1.2 < length.max() < 1.6


def test_without_augmentation_a_picture_stays_as_it_is_and_with_half_of_it_moves_half_as_far():
    some = pictures(300)
    torch.testing.assert_close(moved(some, torch.Generator(), 0.0), some, rtol=0, atol=1e-6)
    x = torch.linspace(-1, 1, 33).expand(300, 1, 33, 33)  # each pixel says where it was
    middle = [moved(x, torch.Generator().manual_seed(0), how)[:, 0, 16, 16].abs().max().item() for how in (0.5, 1.0)]
    assert middle[0] == pytest.approx(middle[1] / 2, rel=0.05)


def test_every_channel_is_moved_alike():
    colours = torch.rand(8, 3, 4, 4)
    grey = colours[:, :1].repeat(1, 3, 1, 1)
    seen = moved(grey, torch.Generator().manual_seed(3))
    assert torch.equal(seen[:, 0], seen[:, 1]) and torch.equal(seen[:, 0], seen[:, 2])
    assert torch.equal(moved(colours, torch.Generator().manual_seed(3))[:, :1], seen[:, :1])


@pytest.mark.parametrize("weight", ["log_temperature", "image_encoder.head.bias"])
def test_a_loss_that_is_no_number_is_reported_by_fit(clip, weight):
    with torch.no_grad():
        clip.get_parameter(weight).fill_(math.nan)
    with pytest.raises(TrainingDiverged):
        next(training(TrainingState(clip), 5))


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(state=None), TypeError, "state must be a TrainingState"),
        (dict(state=TrainingState(UNet(1, (8,)))), TypeError, "state.model must be a CLIP"),
        (dict(pictures=pictures(4)[0]), ValueError, r"pictures must be a tensor of pictures, \(N, C, H, W\)"),
        (dict(captions="a red seven"), TypeError, "captions must be a list of lists of captions"),
        (dict(captions=CAPTIONS), ValueError, r"captions must be a list of lists, such as \[english, chinese\]"),
        (dict(captions=[]), ValueError, "captions must be a list of lists"),
        (dict(captions=[CAPTIONS, CAPTIONS[:3]]), ValueError, r"captions\[1\] must .* 4 pictures; it has 3"),
        (
            dict(captions=[CAPTIONS, [*CAPTIONS[:2], "zebra", "red"]]),
            ValueError,
            r"captions\[1\]\[2\] has no .*'zebra'",
        ),
        (dict(batch_size=1), ValueError, "batch_size must be a whole number, 2 or more"),
        (dict(group_ids=torch.zeros(3).long()), ValueError, r"group_ids must be long, \(4,\), .*\(3,\)"),
        (dict(group_ids=torch.tensor([0, 1, -1, 2])), ValueError, "group_ids must be .* from 0 up"),
        (dict(other_fits="mask"), ValueError, 'other_fits must be "share" or "ignore"'),
        (dict(augmentation=-1), ValueError, "augmentation must be 0 or more"),
        (dict(learning_rate=-1), ValueError, "learning_rate must be a number above 0"),
        (dict(pictures=pictures(4).requires_grad_()), ValueError, "pictures must not require a gradient"),
    ],
)
def test_a_slip_in_the_training_is_named(clip, change, error, words):
    arguments = dict(state=TrainingState(clip), pictures=pictures(4), captions=[CAPTIONS], num_iterations=2)
    with pytest.raises(error, match=words):
        next(train_clip(**arguments | change))


def test_it_comes_back_from_a_file_with_its_words_and_without_a_schedule(clip, tmp_path):
    state, path = TrainingState(clip), tmp_path / "clip.safetensors"
    save_checkpoint(path, state, None, dict(command="train"))
    checkpoint = load_checkpoint(path)
    model = checkpoint.model
    assert isinstance(model, CLIP) and model.config == clip.config and model.tokenizer.words == clip.tokenizer.words
    assert checkpoint.schedule is None and checkpoint.notes == dict(command="train")
    assert not model.training and not any(weight.requires_grad for weight in model.parameters())
    expected = state.ema_model(pictures(2), clip.tokenizer(CAPTIONS[:2]))
    assert all(map(torch.equal, model(pictures(2), model.tokenizer(CAPTIONS[:2])), expected))
    assert torch.equal(model.temperature, clip.temperature)


def test_a_run_from_a_file_ends_where_the_uninterrupted_one_does(clip, tmp_path):
    state, path = TrainingState(clip), tmp_path / "clip.safetensors"
    list(islice(training(state, 8), 4))
    save_checkpoint(path, state, None, with_training=True)
    list(training(state, 8))
    resumed = TrainingState(new_clip(), seed=7)
    resume_training(resumed, load_checkpoint(path))
    assert resumed.iteration == 4
    list(training(resumed, 8))
    assert resumed.losses == state.losses
    assert all(map(torch.equal, resumed.model.state_dict().values(), state.model.state_dict().values()))


def test_a_model_that_removes_noise_is_not_saved_without_its_schedule(tmp_path):
    with pytest.raises(TypeError, match="schedule must be a NoiseSchedule"):
        save_checkpoint(tmp_path / "unet.safetensors", TrainingState(UNet(1, (8,))), None)
    assert list(tmp_path.iterdir()) == []


# ---- the one that comes along ----------------------------------------------------------------------------------------


def test_the_shipped_one_names_what_it_never_saw_and_says_how_it_was_made():
    """Right names of withheld pictures, first and among ten of 1,377, against the scores in its notes."""
    path = shipped_checkpoint("clip")
    checkpoint, withheld = load_checkpoint(path), EmojiDataset(split="withheld")
    assert path.stat().st_size < 6e6
    assert {"command", "iterations", "seconds", "machine", "scores"} <= set(checkpoint.notes)
    pictures = encode_in_batches(checkpoint.model, withheld.pictures)
    for language, names in withheld.names.items():
        cosines = pictures @ encode_in_batches(checkpoint.model, names).T
        best = cosines.topk(10).indices == withheld.name_ids[:, None]
        found = best[:, 0].float().mean().item(), best.any(dim=1).float().mean().item()
        assert found[0] > 0.55 and found[1] > 0.83
        scores = checkpoint.notes["scores"]
        said = [scores[f"name among the first {k}, {language}"] for k in (1, 10)]
        assert found == pytest.approx(said, abs=0.01)
