import pytest
import torch
from diffusers import DDIMScheduler
from torch import nn

from ddpm_core import (
    NoiseSchedule,
    TextEncoder,
    TextToImage,
    Tokenizer,
    TrainingState,
    UNet,
    add_noise,
    diffusion_loss,
    generate,
    guided,
    linear_betas,
    noise_predictor,
    predict_eps,
    predict_x_0,
    sample,
    train,
    v_to_eps,
)

SCHEDULE = NoiseSchedule(linear_betas(100))
TOKENIZER = Tokenizer(["red", "seven"], max_length=3)


class Constant(nn.Module):
    """Predicts that every clean picture is the same number everywhere."""

    def __init__(self, value: float, predicts: str = "x_0"):
        super().__init__()
        self.value, self.predicts = nn.Parameter(torch.tensor(value)), predicts

    def forward(self, x_t, t):
        if self.predicts == "x_0":
            return self.value.expand_as(x_t)
        alpha_bar = SCHEDULE.alpha_bars[t][:, None, None, None]  # v, of the picture and the noise that x_t then has
        eps = (x_t - alpha_bar.sqrt() * self.value) / (1 - alpha_bar).sqrt()
        return alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * self.value


def test_predict_eps_finds_the_noise_that_was_added():
    x_0, eps = torch.randn(2, 100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.arange(100)
    schedule = NoiseSchedule(SCHEDULE.betas.double())
    found = predict_eps(schedule, add_noise(schedule, x_0, t, eps), t, x_0)
    torch.testing.assert_close(found, eps, rtol=0, atol=1e-10)


@pytest.mark.parametrize("prediction_type, to_eps", [("sample", predict_eps), ("v_prediction", v_to_eps)])
def test_a_step_from_x_0_or_v_is_that_of_diffusers(prediction_type, to_eps, in_float64):
    options = dict(trained_betas=SCHEDULE.betas.numpy(), prediction_type=prediction_type, clip_sample=False)
    theirs = in_float64(DDIMScheduler(100, **options))
    theirs.set_timesteps(100)
    x_t, said = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for step in (1, 50, 99):
        t = torch.full((4,), step)
        eps_hat = to_eps(SCHEDULE, x_t, t, said)
        signal, noise = SCHEDULE.alpha_bars[step - 1].sqrt(), SCHEDULE.beta_bars[step - 1].sqrt()
        ours = signal * predict_x_0(SCHEDULE, x_t, t, eps_hat) + noise * eps_hat
        expected = theirs.step(said, step, x_t, eta=0.0).prev_sample
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_v_of_known_noise_gives_it_back():
    x_0, eps = torch.randn(2, 100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t, schedule = torch.arange(100), NoiseSchedule(SCHEDULE.betas.double())
    v = schedule.alpha_bars[:, None].sqrt() * eps - schedule.beta_bars[:, None].sqrt() * x_0
    torch.testing.assert_close(v_to_eps(schedule, add_noise(schedule, x_0, t, eps), t, v), eps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("predicts", ["x_0", "v"])
def test_sampling_ends_at_the_picture_that_the_network_believes_in(predicts):
    *_, x_0 = sample(noise_predictor(Constant(0.25, predicts), SCHEDULE), SCHEDULE, torch.randn(2, 1, 4, 4))
    torch.testing.assert_close(x_0, torch.full((2, 1, 4, 4), 0.25), rtol=0, atol=1e-5)


@pytest.mark.parametrize("predicts", ["x_0", "v"])
def test_train_weighs_the_error_in_x_0_by_the_signal_to_noise_ratio(predicts):
    """min(snr, gamma) |x_0 - x_0_hat|^2: Hang et al. 2023, section 3.4, for networks that predict x_0."""
    pictures = torch.full((1, 1, 2, 2), -0.5)
    state = TrainingState(Constant(0.0, predicts), seed=3)
    loss = next(train(state, SCHEDULE, pictures, 1, batch_size=64, min_snr_gamma=1.0)).losses[0]
    generator = torch.Generator().manual_seed(3)
    torch.randint(1, (64,), generator=generator)  # the draw of the pictures
    alpha_bar = SCHEDULE.alpha_bars[torch.randint(100, (64,), generator=generator)]
    assert loss == pytest.approx(((alpha_bar / (1 - alpha_bar)).clamp(max=1) * 0.25).mean().item(), rel=1e-3)


@pytest.mark.parametrize("predicts", ["x_0", "v"])
def test_training_moves_towards_the_picture(predicts):
    state = TrainingState(Constant(0.0, predicts))
    for _ in train(state, SCHEDULE, torch.full((4, 1, 2, 2), -0.5), 200, batch_size=32, learning_rate=1e-2):
        pass
    assert state.ema_model.value.item() == pytest.approx(-0.5, abs=0.05)


def test_generate_asks_a_model_for_what_it_predicts():
    unet = UNet(3, (8,), context_dim=8, predicts="x_0")  # untrained, it says 0 everywhere
    model = TextToImage(unet, TextEncoder(len(TOKENIZER), TOKENIZER.max_length, 8), TOKENIZER)
    *_, pictures = generate(model, SCHEDULE, ["red seven"], shape=(3, 8, 8), num_steps=10)
    torch.testing.assert_close(pictures, torch.zeros(1, 3, 8, 8), rtol=0, atol=1e-6)


def test_a_model_that_predicts_noise_is_taken_as_it_is():
    unet = UNet(1, (8,))
    assert noise_predictor(unet, SCHEDULE) is unet
    assert noise_predictor(unet, SCHEDULE, torch.sin) is torch.sin


def test_whoever_forgets_noise_predictor_is_told():
    x = torch.zeros(1, 1, 8, 8)
    model = UNet(1, (8,), predicts="x_0")
    for use in (
        lambda: sample(model, SCHEDULE, x),
        lambda: diffusion_loss(model, SCHEDULE, x),
        lambda: guided(model, torch.zeros(1, 3), torch.zeros(3)),
    ):
        with pytest.raises(ValueError, match=r"predicts x_0; noise_predictor\(model, schedule\)"):
            use()
    with pytest.raises(ValueError, match='predicts must be "eps", "x_0" or "v"'):
        UNet(1, (8,), predicts="score")
