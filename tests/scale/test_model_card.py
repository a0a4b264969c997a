import ast

import pytest
from huggingface_hub import ModelCard

from ddpm_core import Checkpoint, NoiseSchedule, UNet, cosine_betas, load_checkpoint, shipped_checkpoint
from ddpm_core.scale.model_card import model_card


def card_of(**notes: object) -> ModelCard:
    trained = Checkpoint(UNet(1, (8,)), NoiseSchedule(cosine_betas(10)), dict(picture_size=[1, 8, 12]) | notes)
    return ModelCard(model_card(trained, "some-name", None))


@pytest.mark.parametrize("name, owner", [("digit-scenes", "LeCun"), ("emoji", "OpenMoji")])
def test_the_card_of_a_model_of_the_course(name, owner):
    trained = load_checkpoint(shipped_checkpoint(name))
    card = ModelCard(model_card(trained, "some-name", 1.5))
    assert card.data.library_name == "diffusers" and card.data.pipeline_tag == "text-to-image"
    assert card.data.license == "mit" and card.data.language == ["en", "zh"]
    for share in trained.notes["scores"].values():
        assert f"| {100 * share:.1f}% |" in card.text
    for text in (owner, trained.notes["command"], trained.model.tokenizer.words[-1], "guidance_scale`, which is 1.5"):
        assert text in card.text
    lines = card.text.splitlines()
    assert not any("{" in line for line in lines)


def test_the_card_of_a_model_that_reads_no_text():
    card = card_of(data="digits", seconds=12.5)
    assert card.data.pipeline_tag == "unconditional-image-generation" and card.data.license is None
    assert "8 x 12" in card.text and "Alpaydin" in card.text and "| seconds | 12.5 |" in card.text
    assert "guidance_scale" not in card.text and "Withheld" not in card.text


@pytest.mark.parametrize("data", ["mnist", "MNIST"])  # the notebook's name, and the command line's
def test_mnist_has_its_licence(data):
    assert "CC BY-SA 3.0" in card_of(data=data).text


def test_a_name_with_quotes_and_notes_of_ones_own_do_no_harm():
    notes = dict(picture_size=[1, 8, 12], scores=[0.5], preset="mine")
    card = model_card(Checkpoint(UNet(1, (8,)), NoiseSchedule(cosine_betas(10)), notes), 'the "best" 猫', None)
    [line] = [line for line in card.splitlines() if "from_pretrained" in line]
    call = ast.parse(line).body[0].value
    assert call.args[0].value == 'the "best" 猫'


def test_a_folder_of_ones_own_is_not_named():
    card = card_of(data="/home/somebody/photos of us")
    assert "photos of us" not in card.content and "licence is not known" in card.text
    assert "CIFAR10, whose licence is not known" in card_of(data="CIFAR10").text
