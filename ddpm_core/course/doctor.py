"""What to know about a machine before starting the course. Nothing here is about diffusion."""

import hashlib
import importlib
import importlib.metadata
import io
import json
import os
import platform
import shutil
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ddpm_core.checkpoint import load_checkpoint, shipped_checkpoint
from ddpm_core.course.profile import choose_profile
from ddpm_core.data import emoji, load_digits
from ddpm_core.judging.drawing import draw_all
from ddpm_core.sampling import sample
from ddpm_core.scale.draw import DRAWING
from ddpm_core.scale.recipes import PRESETS
from ddpm_core.schedule import NoiseSchedule, cosine_betas
from ddpm_core.support.files import data_folder
from ddpm_core.systems.second_stage import companions_of
from ddpm_core.training import train
from ddpm_core.training_state import TrainingState
from ddpm_core.unet import UNet

CHECKSUMS = {
    "NotoSansSC-subset.otf": "5d970610a3d8f6d9e5b9ac6084a060c65e42039e719ce1d20160176565207671",
    "OFL.txt": "1f301ebc2e9a9e1fb261b60948ad317450fc433b55cbeac5910037cf4cc4b435",
    "super-resolver.safetensors": "0130ef7bc9a82604a925f2633ad23909ecf854644dc15d356bca5a694a89ce59",
    "imagen.safetensors": "4ccb807a3ae961c835b62c783d06ad8ada88b6dcb5ee3a55bececae4015573c5",
    "dalle2.safetensors": "e7e3b2ea317c0b1ff272e83a65f64fc11ce3659610d6eca163fa15439509de2a",
    "autoencoder.safetensors": "02f0f46b9f74256a59960bf89bff4a1a598a7973499b0d892fb7cbcaad1e10e0",
    "cat.png": "5f27baab03e36a2f31c24ddb91372641f653d13050b20a7730f07dcaa0177584",
    "clip.safetensors": "d4006445dc22e331b0c61c1ade3d692605077fa2510e607eca72ed81eac9086c",
    "digit-reader.safetensors": "5d390f7127c3904e064b9fbb23212834f732362557f7eabcb85d983097735a85",
    "digit-scenes.safetensors": "bf15263e6b82180e66034499ccec8384aa53206649221b15a719ee24d459919e",
    "emoji.safetensors": "28406989ad7b58e42347d23c902c4e14102529ac4e4a42e747bf4b708906cdbe",
    "mnist-held-out.png": "49af7f32d2aac9808828227d586f03d5ed00e6d08762549917d41eb8866c3fd1",
    "mnist-held-out.txt": "41161b3de39ec01965971d1ef6590fd03943d81aea4d6bdb0d4791c1ae2e2cbb",
    "mnist-train.png": "19cdbc13c57f3c492b6d054a5232faed0863aa2cc0563593605c0bb69156fe72",
    "mnist-train.txt": "b3b77923f29324ff8d3f4b832a6ef0213b669ee8db6709b87265feff25dec58c",
    "stable-diffusion.safetensors": "fa2f13c059a9c179152597b47296efa8911f32dbc970d278e0a81e369c2f7066",
} | emoji.CHECKSUMS  # sha256 of the files in data/
INSTALL = "run make setup, or: pip install -e .[lab,test]"
ON_THIS_MACHINE = " on this machine"
PACKAGES = ("torchvision", "matplotlib", "ipywidgets", "sklearn", "safetensors", "jupyterlab", "ipykernel", "nbval")
SCHEDULE = NoiseSchedule(cosine_betas(200))  # notebook 03's


@dataclass
class Finding:
    """One line of the report: what was looked at, what was found, and how to mend it (empty where all is well)."""

    subject: str
    found: str
    fix: str = ""


def examine() -> Iterator[Finding]:
    """Looks at the machine, the packages, the data and the notebooks, one finding after the other."""
    yield Finding("Python", platform.python_version())
    yield Finding("torch", torch.__version__)
    yield from map(_package, PACKAGES)
    yield from _machine()
    yield from _data()
    yield from _notebooks()


