"""Seconds in which each model of the course draws 64 pictures, and the pictures.

The second drawing is timed: in the first one a GPU looks for the fastest algorithms, and torch compiles. TF32 is what
the notebooks have on a GPU; "graphs" is --compile graphs, which replays whole calls of the network.
"""

from collections.abc import Sequence

import common
from common import DEVICE

from ddpm_core import load_checkpoint, shipped_checkpoint
from ddpm_core.judging.drawing import draw_all
from ddpm_core.scale.draw import DRAWING
from ddpm_core.scale.recipes import PRESETS
from ddpm_core.scale.speed import autocast, fastest_precision, speed_up
from ddpm_core.support.pixels import write_pictures
from ddpm_core.systems.second_stage import companions_of

COUNT, NUM_STEPS = 64, 50
SWITCHES = ("float32, TF32", "half precision", "half precision, graphs")


def main(argv: Sequence[str] | None = None) -> None:
    options = common.parse(__doc__, argv)
    count, num_steps = (2, 2) if options.quick else (COUNT, NUM_STEPS)
    on_gpu, rows = DEVICE.type == "cuda", []
    try:
        for name in DRAWING:
            # To compile takes longer than to draw: shown for pixels and for latents.
            num_switches = 1 if not on_gpu else 3 if name in ("emoji", "stable-diffusion") else 2
            for switch in SWITCHES[:num_switches]:
                rows.append(common.row_of(draw, name, switch, count, num_steps, options))
    except KeyboardInterrupt:
        print("stopped: what was measured until now")
    fastest = min((row["seconds"] for row in rows if row.get("model") == "emoji"), default=None)
    targets = [common.target("64 emoji, 50 steps, seconds", fastest, at_most=1)] if not options.quick and on_gpu else []
    title = f"Drawing {count} pictures in {num_steps} steps"
    common.report("device_drawing", title, rows, targets, options=options)


def draw(name: str, switch: str, count: int, num_steps: int, options) -> dict:
    loaded = load_checkpoint(shipped_checkpoint(name), DEVICE)
    prompts = PRESETS[name].prompts if name in PRESETS else PRESETS["emoji"].prompts
    prompts = [prompts[i % len(prompts)] for i in range(count)]
    precision = fastest_precision(DEVICE) if switch.startswith("half") else "float32"
    model, second = loaded.model, companions_of(loaded)
    speed_up(model, None, "graphs" if "graphs" in switch else None, print)
    shape, scale = tuple(loaded.notes["picture_size"]), loaded.notes["guidance_scale"]

    def work():
        nonlocal drawn
        with autocast(DEVICE, precision):
            drawn = draw_all(model, loaded.schedule, prompts, shape, scale, num_steps=num_steps, **second)

    drawn = None
    first, again = common.seconds(work), common.seconds(work)
    write_pictures(drawn.float(), common.out_folder(options) / f"drawn_{name}.png")
    return {"model": name, "switch": switch, "first": first, "seconds": again, "pictures/s": count / again}


if __name__ == "__main__":
    main()
