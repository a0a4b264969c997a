"""The benchmarks measure what they say. How fast things are is no matter here."""

import importlib
import json
import statistics
import sys
import time
from pathlib import Path

import common
import pytest
import summary
import torch
import torch.nn.functional as F
from torch import nn

from ddpm_core import NoiseSchedule, cosine_betas, sample
from ddpm_core.support.pixels import from_bytes

FOLDER = Path(__file__).parent / "benchmarks"
SLOW = ["training_speed", "scaling", "latents_against_pixels"]  # even in quick mode
WITH_PLOT = ["scaling", "latents_against_pixels"]
HELPERS = {"common", "peers", "summary"}
BENCHMARKS = sorted(path for path in FOLDER.glob("*.py") if path.stem not in HELPERS)


@pytest.fixture(scope="module")
def peers():
    """The peers' networks and loops: diffusers is one of the test packages, the other one may be missing."""
    return importlib.import_module("peers")


# ---------------------------------------------------------------- every benchmark


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_says_what_it_measures_and_has_a_main_and_a_quick_mode(path):
    benchmark, source = importlib.import_module(path.stem), path.read_text(encoding="utf-8")
    assert len(benchmark.__doc__) > 60 and callable(benchmark.main)
    assert ".quick" in source and 'if __name__ == "__main__":' in source


@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.slow) for name in SLOW), "text_overhead"])
def test_a_quick_run_writes_its_results_and_the_summary_reads_them(name, tmp_path, capsys):
    benchmark = importlib.import_module(name)
    benchmark.main(["--quick", "--out", str(tmp_path)])
    result = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert result["name"] == name and result["quick"] and result["machine"]["torch"] == torch.__version__
    assert len(result["rows"]) >= 1 and any(isinstance(value, float) for value in result["rows"][0].values())
    assert result["title"] in capsys.readouterr().out
    summary.main(["--out", str(tmp_path)])
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "numbers mean nothing" in page and all(column in page for column in result["rows"][0])
    assert (f"]({name}.png)" in page) == (tmp_path / f"{name}.png").is_file() == (name in WITH_PLOT)


def test_the_summary_begins_with_the_targets(tmp_path, capsys):
    options = common.parse("", ["--out", str(tmp_path)])
    targets = [common.target("speed of the one", 3.0, at_least=2), common.target("memory", None, at_most=1)]
    common.report("one", "The one", [dict(speed=3.0)], targets, options=options)
    summary.main(["--out", str(tmp_path)])
    lines = (tmp_path / "README.md").read_text(encoding="utf-8").splitlines()
    words = [[word.strip() for word in line.split("|")[1:-1]] for line in lines if line.startswith("| one")]
    assert words == [
        ["one", "speed of the one", "3.00", "at least 2", "met"],
        ["one", "memory", "-", "at most 1", "not measured"],
    ]
    assert "speed of the one" in capsys.readouterr().out


def test_a_quick_run_does_not_overwrite_a_full_one(monkeypatch, tmp_path):
    monkeypatch.setattr(common, "BUILD", tmp_path)
    full, quick = (common.out_folder(common.parse("", argv)) for argv in ([], ["--quick"]))
    assert full == tmp_path and quick != full


# ---------------------------------------------------------------- time


def test_works_take_turns_and_the_first_round_does_not_count(monkeypatch):
    order = []
    monkeypatch.setattr(common, "seconds", lambda work: work() or float(len(order)))
    works = {name: lambda name=name: order.append(name) for name in "abc"}
    times = common.interleaved(works, repeats=3)
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    assert times == {"a": [6.0, 8.0, 10.0], "b": [4.0, 9.0, 11.0], "c": [5.0, 7.0, 12.0]}


def test_seconds_are_those_of_the_clock():
    assert 0.05 <= common.seconds(lambda: time.sleep(0.05)) < 1


def test_a_ratio_is_taken_within_rounds():
    slower, faster = [2.0, 20.0, 3.0], [1.0, 10.0, 1.0]  # the second round was slow for both
    assert common.ratio(slower, faster) == 2.0 != statistics.median(slower) / statistics.median(faster)


def test_a_run_that_is_too_short_is_an_error_and_not_a_fast_one():
    run = iter(range(5))
    common.exhaust(run, 3)
    assert next(run) == 3
    with pytest.raises(RuntimeError, match="ended before 2"):
        common.exhaust(run, 2)


