"""From noise to pictures with a network of ddpm_core and a scheduler of diffusers."""

import inspect
import warnings
from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, ImagePipelineOutput
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


class DDPMCorePipeline(DiffusionPipeline):
    """Draws pictures. DDPM, DDIM and DPM-Solver++ (2M) make the same steps as in ddpm_core.

    unet:           a DDPMCoreNetwork; where its network has a tokenizer, it reads prompts
    scheduler:      a DDPMScheduler, or a DDIMScheduler or DPMSolverMultistepScheduler made from that one's config
    guidance_scale: used where a call gives none
    """

    def __init__(self, unet, scheduler, guidance_scale: float | None = None):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(guidance_scale=guidance_scale)
        # In single precision, whatever was asked for; the channels of a pixel side by side make convolutions faster.
        unet.network.to(torch.float32, memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str = "",
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable | None = None,
    ) -> ImagePipelineOutput | tuple:
        """num_images_per_prompt pictures of each prompt, or as many of anything where there is no prompt.

        num_inference_steps: None: 50, or all timesteps of the schedule where there are fewer
        guidance_scale:      0 ignores the prompts, 1 follows them as learnt, more exaggerates them
        negative_prompt:     what the pictures should keep away from, where guidance_scale is above 1
        eta:                 of DDIM, from 0 (no fresh noise) to 1 (DDPM)
        generator:           one for all pictures, or a list with one for each
        latents:             x_T, (B, C, H, W), to begin with
        output_type:         "pil", "np" or "pt", with values from 0 to 1, or "latent", as the network draws them
        callback_on_step_end: is called with (pipeline, step, timestep, {"latents": x_t}) after each step
        """
        tokenizer = getattr(self.unet.network, "tokenizer", None)
        if tokenizer is None and (prompt is not None or negative_prompt or guidance_scale is not None):
            raise ValueError("this model reads no text: leave out prompt, negative_prompt and guidance_scale")
        prompts = _several(prompt, num_images_per_prompt)
        if isinstance(generator, list) and len(generator) != len(prompts):
            raise ValueError(f"there are {len(generator)} generators for {len(prompts)} pictures; give one for each")
        shape = (len(prompts), self.unet.config.in_channels, *self.unet.config.sample_size)
        if latents is not None and latents.shape != shape:
            raise ValueError(f"latents must be of shape {shape}; got {tuple(latents.shape)}")
        predict = self.unet
        if tokenizer is not None:
            scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
            predict = self._guided(tokenizer, prompts, negative_prompt, scale)
        self._set_timesteps(num_inference_steps)

        x_t = randn_tensor(shape, generator, self.unet.device, self.unet.dtype) if latents is None else latents
        # DDIM takes the noise in x_t from the clipped picture, too.
        options = dict(eta=eta, generator=generator, use_clipped_model_output=True)
        accepted = inspect.signature(self.scheduler.step).parameters
        options = {name: value for name, value in options.items() if name in accepted}
        for number, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            prediction = predict(x_t, timestep.to(x_t.device).expand(len(x_t)))
            x_t = self.scheduler.step(prediction, timestep, x_t, **options).prev_sample
            if callback_on_step_end is not None:
                x_t = (callback_on_step_end(self, number, timestep, {"latents": x_t}) or {}).get("latents", x_t)
        images = VaeImageProcessor().postprocess(x_t, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _guided(self, tokenizer, prompts: list[str], negative_prompt: str, scale: float) -> Callable:
        """Classifier-free guidance of what the network predicts: noise or picture, it comes to the same."""
        if scale < 0:
            raise ValueError(f"guidance_scale must be 0 or more; got {scale}")
        if scale <= 1:
            negative_prompt = ""  # there is no guidance that could lead away from it
        for each in dict.fromkeys([*prompts, negative_prompt]):
            if unknown := tokenizer.unknown_words(each):
                warnings.warn(f"{each!r}: no training caption had {', '.join(unknown)}", stacklevel=3)
        cond = tokenizer(prompts).to(self.unet.device)
        null_cond = tokenizer([negative_prompt]).to(self.unet.device).expand_as(cond)
        if scale in (0, 1):
            return lambda x_t, t: self.unet(x_t, t, cond if scale == 1 else null_cond)
        both = torch.cat([cond, null_cond])

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            with_text, without = self.unet(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
            return without + scale * (with_text - without)

        return predict

    def _set_timesteps(self, num_steps: int | None) -> None:
        T = self.scheduler.config.num_train_timesteps
        num_steps = min(50, T) if num_steps is None else num_steps
        if not 1 <= num_steps <= T:
            raise ValueError(f"num_inference_steps must lie between 1 and {T}; got {num_steps}")
        if isinstance(self.scheduler, DDIMScheduler) and T % num_steps:
            raise ValueError(
                f"num_inference_steps must divide {T}, as DDIMScheduler takes its timesteps to be evenly spaced; "
                f"got {num_steps}"
            )
        # In float32 its 1 - alpha_bar has lost most of its digits at the first timesteps.
        self.scheduler.alphas_cumprod = torch.cumprod(1 - self.scheduler.betas.double(), dim=0)
        self.scheduler.set_timesteps(num_steps)


def _several(prompt: str | list[str] | None, num_images_per_prompt: int) -> list[str]:
    """The prompt of each picture."""
    prompts = [prompt or ""] if isinstance(prompt, str | None) else prompt
    if not isinstance(prompts, list | tuple) or not all(isinstance(each, str) for each in prompts):
        raise TypeError(f"prompt must be a string or a list of strings; got {prompt!r}")
    if not prompts or num_images_per_prompt < 1:
        got = f"{prompt!r} and num_images_per_prompt={num_images_per_prompt}"
        raise ValueError(f"there must be at least one prompt, and one picture of it; got {got}")
    return [each for each in prompts for _ in range(num_images_per_prompt)]
