"""An exported folder, loaded by diffusers, beside our own samplers."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler
from torch import Tensor, nn

from ddpm_core import (
    CheckpointError,
    NoiseSchedule,
    TextEncoder,
    TextToImage,
    Tokenizer,
    TrainingState,
    UNet,
    cosine_betas,
    guided,
    linear_betas,
    load_checkpoint,
    noise_predictor,
    save_checkpoint,
    shipped_checkpoint,
)
from ddpm_core.sampling import sampler_named, seeded_noise
from ddpm_core.scale import export_diffusers

SCHEDULERS = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler, "dpm-solver": DPMSolverMultistepScheduler}
SHIPPED = {
    "digit-scenes": ["a red three left of a blue seven", "红色的三在蓝色的七左边", ""],
    "emoji": ["twemoji rocket", "noto 猫", "sunflower"],
}


def save_small(path: Path, predicts: str = "eps", reads_text: bool = False, **notes: object) -> Path:
    """A checkpoint of a network that was not trained, but says something."""
    torch.manual_seed(0)
    model = UNet(1, (8, 16), context_dim=8 if reads_text else None, predicts=predicts)
    if reads_text:
        tokenizer = Tokenizer(["blue", "boat", "red", "红"], max_length=4)
        model = TextToImage(model, TextEncoder(len(tokenizer), 4, dim=8), tokenizer)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    schedule = NoiseSchedule((linear_betas if predicts == "eps" else cosine_betas)(100))
    save_checkpoint(path, TrainingState(model), schedule, dict(picture_size=[1, 8, 12]) | notes)
    return path


def our_steps(
    path: Path, sampler: str, num_steps: int, seed: int, prompts: list[str], scale: float, dtype: torch.dtype
) -> Tensor:
    loaded = load_checkpoint(path)
    model, schedule = loaded.model.to(dtype), NoiseSchedule(loaded.schedule.betas.to(dtype))
    x_T, generators = seeded_noise(seed, (len(prompts), *loaded.notes["picture_size"]), torch.device("cpu"))
    eps_model = noise_predictor(model, schedule)
    if isinstance(model, TextToImage):
        eps_model = guided(eps_model, model.tokenizer(prompts), model.null_cond, scale)
    return torch.stack(list(sampler_named(sampler, generators)(eps_model, schedule, x_T, num_steps)))


def their_steps(
    folder: Path, sampler: str, num_steps: int, seed: int, prompts: list[str], scale: float, dtype: torch.dtype
) -> Tensor:
    pipe = load(folder)
    pipe.unet.network.to(dtype)
    pipe.scheduler = SCHEDULERS[sampler].from_config(pipe.scheduler.config)
    steps, generators = [], [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    reads_text = hasattr(pipe.unet.network, "tokenizer")
    text = dict(prompt=prompts, guidance_scale=scale) if reads_text else dict(num_images_per_prompt=len(prompts))

    def keep(pipe, number, timestep, tensors):
        steps.append(tensors["latents"])

    pipe(**text, num_inference_steps=num_steps, generator=generators, callback_on_step_end=keep)
    return torch.stack(steps)


def load(folder: Path) -> DiffusionPipeline:
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def in_double():
    """New tensors are float64."""
    torch.set_default_dtype(torch.float64)
    yield torch.float64
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("reads_text", [False, True], ids=["no text", "text"])
@pytest.mark.parametrize("predicts", ["eps", "x_0", "v"])
def test_a_small_network_takes_our_steps(predicts, reads_text, tmp_path, own_modules, in_double):
    checkpoint = save_small(tmp_path / "small.safetensors", predicts, reads_text)
    export_diffusers(checkpoint, tmp_path / "folder")
    for sampler, num_steps, seed, scale in [
        ("ddpm", 100, 0, 3.0),
        ("ddpm", 7, 1, 0.0),
        ("ddim", 20, 2, 1.0),
        ("dpm-solver", 12, 3, 0.5),
    ]:
        what = sampler, num_steps, seed, ["red boat", "", "红"], scale, in_double
        ours = our_steps(checkpoint, *what)
        assert ours[-1].std() > 0.01  # it says something
        torch.testing.assert_close(their_steps(tmp_path / "folder", *what), ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("name", SHIPPED)
def test_the_models_of_the_course_take_our_steps(name, sampler, tmp_path, own_modules, in_double):
    checkpoint = shipped_checkpoint(name)
    export_diffusers(checkpoint, tmp_path / name)
    what = sampler, 20, 5, SHIPPED[name], 1.5, in_double  # the seeds 5, 6 and 7
    torch.testing.assert_close(their_steps(tmp_path / name, *what), our_steps(checkpoint, *what), rtol=0, atol=1e-5)


# Ours passes an x_0-prediction on as noise. In float32 that costs digits where alpha_bar is as small as at the end of
# cosine_betas; diffusers takes x_0 as it is.
@pytest.mark.parametrize("name, atol", [("emoji", 1e-5), ("digit-scenes", 1e-3)])
def test_in_float32_rounding_is_all_that_differs(name, atol, tmp_path, own_modules):
    checkpoint = shipped_checkpoint(name)
    export_diffusers(checkpoint, tmp_path / name)
    for sampler in SCHEDULERS:
        what = sampler, 20, 0, SHIPPED[name], 1.5, torch.float32
        torch.testing.assert_close(their_steps(tmp_path / name, *what), our_steps(checkpoint, *what), rtol=0, atol=atol)


@pytest.mark.slow
def test_a_new_process_needs_neither_ddpm_core_nor_a_network(tmp_path):
    checkpoint = save_small(tmp_path / "small.safetensors", "x_0", reads_text=True)
    export_diffusers(checkpoint, tmp_path / "boats")
    card = (tmp_path / "boats" / "README.md").read_text("utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", card, re.DOTALL))
    program = f"""