def rehearse() -> Iterator[Finding]:
    """Does once, within seconds, all that the notebooks do: finds what works on paper only."""
    yield _try("training and sampling", _train_and_sample, INSTALL)
    yield _try("figures", _draw_figure, INSTALL)
    for name in DRAWING:
        yield _try(f"{name} model", partial(_draw_with, name), "git checkout -- data")
    yield _try("widgets", _make_widget, INSTALL)
    yield _try("kernel", _start_kernel, f"{INSTALL}; if a firewall asks, allow Python on this machine itself")


def line_for_the_teacher(findings: Sequence[Finding]) -> str:
    """One line that says whether a machine is ready for class. Nothing in it is personal."""
    broken = [finding for finding in findings if finding.fix]
    if broken:
        found = broken[0].found.replace(f"{data_folder().parent}{os.sep}", "").replace(str(Path.home()), "~")
        found = textwrap.shorten(found, 60, placeholder=" ...")
        facts = [f"NOT READY  {broken[0].subject}: {found} -> {broken[0].fix}"]
        facts += [f"and {len(broken) - 1} more"] if len(broken) > 1 else []
    else:
        versions = platform.python_version(), torch.__version__
        python, pytorch = (".".join(version.split(".")[:2]) for version in versions)
        facts = [f"READY  python {python}", f"torch {pytorch}", str(choose_profile())]
        times = [finding.found for finding in findings if finding.subject.startswith("04_")]
        facts += [f"notebook 04 in {time.removesuffix(ON_THIS_MACHINE)}" for time in times]
    return " · ".join([*facts, f"code {course_code()}"])


def course_code() -> str:
    """Four signs that stand for this very state of the package, CHECKSUMS included: equal on machines that have it."""
    package, digest = Path(__file__).parent.parent, hashlib.sha256()
    for name in sorted(path.relative_to(package).as_posix() for path in package.rglob("*.py")):
        digest.update(name.encode())
        digest.update((package / name).read_bytes().replace(b"\r\n", b"\n"))  # git on Windows may change line ends
    return digest.hexdigest()[:4].upper()


def training_rate() -> float:
    """Pictures per second that this machine trains on, with notebook 04's network on 8x8 digits (1-2 s on a CPU)."""
    torch.manual_seed(0)
    batch_size, ticks = 128, []
    for state in _train(2 * torch.rand(1000, 1, 8, 8) - 1, 15, batch_size):
        if state.iteration > 5:  # the first iterations also choose algorithms and allocate memory
            state.losses  # noqa: B018  (to read a loss is to wait until a GPU is there)
            ticks.append(time.perf_counter())
    return batch_size * (len(ticks) - 1) / (ticks[-1] - ticks[0])


def _train(pictures: Tensor, num_iterations: int, batch_size: int) -> Iterator[TrainingState]:
    """Trains notebook 04's network."""
    state = TrainingState(UNet(1, (32, 32)).to(choose_profile().device))
    return train(state, SCHEDULE, pictures, num_iterations, batch_size)


def _package(name: str) -> Finding:
    try:
        importlib.import_module(name)
        version = importlib.metadata.version("scikit-learn" if name == "sklearn" else name)
    except Exception as error:  # torchvision raises a RuntimeError where torch is of another build
        is_mixed = name == "torchvision" and not isinstance(error, ModuleNotFoundError)
        mixed = "torch and torchvision are of two builds: delete the folder .venv and run make setup"
        return Finding(name, _first_line(error), mixed if is_mixed else INSTALL)
    is_spoilt = name == "ipykernel" and int(version.split(".")[0]) >= 7
    spoilt = 'version 7 spoils figures while a slider moves: pip install "ipykernel<7"'
    return Finding(name, version, spoilt if is_spoilt else "")


