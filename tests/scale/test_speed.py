import pytest
import torch

from ddpm_core import TrainingState, UNet, load_checkpoint, resume_training, save_checkpoint, train
from ddpm_core.course.profile import Profile, choose_profile
from ddpm_core.scale.speed import allow_tf32, autocast, fastest_precision, in_precision, new_state, speed_up

CPU = torch.device("cpu")


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


@pytest.mark.parametrize(
    "has_gpu, setting", [(True, "GPU"), (True, "tpu"), (True, " cpu"), (True, "0"), (False, "gpu")]
)
def test_a_profile_that_cannot_be_is_refused(has_gpu, setting, machine):
    machine(has_gpu, setting)
    with pytest.raises(ValueError, match=f"DDPM_PROFILE.*{setting}"):
        choose_profile()


def test_a_profile_is_printed_with_the_hardware_it_means(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Fast Card 9000")
    assert str(Profile("cpu", CPU)) == "cpu profile, on 6 CPU cores"
    assert str(Profile("gpu", torch.device("cuda"))) == "gpu profile, on Fast Card 9000"


@pytest.mark.parametrize("arguments, named", [((1, 2), {}), ((), dict(cpu=1))])
def test_a_value_must_be_given_for_both_profiles_by_name(arguments, named):
    with pytest.raises(TypeError):
        Profile("cpu", CPU).pick(*arguments, **named)


@pytest.mark.parametrize("has_bfloat16, precision", [(True, "bfloat16"), (False, "float16")])
def test_a_gpu_computes_in_the_half_precision_that_it_has_and_a_cpu_in_float32(monkeypatch, has_bfloat16, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    assert fastest_precision(torch.device("cuda")) == precision and fastest_precision(CPU) == "float32"


@pytest.mark.parametrize("allowed, precision", [(True, "high"), (False, "highest")])
def test_tf32_is_for_matrices_and_convolutions(allowed, precision):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        allow_tf32(allowed)
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == (precision, allowed)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_network_computes_in_the_precision_and_answers_in_float32(precision):
    seen, network = [], torch.nn.Linear(2, 2)
    network.register_forward_hook(lambda module, given, answer: seen.append(answer.dtype))
    assert in_precision(network, CPU, precision)(torch.zeros(1, 2)).dtype == torch.float32
    with autocast(CPU, precision):
        assert network(torch.zeros(1, 2)).dtype == getattr(torch, precision)
    assert seen == [getattr(torch, precision)] * 2


# ---------------------------------------------------------------------------------------------------------------------
# Training in half precision
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def learn(digits, schedule):
    """Trains a small network for so many iterations, on from a state or from the beginning."""

    def run(num_iterations: int, precision: str, state: TrainingState | None = None) -> TrainingState:
        torch.manual_seed(0)
        state = state or new_state(UNet(1, (8,)), precision)
        network = in_precision(state.model, CPU, precision)
        list(train(state, schedule, digits, num_iterations, batch_size=8, network=network))
        return state

    return run


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_the_same_and_keeps_float32_weights(learn, precision):
    exact, half = learn(6, "float32"), learn(6, precision)
    assert half.losses != exact.losses and half.losses == pytest.approx(exact.losses, abs=0.05)
    assert all(weight.dtype == torch.float32 for weight in half.model.parameters())


def test_a_float16_run_goes_on_from_a_file_as_if_it_had_never_stopped(learn, schedule, tmp_path):
    whole, part = learn(8, "float16"), learn(4, "float16")
    part.scaler.update(1024.0)
    save_checkpoint(tmp_path / "half.safetensors", part, schedule, with_training=True)
    again = new_state(UNet(1, (8,)), "float16")
    resume_training(again, load_checkpoint(tmp_path / "half.safetensors"))
    assert again.scaler.state_dict() == part.scaler.state_dict() and again.scaler.get_scale() == 1024
    part.scaler.update(whole.scaler.get_scale())
    assert learn(8, "float16", part).losses == pytest.approx(learn(8, "float16", again).losses)


def test_a_step_with_infinite_gradients_is_left_out_and_the_scale_lowered(learn):
    state = learn(1, "float16")
    before, scale = {name: weight.clone() for name, weight in state.model.state_dict().items()}, 2.0**127
    state.scaler.update(scale)
    learn(2, "float16", state)
    assert state.scaler.get_scale() < scale and state.iteration == 2
    assert all(torch.equal(weight, before[name]) for name, weight in state.model.state_dict().items())


# ---------------------------------------------------------------------------------------------------------------------
# Compiling
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def compiled(monkeypatch):
    """A network compiled by another compiler than torch's own, which takes a minute; and what was said of it."""

    def use(backend) -> tuple[torch.nn.Module, list[str]]:
        def compile(network, **options):
            network._compiled_call_impl = torch.compile(network._call_impl, backend=backend)

        monkeypatch.setattr(torch.nn.Module, "compile", compile)
        torch._dynamo.reset()
        network, said = torch.nn.Linear(2, 2), []
        speed_up(network, None, "fuse", said.append)
        return network, said

    return use


def test_a_compiled_network_computes_the_same(compiled):
    calls = []
    network, said = compiled(lambda graph, example: calls.append(graph) or graph)
    torch.testing.assert_close(network(torch.ones(3, 2)), network.forward(torch.ones(3, 2)))
    assert calls and said == []


def test_where_the_compiler_fails_the_network_goes_on_without_it_and_the_reason_is_said_once(compiled, caplog):
    def broken(graph, example):
        raise RuntimeError("no C++ compiler here\nand more")

    network, said = compiled(broken)
    for _ in range(2):
        assert torch.equal(network(torch.ones(3, 2)), network.forward(torch.ones(3, 2)))
    assert len(said) == 1 and "no C++ compiler here" in said[0] and "without it" in said[0]
    assert "WON'T CONVERT" not in caplog.text


def test_a_system_without_a_compiler_is_told(monkeypatch):
    def refuse(network, **options):
        raise RuntimeError("not on this system")

    monkeypatch.setattr(torch.nn.Module, "compile", refuse)
    said = []
    speed_up(torch.nn.Linear(2, 2), None, "fuse", said.append)
    assert len(said) == 1 and "not on this system" in said[0]
