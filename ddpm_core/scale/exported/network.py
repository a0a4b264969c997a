"""What diffusers loads from the folder unet: a network of ddpm_core, inside a model of diffusers."""

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ddpm_core.support.registry import build


class DDPMCoreNetwork(ModelMixin, ConfigMixin):
    """A UNet, or a TextToImage with its text encoder and tokenizer, as .network.

    architecture: the network's name and config, which build takes
    in_channels:  C of its pictures, (B, C, H, W)
    sample_size:  (H, W) of the pictures that it was trained on

    forward: the network's: x_t (B, C, H, W), t long (B,) and, where it reads text, tokens (B, L) -> (B, C, H, W).
    """

    @register_to_config
    def __init__(self, architecture: dict, in_channels: int, sample_size: tuple[int, int]):
        super().__init__()
        self.network = build(**architecture)

    def forward(self, x_t: Tensor, t: Tensor, *tokens: Tensor) -> Tensor:
        return self.network(x_t, t, *tokens)
