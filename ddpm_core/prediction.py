"""What a network predicts: the noise in x_t, the clean picture, or v, a mixture. Each gives the others (DDPM eq. 4).

Noise is the usual choice, and all that loss and sampling know of. But to predict noise to a hundredth, a network has to
pass x_t on to its output to a hundredth, through every layer; where it cannot, what should be even comes out grainy. To
predict x_0 it only has to know the picture: white is the same number everywhere. v is nearly the noise where x_t is
nearly the picture, and nearly minus the picture where x_t is nearly noise (Salimans & Ho 2022, section 4).
"""

from collections.abc import Callable

from torch import Tensor, nn

from ddpm_core.process import predict_eps, v_to_eps
from ddpm_core.schedule import NoiseSchedule


def noise_predictor(
    model: nn.Module, schedule: NoiseSchedule, network: Callable[..., Tensor] | None = None
) -> Callable[..., Tensor]:
    """eps_hat = eps_model(x_t, t, ...), whatever the model predicts.

    model:   its .predicts is "eps", "x_0" or "v"; a model without that predicts noise
    network: called in the model's place (None: the model itself)
    """
    network = network or model
    predicts = getattr(model, "predicts", "eps")
    if predicts == "eps":
        return network
    to_eps = {"x_0": predict_eps, "v": v_to_eps}[predicts]

    def eps_model(x_t: Tensor, t: Tensor, *cond: Tensor) -> Tensor:
        return to_eps(schedule, x_t, t, network(x_t, t, *cond))

    eps_model.__wrapped__ = network  # as functools.wraps does: a guard looks at what is inside
    return eps_model