# ---------------------------------------------------------------- arithmetic


def test_flops_of_a_convolution_are_counted_forward_and_twice_on_the_way_back():
    conv, x = nn.Conv2d(3, 8, 3, padding=1), torch.randn(4, 3, 10, 10, requires_grad=True)
    forward = 2 * (3 * 3 * 3) * 8 * 10 * 10  # a multiplication and an addition for each weight at each place
    assert common.flops_per_picture(lambda: conv(x).sum(), 4, backward=False) == forward
    assert common.flops_per_picture(lambda: conv(x).sum(), 4) == 3 * forward


@pytest.mark.parametrize("mask", [None, torch.ones(2, 1, 1, 64, dtype=torch.bool)])
def test_flops_of_attention_are_counted_on_this_device(mask):
    q = torch.randn(2, 4, 64, 8, device=common.DEVICE, requires_grad=True)
    mask = None if mask is None else mask.to(common.DEVICE)
    product = 2 * 4 * 64 * 64 * 8  # of four heads: 64 queries with 64 keys of 8 numbers
    count = common.flops_per_picture(lambda: F.scaled_dot_product_attention(q, q, q, attn_mask=mask).sum(), 2)
    assert count == (2 + 5) * product  # on the way back the scores are computed anew


def test_the_machines_own_rate_is_that_of_the_best_size_for_as_long_as_asked(monkeypatch):
    monkeypatch.setattr(common, "seconds", lambda work: (work(), 0.5)[1])  # every size takes as long
    work, gflop = common.matmul_work(2.0, (16, 64))
    assert gflop == pytest.approx(4 * 2 * 64**3 / 1e9)
    with common.FlopCounterMode(display=False) as counter:
        work()
    assert counter.get_total_flops() == pytest.approx(1e9 * gflop)


# ---------------------------------------------------------------- memory


