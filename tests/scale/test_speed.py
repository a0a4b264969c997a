import pytest
import torch

from ddpm_core import UNet
from ddpm_core.course.profile import Profile, choose_profile
from ddpm_core.scale.speed import Speed, allow_tf32, choose_speed


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


@pytest.mark.parametrize("has_bfloat16, precision", [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_computes_in_the_half_precision_that_it_has_and_a_cpu_in_float32(monkeypatch, has_bfloat16, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    assert choose_speed(torch.device("cuda")) == Speed(precision, tf32=True)
    assert choose_speed(torch.device("cpu")) == Speed(torch.float32, tf32=False)


EXAMPLE = (torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long))


@pytest.fixture
def compiler(monkeypatch):
    """Compiles with another compiler: torch's own takes a minute."""

    def use(backend) -> None:
        def compile(model, **options):
            model._compiled_call_impl = torch.compile(model._call_impl, backend=backend)

        monkeypatch.setattr(torch.nn.Module, "compile", compile)

    return use


def test_a_compiled_model_computes_the_same(compiler):
    calls = []

    def count_calls(graph, example):
        calls.append(len(graph.graph.nodes))
        return graph

    model = UNet(1, (8,))
    expected = model(*EXAMPLE)
    compiler(count_calls)
    assert Speed(compile="fuse").set_up(model, *EXAMPLE) is None
    assert calls and model._compiled_call_impl is not None
    torch.testing.assert_close(model(*EXAMPLE), expected)
    assert all(weight.grad is None for weight in model.parameters())


def test_where_the_compiler_fails_the_model_goes_on_without_it_and_the_reason_is_said(compiler):
    def broken(graph, example):
        raise RuntimeError("no C++ compiler here\nand more")

    model = UNet(1, (8,))
    expected = model(*EXAMPLE)
    compiler(broken)
    notice = Speed(compile="graphs").set_up(model, *EXAMPLE)
    assert "no C++ compiler here" in notice and notice.endswith("going on without it, only slower")
    assert torch.equal(model(*EXAMPLE), expected)


def test_without_switches_nothing_is_changed():
    before, model = torch.get_float32_matmul_precision(), UNet(1, (8,))
    assert Speed().set_up(model) is None
    assert model._compiled_call_impl is None and torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("allowed, precision", [(True, "high"), (False, "highest")])
def test_tf32_is_for_matrices_and_convolutions(allowed, precision):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        allow_tf32(allowed)
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == (precision, allowed)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_networks_compute_in_the_precision_of_the_block(precision):
    with Speed(precision).autocast(torch.device("cpu")):
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == precision
