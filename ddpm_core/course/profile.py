"""The course's two sizes, of which the machine chooses one. Nothing here is about diffusion."""

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Profile:
    """How big the notebooks think: "cpu" (a laptop, to the end, within minutes) or "gpu" (bigger and longer)."""

    name: str
    device: torch.device

    def pick(self, *, cpu, gpu):
        """The value that belongs to this profile."""
        return cpu if self.name == "cpu" else gpu

    def __str__(self) -> str:
        if self.device.type == "cuda":
            return f"{self.name} profile, on {torch.cuda.get_device_name(self.device)}"
        cores = torch.get_num_threads()
        return f"{self.name} profile, on {cores} CPU core{'s' if cores > 1 else ''}"


def choose_profile() -> Profile:
    """The profile of this machine: "gpu" where torch sees a CUDA device, else "cpu".

    The environment variable DDPM_PROFILE, "cpu" or "gpu", overrules it. Raises ValueError for any other value, and for
    "gpu" on a machine without one.
    """
    has_gpu = torch.cuda.is_available()
    name = os.environ.get("DDPM_PROFILE") or ("gpu" if has_gpu else "cpu")
    if name not in ("cpu", "gpu"):
        raise ValueError(f'the environment variable DDPM_PROFILE must be "cpu" or "gpu"; it is {name!r}')
    if name == "gpu" and not has_gpu:
        raise ValueError('DDPM_PROFILE is "gpu", but torch sees no CUDA device here; unset it or say "cpu"')
    return Profile(name, torch.device("cuda" if name == "gpu" else "cpu"))
