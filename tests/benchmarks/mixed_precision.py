"""10,000 iterations in half precision: is every loss a number, and does the network learn what float32 learns?

The network is small, because half precision is slow on a CPU; on a GPU it is what makes training fast. Time per
iteration is printed for that reason, too.
"""

import math
import statistics
from collections.abc import Sequence

import common
import torch

from ddpm_core import NoiseSchedule, UNet, cosine_betas, load_digits, train
from ddpm_core.scale.speed import PRECISIONS, in_precision, new_state

ITERATIONS, TARGET = 10_000, 0.05


def main(argv: Sequence[str] | None = None) -> None:
    options = common.parse(__doc__, argv)
    iterations = 30 if options.quick else ITERATIONS
    rows, targets = [], []
    try:
        for precision in PRECISIONS:
            rows.append(learn(precision, iterations))
    except KeyboardInterrupt:
        print("stopped: what was measured until now")
    reference = rows[0]["loss at the end"] if rows else math.nan
    for row in rows[1:]:
        name = row["precision"]
        targets.append(common.target(f"losses that are no number, {name}", row["no number"], at_most=0))
        difference = abs(row["loss at the end"] / reference - 1)
        targets.append(common.target(f"loss beside float32's, {name}", difference, at_most=TARGET))
    title = f"Half precision: digits, {iterations:,} iterations of 16"
    common.report("mixed_precision", title, rows, targets, options=options)


def learn(precision: str, iterations: int) -> dict:
    torch.manual_seed(0)
    state = new_state(UNet(1, (8, 8)).to(common.DEVICE), precision)
    network = in_precision(state.model, common.DEVICE, precision)
    schedule, pictures = NoiseSchedule(cosine_betas(200)), load_digits()[0]
    run = train(state, schedule, pictures, iterations, batch_size=16, network=network)
    seconds = common.seconds(lambda: common.exhaust(run, iterations))
    # Weights are float32 and so always look sound: what counts is that no update was made of NaN.
    assert all(weight.isfinite().all() for weight in state.model.parameters())
    return {
        "precision": precision,
        "no number": sum(not math.isfinite(loss) for loss in state.losses),
        "loss at the end": statistics.mean(state.losses[-iterations // 5 :]),
        "gradient scale": state.scaler.get_scale() if precision == "float16" else None,
        "ms an iteration": 1000 * seconds / iterations,
    }


if __name__ == "__main__":
    main()
