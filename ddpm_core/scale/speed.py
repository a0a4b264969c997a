"""What makes training and sampling faster on a device. Nothing here is about diffusion.

What is faster everywhere has no switch: the U-Net keeps the channels of a pixel side by side in memory, AdamW and the
weight average work on all tensors at once, data stay on the device, and no iteration waits for its loss.
"""

import logging
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ddpm_core.support import guards
from ddpm_core.training_state import TrainingState

PRECISIONS = dict(float32=torch.float32, bfloat16=torch.bfloat16, float16=torch.float16)
NOT_COMPILED = "torch.compile does not work here ({}): going on without it, only slower"


def fastest_precision(device: torch.device) -> str:
    """Half the bits where tensor cores do them several times faster; on a CPU they are slower, so float32 there."""
    if device.type == "cpu":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU may round the factors of float32 products to 10 bits, which is about 8 times faster."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed  # convolutions may by default


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A with block in which networks compute in a precision, one of PRECISIONS. Their weights stay float32."""
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "float32")


def in_precision(network: Callable[..., Tensor], device: torch.device, precision: str) -> Callable[..., Tensor]:
    """The network computing in a precision, from float32 to float32."""

    def network_in_precision(*arguments: Tensor) -> Tensor:
        with autocast(device, precision):
            answer = network(*arguments)
        return answer.float()

    return network_in_precision


class Float16State(TrainingState):
    """A run in float16, whose smallest gradients would become 0: the loss is scaled up, and the gradients down again.

    A step whose gradients are infinite is left out, and the scale lowered (Micikevicius et al. 2018, section 3.2).
    """

    def __init__(self, model: nn.Module, seed: int = 0):
        super().__init__(model, seed)
        self.scaler = torch.amp.GradScaler(self.device.type)

    def backward(self, loss: Tensor) -> None:
        guards.learns(loss, self.model)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)

    def step(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def state_dict(self) -> dict:
        return super().state_dict() | dict(scaler=self.scaler.state_dict())

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        if "scaler" in state:
            numbers = {name: torch.as_tensor(number).item() for name, number in state["scaler"].items()}
            self.scaler.load_state_dict(numbers)


def new_state(model: nn.Module, precision: str, seed: int = 0) -> TrainingState:
    """A run that has not begun, whose network will compute in a precision."""
    return Float16State(model, seed) if precision == "float16" else TrainingState(model, seed)


def speed_up(network: nn.Module, precision: str | None, compile: str | None, say: Callable[[str], None]) -> None:
    """Allows TF32 on a GPU unless precision is "float32", and compiles the network: "fuse" joins small operations,
    "graphs" replays whole calls on a GPU. Both hold for the whole process.

    It compiles in the first calls, which takes a minute. Where the forward pass cannot be compiled the network runs as
    it is, and say is told why; where the backward pass cannot, training ends with torch's error. Raises ValueError for
    "graphs" on a CPU.
    """
    on_gpu = next(network.parameters()).is_cuda
    if on_gpu:
        allow_tf32(precision != "float32")
    if compile == "graphs" and not on_gpu:
        raise ValueError("--compile graphs is for GPUs; on a CPU there is --compile fuse")
    if compile is None:
        return
    torch._dynamo.config.suppress_errors = True  # torch's own way back to the network as it is
    torch_logs, failures = logging.getLogger("torch._dynamo.convert_frame"), []

    def one_sentence(record: logging.LogRecord) -> bool:  # in place of the pages that torch logs of each failure
        text = record.getMessage()
        if "WON'T CONVERT" not in text:
            return True
        failures.append((re.findall(r"^[\w.]+: .+", text, re.MULTILINE) or [text])[-1])
        if len(failures) == 1:
            say(NOT_COMPILED.format(failures[0]))
        return False

    others = [one for one in torch_logs.filters if getattr(one, "__name__", "") != one_sentence.__name__]
    torch_logs.filters = [*others, one_sentence]
    try:
        network.compile(dynamic=False, mode="reduce-overhead" if compile == "graphs" else None)
    except RuntimeError as error:  # torch has no compiler for this operating system or this Python
        say(NOT_COMPILED.format(error))
