"""What makes training and sampling faster on a device. Nothing here is about diffusion."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Speed:
    """Every switch that makes training and sampling faster and that depends on the device.

    precision: the network computes in half the bits, which tensor cores do several times faster and a CPU slower
    tf32:      a GPU multiplies float32 matrices with 10 bits of each factor's fraction, about 8 times faster
    compile:   torch.compile joins small operations into large ones ("fuse"), or lets the GPU replay a whole call
               ("graphs"); compiling takes a minute, so it pays off in long runs only (None: not at all)

    What is faster everywhere has no switch: the U-Net keeps the channels of a pixel side by side in memory, AdamW and
    the weight average work on all tensors at once, data stay on the device, and no iteration waits for its loss.
    """

    precision: torch.dtype = torch.float32
    tf32: bool = False
    compile: str | None = None

    def set_up(self, model: nn.Module, *example: Tensor) -> str | None:
        """Applies tf32 and compile to a model, which is tried on an example of its input.

        Returns a sentence that says why, where the model is left uncompiled after all.
        """
        if next(model.parameters()).device.type == "cuda":
            allow_tf32(self.tf32)
        if self.compile is None:
            return None
        try:
            model.compile(dynamic=False, mode="reduce-overhead" if self.compile == "graphs" else None)
            is_trained = any(weight.requires_grad for weight in model.parameters())
            for _ in range(3 if self.compile == "graphs" else 1):  # graphs are recorded in the second call only
                with self.autocast(example[0].device), torch.set_grad_enabled(is_trained):
                    answer = model(*example)
                if is_trained:
                    answer.sum().backward()
                    model.zero_grad()
            if example[0].is_cuda:
                torch.cuda.synchronize()  # errors show when the GPU gets there
        except Exception as error:  # compilers fail in many ways, and none of them matters to the result
            model._compiled_call_impl = None
            reason = " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
            return f"torch.compile does not work here ({reason}): going on without it, only slower"
        finally:
            model.zero_grad()
        return None

    def autocast(self, device: torch.device) -> torch.autocast:
        """A with block in which networks compute in this precision."""
        return torch.autocast(device.type, self.precision, enabled=self.precision != torch.float32)


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU may round the factors of float32 products to 10 bits, in matrices and in convolutions."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed  # convolutions may by default


def choose_speed(device: torch.device, compile: str | None = None) -> Speed:
    """The switches for a device. On a CPU half precision is slower than float32, so it stays off."""
    if device.type == "cpu":
        return Speed(compile=compile)
    half = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return Speed(half, tf32=True, compile=compile)
