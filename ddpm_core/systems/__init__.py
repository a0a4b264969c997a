"""The well-known systems in miniature, built of the heart's parts."""

from ddpm_core.systems.clip import CLIP, ImageEncoder, contrastive_loss, encode_in_batches, train_clip
from ddpm_core.systems.dalle2 import (
    DALLE2,
    Decoder,
    Prior,
    clip_of,
    draw_from_vectors,
    draw_vectors,
    scaled,
    slerp,
    text_difference,
    text_vectors,
    unclip,
)
from ddpm_core.systems.imagen import (
    SuperResolver,
    augmented,
    dynamic_threshold,
    shrunk,
    super_resolve,
    super_resolved,
    super_resolver_of,
    train_super_resolver,
)
from ddpm_core.systems.search import Hits, IndexMismatch, PictureIndex, index_pictures
from ddpm_core.systems.second_stage import companions_of
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
