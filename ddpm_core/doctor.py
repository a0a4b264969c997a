"""What to know about a machine before starting the course. Nothing here is about diffusion."""

import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ddpm_core.data import load_digits
from ddpm_core.data.files import data_folder
from ddpm_core.runtime import choose_profile
from ddpm_core.schedule import NoiseSchedule, cosine_betas
from ddpm_core.training import TrainingState, train
from ddpm_core.unet import UNet

CHECKSUMS = {
    "NotoSansSC-subset.otf": "5d970610a3d8f6d9e5b9ac6084a060c65e42039e719ce1d20160176565207671",
    "OFL.txt": "1f301ebc2e9a9e1fb261b60948ad317450fc433b55cbeac5910037cf4cc4b435",
    "cat.png": "5f27baab03e36a2f31c24ddb91372641f653d13050b20a7730f07dcaa0177584",
    "digit-scenes.safetensors": "2b6cfa075dcd3f2d8ad78b88d1a7f499fc10804d4a5c96facf8c664db4ed6c94",
    "emoji.jsonl": "1efd859b2d4f95d5f74005983de44ffc3368c5c76bf86215bdcfdf1b5e13c2b3",
    "emoji.png": "417596ad6027226b07b74ddeaa689e07b2aeec310279c1446acaa5bf0dcc1c8a",
    "emoji.safetensors": "ca88ca9744bc52f1c5c13297c48976ddb1b0fd9ed2fb1392bb402dbeddd07444",
}  # sha256 of the files in data/
PACKAGES = ("torchvision", "matplotlib", "ipywidgets", "sklearn", "safetensors", "jupyterlab", "ipykernel", "nbval")


@dataclass
class Finding:
    """One line of the report: what was looked at, what was found, and how to mend it (empty where all is well)."""

    subject: str
    found: str
    fix: str = ""


def examine(notebooks: Path | None = None) -> Iterator[Finding]:
    """Looks at the machine, the packages, the data and the notebooks, one finding after the other."""
    yield Finding("Python", platform.python_version())
    yield Finding("torch", torch.__version__)
    yield from (_package(name) for name in PACKAGES)
    yield from _machine()
    yield from _data()
    yield from _notebooks(notebooks or data_folder().parent / "notebooks")


def training_rate(num_iterations: int = 15) -> float:
    """Pictures a second that this machine trains on, with notebook 04's network on 8x8 digits (1-2 s on a CPU)."""
    profile, batch_size = choose_profile(), 128
    torch.manual_seed(0)
    pictures, schedule = 2 * torch.rand(1000, 1, 8, 8) - 1, NoiseSchedule(cosine_betas(200))
    state = TrainingState(UNet(1, (32, 32)).to(profile.device))
    ticks = []
    for _ in train(state, schedule, pictures, num_iterations, batch_size):
        ticks.append(time.perf_counter())
    warm = num_iterations // 3  # the first iterations also choose algorithms and allocate memory
    return batch_size * (num_iterations - 1 - warm) / (ticks[-1] - ticks[warm])


def _package(name: str) -> Finding:
    try:
        importlib.import_module(name)
    except Exception as error:  # torchvision raises a RuntimeError where torch is of another build
        if name == "torchvision" and not isinstance(error, ModuleNotFoundError):
            fix = "torch and torchvision are of two builds: delete the folder .venv and run make setup"
        else:
            fix = "run make setup, or: pip install -e .[lab,test]"
        return Finding(name, (str(error) or type(error).__name__).splitlines()[0], fix)
    distribution = "scikit-learn" if name == "sklearn" else name
    version = importlib.metadata.version(distribution)
    if name == "ipykernel" and int(version.split(".")[0]) >= 7:
        return Finding(name, version, 'version 7 spoils figures while a slider moves: pip install "ipykernel<7"')
    return Finding(name, version)


def _machine() -> Iterator[Finding]:
    profile = choose_profile()
    if profile.name == "cpu" and shutil.which("nvidia-smi"):
        fix = "this machine has an NVIDIA card that torch does not see: update its driver"
        yield Finding("profile", str(profile), fix)
    else:
        yield Finding("profile", str(profile))
    if profile.device.type == "cuda":
        yield Finding("GPU memory", f"{torch.cuda.get_device_properties(profile.device).total_memory / 1e9:.0f} GB")
    if hasattr(os, "sysconf"):  # not on Windows
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        fix = "the course needs 4 GB: close other programs" if memory < 3.5 else ""
        yield Finding("memory", f"{memory:.0f} GB", fix)
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    yield Finding("free disk", f"{free:.0f} GB", "make room: checkpoints and figures need 1 GB" if free < 1 else "")


def _data() -> Iterator[Finding]:
    for name, checksum in CHECKSUMS.items():
        path = data_folder() / name
        if not path.is_file():
            yield Finding(f"data/{name}", "missing", f"git checkout -- data/{name}")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            yield Finding(f"data/{name}", "changed", f"git checkout -- data/{name}")
        else:
            yield Finding(f"data/{name}", "present")
    try:
        yield Finding("digits", f"{len(load_digits()[0]):,} pictures, in scikit-learn")
    except ImportError:
        yield Finding("digits", "missing: they are part of scikit-learn", "mend sklearn, above")
    own = sorted(path.name for path in (data_folder().parent / "build").glob("*.safetensors"))
    yield Finding("your own checkpoints", ", ".join(own) or "none yet; notebook 04 makes one, in build/")


def _notebooks(folder: Path) -> Iterator[Finding]:
    paths = sorted(folder.glob("[0-9]*.ipynb"))
    if not paths:
        yield Finding("notebooks", "not found", "run this from a clone of the course")
        return
    rate = training_rate()
    yield Finding("training speed", f"{rate:,.0f} digits a second")
    for path in paths:
        measured = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("course", {})
        if measured:
            seconds = measured["seconds"] * measured["images_per_second"] / rate
            yield Finding(path.stem, f"about {max(seconds, 15) / 60:.1f} minutes on this machine")