def _machine() -> Iterator[Finding]:
    profile = choose_profile()
    is_blind = profile.name == "cpu" and shutil.which("nvidia-smi")
    fix = "this machine has an NVIDIA card that torch does not see: update its driver" if is_blind else ""
    yield Finding("profile", str(profile), fix)
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
        is_same = path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == checksum
        found = "present" if is_same else "changed" if path.is_file() else "missing"
        yield Finding(f"data/{name}", found, "" if is_same else f"git checkout -- data/{name}")
    yield _try(
        "digits",
        lambda: f"{len(load_digits()[0]):,} pictures, in scikit-learn",
        "mend sklearn, above: the digits are part of scikit-learn",
    )
    own = sorted(path.name for path in (data_folder().parent / "build").glob("*.safetensors"))
    yield Finding("your own checkpoints", ", ".join(own) or "none yet; notebook 04 makes one, in build/")


def _notebooks() -> Iterator[Finding]:
    paths = sorted((data_folder().parent / "notebooks").glob("[0-9]*.ipynb"))
    if not paths:
        yield Finding("notebooks", "not found", "run this from a clone of the course")
        return
    rate = training_rate()
    yield Finding("training speed", f"{rate:,.0f} digits per second")
    for path in paths:
        measured = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("course")
        if measured and measured["profile"] != choose_profile().name:
            yield Finding(path.stem, f"no estimate: its time was measured with the {measured['profile']} profile")
        elif measured:
            seconds = measured["seconds"] * measured["images_per_second"] / rate
            yield Finding(path.stem, f"about {max(seconds, 15) / 60:.1f} minutes{ON_THIS_MACHINE}")


def _try(subject: str, step: Callable[[], str], fix: str) -> Finding:
    try:
        return Finding(subject, step())
    except Exception as error:  # whatever it is, the report goes on
        return Finding(subject, _first_line(error), fix)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _train_and_sample() -> str:
    device = choose_profile().device
    torch.manual_seed(0)
    *_, state = _train(load_digits()[0], num_iterations=10, batch_size=64)
    noise = torch.randn(4, 1, 8, 8, device=device)
    *_, drawn = sample(state.ema_model, SCHEDULE.to(device), noise, num_steps=10)
    _finite(drawn)
    return f"{state.iteration} iterations, {len(drawn)} pictures"


def _draw_figure() -> str:
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    from ddpm_core.course.display import use_course_style

    # A plain Figure, which opens no window, and with Chinese in it: a font that lacks a letter only warns.
    with plt.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        use_course_style()
        figure = Figure()
        figure.suptitle("a red seven 红色的七")
        figure.savefig(io.BytesIO())
    return "drawn, in English and Chinese"


def _draw_with(name: str) -> str:
    loaded = load_checkpoint(shipped_checkpoint(name), choose_profile().device)
    prompts = PRESETS[name].prompts[:1] if name in PRESETS else ["rocket"]
    shape = tuple(loaded.notes["picture_size"])
    _finite(draw_all(loaded.model, loaded.schedule, prompts, shape, 1.0, num_steps=2, **companions_of(loaded)))
    return "loaded, draws"


def _finite(drawn: Tensor) -> None:
    if not drawn.isfinite().all():
        raise ArithmeticError("what it draws has values that are no numbers")


def _make_widget() -> str:
    import ipywidgets

    slider = ipywidgets.IntSlider(max=10)
    slider.value = 3
    importlib.metadata.version("jupyterlab_widgets")  # the half that shows them, in the browser
    return f"a slider stands at {slider.value}"


def _start_kernel() -> str:
    """Starts the Python that runs the notebooks' cells, and asks it where it lives."""
    from jupyter_client.manager import run_kernel

    question = {"prefix": "__import__('sys').prefix"}
    # Not in the course's folder, where any Python would find ddpm_core.
    with run_kernel(startup_timeout=15, kernel_name="python3", cwd=tempfile.gettempdir()) as client:
        reply = client.execute("", user_expressions=question, reply=True, timeout=10)
    if reply["content"]["user_expressions"]["prefix"]["data"]["text/plain"] != repr(sys.prefix):
        raise RuntimeError("it belongs to another Python than this one")
    return "starts and answers"
