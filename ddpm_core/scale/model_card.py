"""The card of an exported model: what it draws, how it was made, and whose pictures it has learnt from."""

import json

from ddpm_core.checkpoint import Checkpoint
from ddpm_core.data import DATA_SETS
from ddpm_core.scale.recipes import PRESETS
from ddpm_core.text_to_image import NUM_STEPS, TextToImage

FEW_STEPS = 20  # for DPM-Solver++
MNIST = "MNIST, by Yann LeCun, Corinna Cortes and Christopher J.C. Burges, CC BY-SA 3.0"
LICENCES = {
    "digits": "handwritten digits, by Alpaydin & Kaynak (UCI Machine Learning Repository, 1998), CC BY 4.0",
    "MNIST": MNIST,
    "digit-scenes": f"scenes painted from {MNIST}",
    "emoji": "emoji of seven sets: Noto Emoji and its first version (Google, Apache License 2.0), Twemoji (Twitter, "
    "Jason Sofonia & Justine De Caires, CC BY 4.0), OpenMoji (CC BY-SA 4.0), Fluent Emoji in colour and flat "
    "(Microsoft, MIT) and Emojitwo (CC BY 4.0); named by Unicode's CLDR, Unicode License v3",
}
SCORES = {
    "digit-scenes": "the share of 1,000 prompts whose picture shows both digits in both colours",
    "emoji": "the share of pictures that are nearest to their own emoji among all of its style and, for the style, "
    "among all drawings of that emoji",
}
PREDICTS = {"eps": "the noise", "x_0": "the clean picture", "v": "v, a mixture of noise and picture"}
CARD = """---
{head}
---

# {name}

A small diffusion model (DDPM, Ho et al. 2020) that was trained with the course `ddpm_core`. It draws pictures of
{H} x {W} pixels. Its noise schedule has {T:,} timesteps, and its U-Net predicts {predicts}.

The folder brings its own code, in `pipeline.py` and `unet/ddpm_core_network.py`. With `trust_remote_code=True` you
allow `diffusers` to run it.

```python
# pip install torch diffusers
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained({path}, trust_remote_code=True)  # where this folder is
images = pipe({call}).images
images[0].save("picture.png")
```

This takes {num_steps} steps of DDPM. DPM-Solver++ needs fewer. `DDIMScheduler` is set in the same way, and needs a
number of steps that divides {T:,}.

```python
from diffusers import DPMSolverMultistepScheduler

pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
images = pipe({call}, num_inference_steps={few_steps}).images
```

To pass the model on, copy this folder: `save_pretrained` leaves the code out.
{words}
## How it was made

| | |
|---|---|
{facts}
{scores}
## Licence

{licence}
"""
WORDS = """
`guidance_scale`, which is {scale:g} unless you give another, says how closely a picture follows its prompt. The model
leaves out words that it does not know.

<details><summary>The {count:,} words that it knows</summary>

{words}

</details>
"""
SCORED = """
The scores are {what}. *Trained* means prompts for combinations that were in the training data, *withheld* those for
combinations that were not.
"""


def model_card(trained: Checkpoint, name: str, guidance_scale: float | None) -> str:
    """README.md, with the head that the Hugging Face Hub reads. name: the folder's."""
    notes, T = trained.notes, len(trained.schedule)
    preset, words, call = notes.get("preset"), "", "num_images_per_prompt=4"
    if isinstance(trained.model, TextToImage):
        known = trained.model.tokenizer.words
        words = WORDS.format(count=len(known), words=", ".join(known), scale=guidance_scale)
        # Where the captions are not at hand, the longest word is likely to name a thing.
        prompts = PRESETS[preset].prompts[:2] if preset in PRESETS else [max(known, key=len)]
        call = json.dumps(prompts, ensure_ascii=False)
    _, H, W = notes["picture_size"]
    return CARD.format(
        head=_head(bool(words), preset),
        name=name,
        path=json.dumps(name, ensure_ascii=False),
        H=H,
        W=W,
        T=T,
        predicts=PREDICTS[trained.model.predicts],
        call=call,
        num_steps=min(NUM_STEPS, T),
        few_steps=min(FEW_STEPS, T),
        words=words,
        facts=_facts(notes),
        scores=SCORED.format(what=SCORES[preset]) if preset in SCORES and "scores" in notes else "",
        licence=_licence(notes),
    )


def _head(reads_text: bool, preset: str | None) -> str:
    task = "text-to-image" if reads_text else "unconditional-image-generation"
    lines = ["library_name: diffusers", f"pipeline_tag: {task}", "tags: [ddpm, ddpm_core]"]
    return "\n".join(lines + (["license: mit", "language: [en, zh]"] if preset in LICENCES else []))


def _facts(notes: dict) -> str:
    names = ("command", "iterations", "batch_size", "learning_rate", "seconds", "machine")
    facts = {name.replace("_", " "): notes[name] for name in names if name in notes}
    if notes.get("preset") in SCORES:
        facts |= {f"score: {name}": f"{share:.1%}" for name, share in notes.get("scores", {}).items()}
    return "\n".join(f"| {name} | {value} |" for name, value in facts.items())


def _licence(notes: dict) -> str:
    data = notes.get("preset") or DATA_SETS.get(str(notes.get("data")).lower())
    whose = "The code and the weights are" if data in SCORES else "The code is"
    # A folder is not named: what it is called is nobody's business.
    pictures = LICENCES.get(data, f"{data or 'pictures'}, whose licence is not known here")
    return f"{whose} under the MIT License. The model was trained on {pictures}."