import sys
class NoCourse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ddpm_core":
            raise ImportError(name)
sys.meta_path.insert(0, NoCourse())
{code}
import torch
latents = pipe(["boat"], generator=torch.Generator().manual_seed(3), num_inference_steps=9, output_type="latent").images
torch.save(latents, "latents.pt")
"""
    environment = os.environ | dict(HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="1")
    environment.pop("PYTHONPATH", None)
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    ours = our_steps(checkpoint, "dpm-solver", 9, 3, ["boat"], 3.0, torch.float32)[-1]
    torch.testing.assert_close(torch.load(tmp_path / "latents.pt"), ours, rtol=0, atol=1e-3)
    assert (tmp_path / "picture.png").is_file()


def test_the_code_in_the_folder_is_whole(tmp_path):
    export_diffusers(save_small(tmp_path / "small.safetensors"), tmp_path / "folder")
    for name in ("pipeline.py", "unet/ddpm_core_network.py"):
        path = tmp_path / "folder" / name
        undefined = ["ruff", "check", "--isolated", "--select", "F821", path]
        subprocess.run([sys.executable, "-m", *undefined], check=True)
        tree = ast.parse(path.read_text("utf-8"))
        defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert len(defined) == len(set(defined))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not any(module.startswith("ddpm_core") for module in imported)


def test_the_scheduler_that_comes_along_is_that_of_the_course(tmp_path, own_modules):
    export_diffusers(save_small(tmp_path / "small.safetensors", "v"), tmp_path / "folder")
    scheduler = load(tmp_path / "folder").scheduler
    assert isinstance(scheduler, DDPMScheduler)
    assert torch.equal(scheduler.betas, cosine_betas(100))
    assert scheduler.config.prediction_type == "v_prediction"


def test_the_guidance_of_the_checkpoint_is_used_unless_another_is_given(tmp_path, own_modules):
    checkpoint = save_small(tmp_path / "small.safetensors", reads_text=True, guidance_scale=2.5)
    export_diffusers(checkpoint, tmp_path / "folder")
    pipe = load(tmp_path / "folder")

    def draw(**options: object) -> Tensor:
        return pipe(
            "red boat", num_inference_steps=5, generator=torch.Generator().manual_seed(0), output_type="pt", **options
        ).images

    assert torch.equal(draw(), draw(guidance_scale=2.5))
    assert not torch.equal(draw(), draw(guidance_scale=1.0))
    assert not torch.equal(draw(), draw(negative_prompt="blue"))
    assert torch.equal(draw(guidance_scale=0.5), draw(guidance_scale=0.5, negative_prompt="blue"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[bool, Path]:
    """An exported model that reads text (True), and one that does not."""
    tmp_path = tmp_path_factory.mktemp("exported")
    for name in (True, False):
        export_diffusers(save_small(tmp_path / f"{name}.safetensors", reads_text=name), tmp_path / str(name))
    return {name: tmp_path / str(name) for name in (True, False)}


@pytest.mark.parametrize(
    "reads_text, options, error, match",
    [
        (False, dict(prompt="boat"), ValueError, "no text"),
        (False, dict(guidance_scale=2.0), ValueError, "no text"),
        (False, dict(num_inference_steps=0), ValueError, "1 and 100; got 0"),
        (False, dict(num_inference_steps=101), ValueError, "1 and 100; got 101"),
        (False, dict(num_images_per_prompt=0), ValueError, "one picture"),
        (False, dict(latents=torch.zeros(1, 1, 8, 8)), ValueError, r"latents .*\(1, 1, 8, 12\)"),
        (False, dict(generator=[torch.Generator()] * 2), ValueError, "2 generators for 1"),
        (True, dict(prompt=[]), ValueError, "prompt"),
        (True, dict(prompt=3), TypeError, "prompt .* got 3"),
        (True, dict(prompt="red red red red"), ValueError, "4 words"),
        (True, dict(prompt="boat", guidance_scale=-1.0), ValueError, "guidance_scale .* -1"),
    ],
)
def test_what_the_pipeline_cannot_do_is_one_sentence(folders, reads_text, options, error, match, own_modules):
    with pytest.raises(error, match=match):
        load(folders[reads_text])(**options)


def test_ddim_is_not_given_timesteps_at_unequal_distances(folders, own_modules):
    pipe = load(folders[False])
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match="divide 100"):
        pipe(num_inference_steps=30)


def test_words_that_no_caption_had_are_named(folders, own_modules):
    with pytest.warns(UserWarning, match="zebra"):
        load(folders[True])("red zebra", num_inference_steps=1)


def test_eta_1_of_ddim_draws_what_ddpm_draws(folders, own_modules):
    pipe = load(folders[False])

    def draw(**options: object) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipe(num_inference_steps=20, generator=generator, output_type="latent", **options).images

    ddpm = draw()
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    torch.testing.assert_close(draw(eta=1.0), ddpm, rtol=0, atol=1e-5)
    assert (draw() - ddpm).abs().max() > 0.1


def test_half_precision_is_not_asked_of_the_network(folders, own_modules):
    pipe = DiffusionPipeline.from_pretrained(folders[True], trust_remote_code=True, torch_dtype=torch.float16)
    assert pipe("boat", num_inference_steps=2, output_type="np").images.shape == (1, 8, 12, 1)


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    checkpoint = save_small(tmp_path / "small.safetensors")
    export_diffusers(checkpoint, tmp_path / "a" / "b")  # folders are made
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.*")}
    with pytest.raises(FileExistsError, match=r"must be empty, .*LICENSE"):
        export_diffusers(checkpoint, tmp_path / "a" / "b")
    assert {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.*")} == before
    with pytest.raises(ValueError, match=r"there is no folder .*small\.safetensors"):
        export_diffusers(checkpoint, checkpoint)


def test_nothing_is_written_for_what_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        export_diffusers(tmp_path / "missing.safetensors", tmp_path / "folder")
    (tmp_path / "other.safetensors").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=r"other\.safetensors"):
        export_diffusers(tmp_path / "other.safetensors", tmp_path / "folder")
    save_checkpoint(tmp_path / "no_size.safetensors", TrainingState(UNet(1, (8,))), NoiseSchedule(cosine_betas(10)))
    with pytest.raises(CheckpointError, match="picture_size"):
        export_diffusers(tmp_path / "no_size.safetensors", tmp_path / "folder")
    encoder, notes = TextEncoder(4, 4, dim=8), dict(picture_size=[1, 8, 8])
    save_checkpoint(tmp_path / "text.safetensors", TrainingState(encoder), NoiseSchedule(cosine_betas(10)), notes)
    with pytest.raises(CheckpointError, match="TextEncoder"):
        export_diffusers(tmp_path / "text.safetensors", tmp_path / "folder")
    for other in ("autoencoder", "super_resolver"):
        save_small(tmp_path / "half.safetensors", **{other: "its name"})
        with pytest.raises(CheckpointError, match=r"half\.safetensors cannot be exported: other networks"):
            export_diffusers(tmp_path / "half.safetensors", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("name", ["imagen", "dalle2"])
def test_a_system_of_several_networks_is_not_exported(name, cascades, tmp_path):
    with pytest.raises(CheckpointError, match=rf"{name}\.safetensors cannot be exported: other networks"):
        export_diffusers(cascades / f"{name}.safetensors", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_the_licence_of_the_code_comes_along(folders):
    assert (folders[True] / "LICENSE").read_bytes() == (Path(__file__).parents[2] / "LICENSE").read_bytes()


def test_the_configurations_name_no_place_of_this_machine(folders):
    for path in folders[True].rglob("*.json"):
        json.loads(path.read_text("utf-8"))
    texts = [path.read_text("utf-8") for path in folders[True].rglob("*") if path.suffix in (".json", ".md", ".py")]
    assert len(texts) == 6 and not any(str(folders[True].parent) in text for text in texts)
