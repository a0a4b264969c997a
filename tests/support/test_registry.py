import json

import numpy as np
import pytest
import torch

from ddpm_core import TextEncoder, TextToImage, Tokenizer, UNet
from ddpm_core.support.registry import build, description, difference


def new_model(words: list[str]) -> TextToImage:
    unet = UNet(np.int64(3), [8, 16], context_dim=8, cross_attention_levels=[1])
    return TextToImage(unet, TextEncoder(len(words) + 2, 4, dim=8), Tokenizer(words, max_length=4))


def test_a_network_is_built_again_from_what_json_kept_of_it():
    model = new_model(["red", "七"])
    kept = json.loads(json.dumps(description(model)))
    twin = build(**kept)
    twin.load_state_dict(model.state_dict())
    x_t, t, tokens = torch.randn(2, 3, 8, 8), torch.tensor([0, 9]), model.tokenizer(["red 七", ""])
    assert torch.equal(twin(x_t, t, twin.tokenizer(["red 七", ""])), model(x_t, t, tokens))
    assert description(twin) == description(model)
    assert model.unet.config["channels"] == (8, 16) and model.unet.config["blocks_per_level"] == 1


def test_an_unknown_network_is_a_key_error():
    with pytest.raises(KeyError, match="Linear"):
        build("Linear", {})


def test_a_difference_names_only_what_differs_and_of_words_only_the_others():
    one, other = (description(new_model(words)) for words in (["red", "blue"], ["red", "green"]))
    theirs, ours = difference(one, other)
    assert theirs == dict(config=dict(tokenizer=dict(config=dict(words=["blue"]))))
    assert ours == dict(config=dict(tokenizer=dict(config=dict(words=["green"]))))
