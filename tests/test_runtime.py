import pytest
import torch

from ddpm_core import Profile, choose_profile


@pytest.fixture
def machine(monkeypatch):
    """Pretends that this machine has a CUDA device, or none, and that DDPM_PROFILE is set, or not."""

    def pretend(has_gpu: bool, setting: str | None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
        if setting is None:
            monkeypatch.delenv("DDPM_PROFILE", raising=False)
        else:
            monkeypatch.setenv("DDPM_PROFILE", setting)

    return pretend


@pytest.mark.parametrize(
    "has_gpu, setting, name, device",
    [
        (False, None, "cpu", "cpu"),
        (True, None, "gpu", "cuda"),
        (True, "cpu", "cpu", "cpu"),
        (True, "gpu", "gpu", "cuda"),
        (False, "cpu", "cpu", "cpu"),
        (False, "", "cpu", "cpu"),  # an empty variable is as good as none
    ],
)
def test_the_device_chooses_the_profile_unless_the_environment_says_otherwise(has_gpu, setting, name, device, machine):
    machine(has_gpu, setting)
    profile = choose_profile()
    assert profile == Profile(name, torch.device(device))
    assert profile.pick(cpu=1, gpu=2) == (1 if name == "cpu" else 2)


@pytest.mark.parametrize("setting", ["GPU", "tpu", " cpu", "0"])
def test_another_profile_is_refused_with_the_two_that_exist(setting, machine):
    machine(True, setting)
    with pytest.raises(ValueError, match=f'DDPM_PROFILE must be "cpu" or "gpu"; it is {setting!r}'):
        choose_profile()


def test_the_gpu_profile_is_refused_on_a_machine_without_one(machine):
    machine(False, "gpu")
    with pytest.raises(ValueError, match="no CUDA device"):
        choose_profile()


def test_a_profile_is_printed_with_the_hardware_it_means(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Fast Card 9000")
    assert str(Profile("cpu", torch.device("cpu"))) == "cpu profile, on 6 CPU cores"
    assert str(Profile("gpu", torch.device("cuda"))) == "gpu profile, on Fast Card 9000"


def test_a_value_must_be_given_for_both_profiles_by_name():
    profile = Profile("cpu", torch.device("cpu"))
    with pytest.raises(TypeError):
        profile.pick(1, 2)
    with pytest.raises(TypeError):
        profile.pick(cpu=1)
