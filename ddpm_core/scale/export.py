"""A folder from which diffusers loads a trained model and samples, also where ddpm_core is not installed."""

import inspect
import json
import os
import re
from pathlib import Path

from safetensors.torch import save

from ddpm_core import blocks, text, unet
from ddpm_core.checkpoint import SHIPPED, Checkpoint, load_checkpoint, shipped_checkpoint
from ddpm_core.scale.draw import picture_size
from ddpm_core.scale.model_card import model_card
from ddpm_core.scale.recipes import EXPORTABLE
from ddpm_core.scale.settings import DEFAULTS
from ddpm_core.support import registry
from ddpm_core.support.files import make_folder, must_be_empty
from ddpm_core.support.guards import inputs, networks, tensors, values
from ddpm_core.support.registry import description
from ddpm_core.support.tensor_file import CheckpointError
from ddpm_core.systems.dalle2 import DALLE2
from ddpm_core.text_to_image import TextToImage

EXPORTED = Path(__file__).with_name("exported")
NOTICE = "# From the course ddpm_core. Copyright and licence (MIT) are in the file LICENSE.\n"
OUR_IMPORTS = re.compile(r"^from ddpm_core\S* import (\([^)]*\)|.*)\n", re.MULTILINE)
GUARDS_BY_NAME = """
from types import SimpleNamespace

guards = SimpleNamespace(**globals())  # what stands above, under the name that it has below
"""


def to_export(name: str) -> Path:
    """The file of a model of the course by its name, or another file. Raises ValueError where there is none."""
    if name not in SHIPPED and not os.path.isfile(name):
        raise ValueError(f"there is no file {name!r}; the course's models to export: {' and '.join(EXPORTABLE)}")
    return shipped_checkpoint(name) if name in SHIPPED else Path(name)


def export_diffusers(checkpoint: Path | str, folder: Path | str) -> None:
    """Writes a folder for diffusers.DiffusionPipeline.from_pretrained(folder, trust_remote_code=True).

    checkpoint: a file that save_checkpoint wrote, with the picture_size, (C, H, W), in its notes
    folder:     a new one, or empty

    In it are the weights, the code of network and pipeline, the configuration of a DDPMScheduler, and a model card.
    Raises what load_checkpoint raises, CheckpointError where the model draws no pictures or there is no picture_size,
    ValueError where the folder cannot be made, and FileExistsError where it is not empty.
    """
    checkpoint, folder = (Path(os.path.expanduser(path)) for path in (checkpoint, folder))
    trained = load_checkpoint(checkpoint)
    C, *size = picture_size(checkpoint, trained)
    if isinstance(trained.model, DALLE2) or trained.notes.keys() & {"autoencoder", "super_resolver"}:
        raise CheckpointError(
            f"{checkpoint} cannot be exported: other networks, which are not part of the export, make pictures of what "
            "it draws"
        )
    guidance_scale = None
    if isinstance(trained.model, TextToImage):
        guidance_scale = trained.notes.get("guidance_scale", DEFAULTS["guidance_scale"])
    network = dict(architecture=description(trained.model), in_channels=C, sample_size=size)
    weights = {f"network.{name}": weight.contiguous() for name, weight in trained.model.state_dict().items()}
    components = dict(unet=["ddpm_core_network", "DDPMCoreNetwork"], scheduler=["diffusers", "DDPMScheduler"])
    files = {
        "LICENSE": _exported("LICENSE"),
        "README.md": model_card(trained, folder.resolve().name, guidance_scale),
        "pipeline.py": NOTICE + _exported("pipeline.py"),
        "scheduler/scheduler_config.json": _config("DDPMScheduler", **_scheduler(trained)),
        "unet/config.json": _config("DDPMCoreNetwork", **network),
        "unet/ddpm_core_network.py": _network_code(),
        "unet/diffusion_pytorch_model.safetensors": save(weights, {"format": "pt"}),
        # The last one, as diffusers reads no folder without it.
        "model_index.json": _config(["pipeline", "DDPMCorePipeline"], **components, guidance_scale=guidance_scale),
    }
    make_folder(folder / "README.md")
    must_be_empty(folder, "to hold one model and nothing else")
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def _config(class_name: str | list[str], **config: object) -> str:
    return json.dumps({"_class_name": class_name} | config, indent=2, ensure_ascii=False) + "\n"


def _scheduler(trained: Checkpoint) -> dict:
    """With these a scheduler of diffusers takes the steps of reverse_process."""
    return dict(
        num_train_timesteps=len(trained.schedule),
        trained_betas=trained.schedule.betas.tolist(),
        prediction_type={"eps": "epsilon", "x_0": "sample", "v": "v_prediction"}[trained.model.predicts],
        timestep_spacing="trailing",
        clip_sample=True,
        # Clips to [-1, 1] as well; DPMSolverMultistepScheduler knows no other way.
        thresholding=True,
        sample_max_value=1.0,
    )


def _network_code() -> str:
    """The modules that a network consists of, one after another: of a component diffusers takes along a single file."""
    guards = [inspect.getsource(module) for module in (values, tensors, inputs, networks)]
    others = [inspect.getsource(part) for part in (registry, blocks, unet, text, TextToImage)]
    parts = [*guards, GUARDS_BY_NAME, *others, _exported("network.py")]
    return NOTICE + "\n\n".join(OUR_IMPORTS.sub("", part) for part in parts)


def _exported(name: str) -> str:
    return (EXPORTED / name).read_text("utf-8")
