"""The well-known systems in miniature, built of the heart's parts."""

from ddpm_core.systems.clip import CLIP, ImageEncoder, contrastive_loss, encode_in_batches, train_clip
from ddpm_core.systems.search import Hits, IndexMismatch, PictureIndex, index_pictures
from ddpm_core.systems.stable_diffusion import (
    Autoencoder,
    AutoencoderMismatch,
    Posterior,
    autoencoder_loss,
    autoencoder_of,
    decoded,
    encoded,
    train_autoencoder,
)