def hold(megabytes: int) -> None:
    """Fills memory, and lets it go again."""
    torch.ones(megabytes * common.MEGABYTE // 4)


def break_down() -> None:
    raise ArithmeticError


@pytest.mark.slow
@pytest.mark.skipif(common.DEVICE.type != "cpu" or sys.platform != "linux", reason="elsewhere it is a lower bound")
def test_memory_is_the_peak_in_a_process_of_its_own():
    assert common.peak_memory(hold, 100) == pytest.approx(100, abs=5)


@pytest.mark.slow
def test_a_measurement_of_memory_that_breaks_says_so():
    with pytest.raises(RuntimeError, match="memory of break_down failed"):
        common.peak_memory(break_down)


# ---------------------------------------------------------------- results


def test_a_table_is_markdown_whose_columns_stand_under_one_another():
    lines = common.table([dict(a="long words", b=1234.5), dict(a="x", c=None), dict(a="y", b=0.01234)]).splitlines()
    assert len({len(line) for line in lines}) == 1 and {line.count("|") for line in lines} == {4}
    assert lines[1].split("|")[1:3] == [" ---------- ", " -----: "]  # words at the left, numbers at the right
    assert lines[2].split("|")[2].strip() == "1,234" and lines[4].split("|")[2].strip() == "0.0123"


def test_a_target_says_whether_it_is_met():
    for value, limit, verdict in [
        (2.0, dict(at_least=2), "met"),
        (1.9, dict(at_least=2), "not met"),
        (0.9, dict(at_most=1), "met"),
        (1.1, dict(at_most=1), "not met"),
        (None, dict(at_most=1), "not measured"),
    ]:
        assert common.target_line(common.target("speed", value, **limit)).endswith(f"), {verdict}")


def test_a_number_that_is_none_does_not_spoil_the_file(tmp_path):
    options = common.parse("", ["--quick", "--out", str(tmp_path)])
    rows = [dict(loss=float("nan"), speed=float("inf"))]
    path = common.report("broken", "A broken one", rows, extra=dict(curve=[1.0, float("nan")]), options=options)
    result = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert result["rows"] == [dict(loss=None, speed=None)] and result["curve"] == [1.0, None]


# ---------------------------------------------------------------- the peers


def test_the_peers_networks_have_the_flops_or_the_parameters_of_ours(peers):
    training_speed = importlib.import_module("training_speed")
    checked = 0
    for case, works in training_speed.TABLE.items():
        ours = peers.OurNetwork(case)
        for work in works:
            if "our widths" in work.what or work.in_our_loop or (work.network != "diffusers" and peers.Unet is None):
                continue  # in our loop are the same networks again
            net = work.new_network(case)
            if "parameters" in work.what:
                assert peers.num_parameters(net) == pytest.approx(peers.num_parameters(ours), rel=0.06), work.what
            else:
                flops = peers.network_flops(net, case)
                assert flops == pytest.approx(peers.network_flops(ours, case), rel=0.05), f"{case}: {work.what}"
            checked += 1
    assert checked >= 9


def test_diffusers_pipeline_and_sample_draw_the_same_pictures_with_the_same_network(peers):
    case = peers.Case(8, 1, (8, 8), 2)
    torch.manual_seed(0)
    unet = peers.OurNetwork(case).unet.eval()
    nn.init.normal_(unet.head[-1].weight, std=0.05)  # an untrained one says 0
    drawn = peers.new_pipeline(peers.InPipeline(unet, case), 20)(
        batch_size=2, generator=torch.manual_seed(1), num_inference_steps=20, output_type="pt"
    ).images
    generator = torch.manual_seed(1)
    x_T = torch.randn(2, 1, 8, 8, generator=generator)
    *_, x_0 = sample(unet, NoiseSchedule(cosine_betas(20)), x_T, generator=generator)
    ours = (x_0 / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert ours.std() > 0.1
    torch.testing.assert_close(torch.as_tensor(drawn).reshape(ours.shape), ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("network", ["diffusers", "denoising_diffusion_pytorch"])
def test_a_peers_loop_learns(peers, network):
    if network != "diffusers" and peers.Unet is None:
        pytest.skip("it comes with make bench")
    training_speed = importlib.import_module("training_speed")
    case = peers.Case(8, 1, (8, 8), 4)
    work = training_speed.Work(network, network, (8, 8), 1)
    net = work.new_network(case)
    before = [weight.clone() for weight in net.parameters()]
    pictures, context = training_speed.random_data(case)
    loop = (
        peers.train_diffusers(net, case, pictures, context)
        if network == "diffusers"
        else peers.train_lucidrains(net, case, pictures)
    )
    common.exhaust(loop, 2)
    moved = [not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)]
    assert statistics.mean(moved) > 0.9


# ---------------------------------------------------------------- latents and pixels


@pytest.fixture(scope="module")
def latents_race():
    return importlib.import_module("latents_against_pixels")


def test_the_rivals_differ_in_what_a_position_is_and_in_little_else(latents_race, monkeypatch):
    """Nearly as many weights; about as much work in patches of 8 as in latents, four times as much in patches of 4."""
    monkeypatch.setattr(latents_race, "BATCH_SIZE", 2)
    weights, flops = {}, {}
    for name, recipe in latents_race.RECIPES.items():
        shape = (4, 16, 16) if recipe.autoencoder else (3, 64, 64)
        contestant = latents_race.Contestant(recipe, torch.zeros(1, *shape), ["noto rocket"], None)
        contestant.begin(1)
        model = contestant.state.model
        weights[name] = sum(weight.numel() for weight in model.unet.parameters())
        flops[name] = contestant.flops(backward=True)
        assert not any(weight.requires_grad for weight in model.text_encoder.parameters())
    first = weights[latents_race.LATENTS]
    assert all(count == pytest.approx(first, rel=0.1) for count in weights.values())
    assert 1 <= flops[latents_race.COARSE] / flops[latents_race.LATENTS] < 1.2
    assert 3 < flops[latents_race.FINE] / flops[latents_race.LATENTS] < 5


def test_only_trained_pairs_are_asked_for_and_real_pictures_pass(latents_race):
    exam = latents_race.Examination(num_pairs=10, num_steps=1)
    data = exam.data
    assert len(exam.asked.unique()) == 10 and [len(rows) for rows in exam.by_language.values()] == [5, 5]
    assert data.is_everyday[exam.asked].all() and not data.is_withheld[exam.asked].any()
    pictures = from_bytes(data.pictures[exam.asked])
    assert exam.judge(pictures) == (1, 1) and exam.judge(pictures.roll(1, dims=0))[0] < 0.5
