import pytest
import torch

from ddpm_core.text import START, TextEncoder, Tokenizer, padding_mask, split_words

CAPTIONS = ["a red seven", "红色的七", "the digit seven in blue"]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_captions(CAPTIONS)


@pytest.fixture
def encoder(tokenizer) -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(len(tokenizer), tokenizer.max_length, dim=16).eval()


@pytest.mark.parametrize(
    "caption, words",
    [
        ("A red seven.", ["a", "red", "seven"]),
        ("红色的七", ["红", "色", "的", "七"]),
        ("Red七, red!", ["red", "七", "red"]),
        ("it's T-shirt 42", ["it's", "t", "shirt", "42"]),
        ("Piñata, CAFÉ, ñandú", ["pinata", "cafe", "nandu"]),
        ("ｒｅｄ ７", ["red", "7"]),
        ("a_b", ["a", "b"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowels and joiners are marks
        ("ががか がか", ["ががか", "がか"]),  # voicing is one, too, however it is typed
        ("Ёж ёж еж", ["ёж", "ёж", "еж"]),
        ("7️⃣ ❤️", ["7"]),
        ("", []),
        ("?!…", []),
    ],
)
def test_a_token_is_an_english_word_or_a_chinese_character(caption, words):
    assert split_words(caption) == words


def test_a_row_is_the_start_then_the_words_then_padding(tokenizer):
    row = tokenizer(["a red seven"])[0].tolist()
    assert tokenizer.max_length == 6 and row[0] == START and row[4:] == [0, 0]
    assert [tokenizer.words[number - 2] for number in row[1:4]] == ["a", "red", "seven"]


def test_every_word_has_an_id_of_its_own_below_the_length(tokenizer):
    ids = sorted(tokenizer.ids.values())
    assert ids == list(range(2, len(tokenizer)))


def test_a_tokenizer_is_its_words_and_its_length(tokenizer):
    again = Tokenizer(tokenizer.words, tokenizer.max_length)
    assert torch.equal(again(CAPTIONS), tokenizer(CAPTIONS))


def test_the_empty_caption_is_a_row_of_its_own(tokenizer):
    assert tokenizer([""])[0].tolist() == [START, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "caption, lost", [("🍎 red seven", ["🍎"]), ("🍎🍎", ["🍎"]), ("red + ❤️", ["+", "❤"]), ("a, (red) - seven…", [])]
)
def test_signs_that_are_no_words_are_named(tokenizer, caption, lost):
    assert tokenizer.unknown_words(caption) == lost


def test_unknown_words_are_named_once_and_left_out(tokenizer):
    assert tokenizer.unknown_words("a green seven, green 猫") == ["green", "猫"]
    assert torch.equal(tokenizer(["a green red seven"]), tokenizer(["a red seven"]))


def test_a_captions_vectors_do_not_depend_on_the_rest_of_the_batch(tokenizer, encoder):
    tokens = tokenizer(CAPTIONS)
    alone = torch.cat([encoder(row[None]) for row in tokens])
    torch.testing.assert_close(encoder(tokens), alone, rtol=0, atol=1e-6)


def test_a_captions_vectors_do_not_depend_on_its_padding(tokenizer, encoder):
    tokens = tokenizer(["a red seven"])
    torch.testing.assert_close(encoder(tokens)[:, :4], encoder(tokens[:, :4]), rtol=0, atol=1e-6)


def test_the_order_of_the_words_counts(tokenizer, encoder):
    one, other = encoder(tokenizer(["red seven", "seven red"]))
    assert (one[0] - other[0]).abs().max() > 1e-4


def test_embeddings_begin_small():
    encoder = TextEncoder(vocabulary_size=2000, max_length=100)
    for embedding in (encoder.token_embedding.weight, encoder.position_embedding):
        assert embedding.mean().abs() < 0.002 and embedding.std().item() == pytest.approx(0.02, rel=0.1)


def test_every_weight_learns(tokenizer, encoder):
    encoder(tokenizer(CAPTIONS)).square().sum().backward()
    assert all(weight.grad is not None for weight in encoder.parameters())


def test_the_mask_is_true_at_the_padding(tokenizer):
    assert padding_mask(tokenizer(["red seven"])).tolist() == [[False] * 3 + [True] * 3]


@pytest.mark.parametrize(
    "slip, words",
    [
        (lambda tokenizer, encoder: tokenizer("a red seven"), "captions must be a list of captions"),
        (lambda tokenizer, encoder: tokenizer(["a a a a a a"]), "'a a a a a a' has 6 words, and this model reads 5"),
        (lambda tokenizer, encoder: tokenizer([7]), "a caption must be a string; got 7"),
        (lambda tokenizer, encoder: Tokenizer.from_captions(["", "!"]), "no words to learn"),
        (lambda tokenizer, encoder: Tokenizer(["a", "a"], 4), "different from one another"),
        (lambda tokenizer, encoder: encoder([[1, 2]]), "tokens must be long"),
    ],
)
def test_a_slip_is_named(tokenizer, encoder, slip, words):
    with pytest.raises((TypeError, ValueError), match=words):
        slip(tokenizer, encoder)


def test_an_encoder_needs_a_width_that_its_heads_can_share():
    with pytest.raises(ValueError, match=r"dim must be a multiple of 4 \(num_heads\); got 50"):
        TextEncoder(10, 8, dim=50)
