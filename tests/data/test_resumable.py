"""What the scripts that make checkpoints have in common, with a tiny network."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ddpm_core import NoiseSchedule, UNet, linear_betas, load_checkpoint, train
from ddpm_core.support.files import data_folder

NUM_ITERATIONS, SCHEDULE = 260, NoiseSchedule(linear_betas(10))
PICTURES = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The module, which writes to the folder of the test."""
    spec = importlib.util.spec_from_file_location("resumable", data_folder() / "resumable.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def train_it(state):
    return train(state, SCHEDULE, PICTURES, NUM_ITERATIONS, 1, warmup_iterations=0)


def test_a_seeded_network_is_the_same_and_leaves_the_global_generator_alone(script):
    networks = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        networks.append(script.seeded(UNet, 1, (8,)))
        drawn = torch.rand(1)
        torch.manual_seed(seed)
        assert torch.equal(drawn, torch.rand(1))
    assert all(map(torch.equal, *(network.parameters() for network in networks)))


def test_a_stopped_training_goes_on_and_ends_as_an_uninterrupted_one_does(script, tmp_path, capsys):
    def stopped(state):
        for _ in train_it(state):
            yield state
            if state.iteration == 255:
                raise KeyboardInterrupt

    made = lambda: script.seeded(UNet, 1, (8,))  # noqa: E731
    whole, _ = script.run("whole", made(), NUM_ITERATIONS, train_it, SCHEDULE)
    said = capsys.readouterr().out
    assert said.startswith(f"250 of {NUM_ITERATIONS}, ") and said.count("\n") == 1
    with pytest.raises(KeyboardInterrupt):
        script.run("parts", made(), NUM_ITERATIONS, stopped, SCHEDULE)
    iterations = []

    def going_on(state):
        iterations.append(state.iteration)
        yield from train_it(state)

    parts, seconds = script.run("parts", made(), NUM_ITERATIONS, going_on, SCHEDULE)
    assert iterations == [250] and seconds >= 0
    assert all(map(torch.equal, parts.ema_model.parameters(), whole.ema_model.parameters()))
    for other in ("parts-of-a-system", "part"):
        (tmp_path / f"{other}-unfinished.safetensors").touch()
    script.publish("parts", parts, SCHEDULE, command="python data/build.py", scores={"a score": 0.5})
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == [
        "part-unfinished.safetensors",
        "parts.safetensors",
        "whole-unfinished.safetensors",
    ]
    assert "a score: 0.5\n" in capsys.readouterr().out
    published, kinds = load_checkpoint(tmp_path / "parts.safetensors"), load_file(tmp_path / "parts.safetensors")
    assert {weight.dtype for name, weight in kinds.items() if name != "betas"} == {torch.float16}
    assert published.training is None and "torch" in published.notes["machine"]
    assert published.notes["scores"] == {"a score": 0.5}
    weights = zip(published.model.parameters(), whole.ema_model.parameters(), strict=True)
    assert all(torch.equal(ours, theirs.half().float()) for ours, theirs in weights)
