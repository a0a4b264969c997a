"""Build a text-to-image diffusion model from nothing: the package that the notebooks share."""

from ddpm_core.blocks import AttentionBlock, CrossAttentionBlock, ResidualBlock, TimeEmbedding
from ddpm_core.checkpoint import (
    Checkpoint,
    load_checkpoint,
    model_checksum,
    resume_training,
    save_checkpoint,
    shipped_checkpoint,
)
from ddpm_core.data import (
    CaptionedPictures,
    DataUnavailable,
    DigitScenes,
    EmojiDataset,
    PictureTextShards,
    all_scenes,
    caption_of,
    draw_scenes,
    is_withheld,
    load_captioned_folder,
    load_cat,
    load_digit_scenes,
    load_digits,
    load_mnist,
    load_pictures,
    load_torchvision,
    write_shards,
)
from ddpm_core.editing import inpaint, picture_to_picture
from ddpm_core.guidance import drop_condition, guided
from ddpm_core.judging import (
    DigitReader,
    Verdict,
    clip_score,
    copy_ratios,
    draw_emoji,
    frechet_distance,
    ink_colours,
    judge_digits,
    judge_emoji,
    judge_scenes,
    judge_style,
    kernel_distance,
    nearest_pictures,
    retrieval_agreement,
    scene_agreement,
)
from ddpm_core.loss import diffusion_loss, loss_by_timestep
from ddpm_core.prediction import noise_predictor
from ddpm_core.process import add_noise, posterior, predict_eps, predict_x_0, v_to_eps
from ddpm_core.sampling import ddim, ddim_inversion, ddim_step, ddpm_step, dpm_solver, reverse_process, sample
from ddpm_core.schedule import NoiseSchedule, cosine_betas, linear_betas
from ddpm_core.support.memory import OutOfMemory
from ddpm_core.support.notices import PromptWarning, collect_notices
from ddpm_core.support.tensor_file import CheckpointError
from ddpm_core.systems import (
    CLIP,
    DALLE2,
    Autoencoder,
    AutoencoderMismatch,
    Decoder,
    Hits,
    ImageEncoder,
    IndexMismatch,
    PictureIndex,
    Posterior,
    Prior,
    SuperResolver,
    autoencoder_loss,
    autoencoder_of,
    clip_of,
    companions_of,
    contrastive_loss,
    decoded,
    draw_from_vectors,
    draw_vectors,
    dynamic_threshold,
    encode_in_batches,
    encoded,
    index_pictures,
    slerp,
    super_resolve,
    super_resolved,
    super_resolver_of,
    text_difference,
    train_autoencoder,
    train_clip,
    train_super_resolver,
    unclip,
)
from ddpm_core.text import TextEncoder, Tokenizer
from ddpm_core.text_to_image import TextToImage, generate, prompt_notice
from ddpm_core.training import fit, train
from ddpm_core.training_state import TrainingDiverged, TrainingState
from ddpm_core.unet import UNet
