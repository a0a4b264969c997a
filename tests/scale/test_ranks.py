"""Several processes, started by torchrun as on a cluster, against one process."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner

from ddpm_core import (
    CheckpointError,
    EmojiDataset,
    NoiseSchedule,
    PictureTextShards,
    TrainingState,
    UNet,
    cosine_betas,
    load_checkpoint,
    train,
    write_shards,
)
from ddpm_core.__main__ import main
from ddpm_core.scale import ranks
from ddpm_core.scale.ranks import (
    SET_BY_TORCHRUN,
    RankLost,
    gather_rows,
    join_ranks,
    num_ranks,
    rank,
    share_of,
    share_out,
    whole_batches,
)
from ddpm_core.scale.settings import captioned_model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no gloo in every build")

TINY = ["--iterations", "8", "--timesteps", "10", "--batch-size", "8", "--channels", "8", "--save-every", "2"]

PROGRAM = """
import json, sys, torch
from ddpm_core import NoiseSchedule, TrainingState, UNet, cosine_betas, load_digits, train
from ddpm_core import Tokenizer, TextEncoder, TextToImage
from ddpm_core.scale.ranks import join_ranks, num_ranks, rank, share_out

def new_model(with_text):
    if not with_text:
        return UNet(1, (8, 16))
    tokenizer = Tokenizer.from_captions(["a red seven", "blue"])
    return TextToImage(UNet(1, (8, 16), context_dim=8), TextEncoder(len(tokenizer), tokenizer.max_length, 8), tokenizer)

seen = {}
with join_ranks(torch.device("cpu")):
    pictures, schedule = load_digits()[0][:64], NoiseSchedule(cosine_betas(50))
    for with_text in (False, True):
        torch.manual_seed(rank())  # each starts from weights of its own: those of rank 0 must count
        model = new_model(with_text)
        options = dict(batch_size=16, warmup_iterations=3, min_snr_gamma=2.0)
        if with_text:
            captions = ["a red seven", "blue"] * 32
            options |= dict(cond=model.tokenizer(captions), null_cond=model.null_cond, drop_probability=0.5)
        state, options["network"] = TrainingState(model), share_out(model)
        for num_iterations in (4, 8):  # a second call goes on
            list(train(state, schedule, pictures, num_iterations, **options))
        weights = [weight.detach().double().sum().item() for weight in model.parameters()]
        seen[str(with_text)] = dict(losses=state.losses, weights=weights)
    seen["rank"], seen["ranks"] = rank(), num_ranks()
with open(f"{sys.argv[1]}.{seen['rank']}.json", "w") as file:
    json.dump(seen, file)
"""


def torchrun(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(argument) for argument in arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1", "DDPM_PROFILE": "cpu"},
        **options,
    )


def errors(result: subprocess.CompletedProcess) -> list[str]:
    """What our own program said, of all that torchrun reports."""
    return [line for line in result.stderr.splitlines() if line.startswith("Error: ")]


def losses_in(path: Path) -> list[float]:
    return load_checkpoint(path).training["losses"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A checkpoint of the same command in a single process."""
    path = tmp_path_factory.mktemp("alone") / "alone.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_PROFILE", "cpu")
        assert CliRunner().invoke(main, ["train", str(path), *TINY]).exit_code == 0
    return path


@pytest.mark.slow
def test_two_processes_have_the_losses_and_the_weights_of_one(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    subprocess.run([sys.executable, program, "one"], cwd=tmp_path, check=True)
    result = torchrun(program, "two", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    one, first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one.0", "two.0", "two.1"))
    assert (one["ranks"], first["ranks"], first["rank"], second["rank"]) == (1, 2, 0, 1)
    for with_text in ("False", "True"):
        assert first[with_text]["losses"] == second[with_text]["losses"]
        assert first[with_text]["losses"] == pytest.approx(one[with_text]["losses"], rel=1e-4)
        # Adam divides each gradient by its own size, and with it the rounding of gradients that are nearly 0.
        assert first[with_text]["weights"] == pytest.approx(one[with_text]["weights"], abs=0.02)
        assert len(set(one[with_text]["losses"])) == 8


@pytest.mark.slow
def test_the_command_line_trains_in_two_processes_and_one_of_them_writes(tmp_path, alone):
    result = torchrun("-m", "ddpm_core", "train", "two.safetensors", *TINY, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert losses_in(tmp_path / "two.safetensors") == pytest.approx(losses_in(alone), rel=1e-4)
    assert result.stdout.count("two.safetensors holds iteration 8.") == 1
    written = {path.name.replace("two", "*") for path in tmp_path.glob("*two*")}
    assert written == {path.name.replace("alone", "*") for path in alone.parent.iterdir()}


@pytest.mark.slow
def test_tar_files_are_shared_out_and_a_run_keeps_its_number_of_processes(tmp_path):
    emoji, folder = EmojiDataset(32, ["noto"]), tmp_path / "shards"
    write_shards(folder, emoji.pictures[:40], emoji.captions("en")[:40], 10)
    options = [*TINY, "--data", "shards", "--picture-size", "8"]
    result = torchrun("-m", "ddpm_core", "train", "two.safetensors", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr

    def batches(start):  # both halves, in one process
        readers = [PictureTextShards(folder, 8, 4, rank=number, num_ranks=2).batches(start) for number in (0, 1)]
        for (first, captions), (second, more_captions) in zip(*readers, strict=True):
            yield torch.cat([first, second]), state.model.tokenizer(captions + more_captions)

    torch.manual_seed(0)
    state = TrainingState(captioned_model(PictureTextShards(folder, 8, 8).captions(), (8,), 8, "shards"))
    schedule = NoiseSchedule(cosine_betas(10))
    list(train(state, schedule, batches, 8, 8, null_cond=state.model.null_cond, min_snr_gamma=1.0))
    assert losses_in(tmp_path / "two.safetensors") == pytest.approx(state.losses, rel=1e-4)

    alone = CliRunner().invoke(main, ["train", str(tmp_path / "two.safetensors"), "--resume", "--iterations", "9"])
    assert alone.exit_code == 1 and "begun with 2 processes in all, and cannot go on with 1" in alone.output


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, words",
    [
        (["--batch-size", 7], ["--batch-size must be a multiple", "2 processes", "got 7"]),
        (["--data", "shards"], ["2 processes for 1 shards"]),
    ],
)
def test_what_two_processes_cannot_share_is_one_sentence_before_any_work(tmp_path, options, words):
    write_shards(tmp_path / "shards", -torch.ones(8, 3, 8, 8), ["a red apple"] * 8, 8)
    result = torchrun("-m", "ddpm_core", "train", "new.safetensors", *TINY, *options, cwd=tmp_path)
    assert result.returncode != 0
    [message] = errors(result)
    assert all(word in message for word in words)
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize("batch_size, share", [(8, 2), (4, 1), (7, None), (1, None)])
def test_each_process_reads_as_many_pictures_of_a_batch_as_the_others(batch_size, share, monkeypatch):
    monkeypatch.setattr(ranks, "num_ranks", lambda: 4)
    if share is None:
        with pytest.raises(ValueError, match=f"batch_size must be a multiple of the 4 processes .* got {batch_size}"):
            share_of(batch_size)
    else:
        assert share_of(batch_size) == share


DIES = """
import os, signal, sys
from ddpm_core.__main__ import main
from ddpm_core.scale import run
train = run.train

def dies(*arguments, **options):
    for state in train(*arguments, **options):
        yield state
        if state.iteration == 5 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)

run.train = dies
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [0, 3])  # more than one: on a machine under load a new start can fail, too
def test_a_process_that_dies_ends_the_job_in_words_or_torchrun_starts_it_again(tmp_path, alone, restarts):
    program = tmp_path / "program.py"
    program.write_text(DIES)
    result = torchrun(f"--max-restarts={restarts}", program, "train", "dead.safetensors", *TINY, cwd=tmp_path)
    if restarts:
        assert result.returncode == 0, result.stderr
        assert losses_in(tmp_path / "dead.safetensors") == pytest.approx(losses_in(alone), rel=1e-4)
    else:
        assert result.returncode != 0
        assert losses_in(tmp_path / "dead.safetensors") == pytest.approx(losses_in(alone)[:4], rel=1e-4)
        assert errors(result)
        assert all("another process of this training has ended" in line for line in errors(result))
        assert "Signal 9 (SIGKILL)" in result.stderr  # torchrun's own report names the one that died


@pytest.mark.slow
def test_a_restart_does_not_go_on_with_a_checkpoint_that_was_refused(tmp_path, alone):
    (tmp_path / "old.safetensors").write_bytes(alone.read_bytes())
    result = torchrun("--max-restarts=2", "-m", "ddpm_core", "train", "old.safetensors", *TINY, cwd=tmp_path)
    assert result.returncode != 0
    # At first, and when torchrun has started it again.
    assert sum("old.safetensors exists already" in line for line in errors(result)) >= 2
    assert (tmp_path / "old.safetensors").read_bytes() == alone.read_bytes()


def test_alone_there_is_nothing_to_join_or_to_share(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_ranks(torch.device("cpu")) as device:
        assert (device, rank(), num_ranks()) == (torch.device("cpu"), 0, 1)
    model, rows = torch.nn.Linear(2, 2), torch.ones(3, 2)
    assert share_out(model) is model and gather_rows(rows) is rows and share_of(7) == 7
    [batch] = whole_batches(lambda start: iter([(rows, rows)]), torch.device("cpu"))(0)
    assert all(part is rows for part in batch)


@pytest.mark.parametrize(
    "error, told",
    [
        (CheckpointError("gloo/digits.safetensors is damaged"), CheckpointError),
        (RuntimeError("shapes do not fit"), RuntimeError),
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"), RankLost),
    ],
)
def test_only_a_connection_that_is_gone_is_taken_for_a_lost_process(monkeypatch, error, told):
    for name in ("WORLD_SIZE", *SET_BY_TORCHRUN):
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: None)
    store = torch.distributed.HashStore()
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda *_, **__: iter([(store, 0, 2)]))
    with pytest.raises(told) as caught, join_ranks(torch.device("cpu")):
        raise error
    assert type(caught.value) is told


@pytest.mark.device
def test_the_backend_of_the_device_shares_out_and_gathers(device, tmp_path, monkeypatch):
    backend = "nccl" if device.type == "cuda" else "gloo"  # NCCL works with one process, too
    dist.init_process_group(backend, init_method=(tmp_path / "store").as_uri(), rank=0, world_size=1)
    try:
        alone = UNet(1, (8, 8)).to(device)
        torch.nn.init.normal_(alone.head[-1].weight, std=0.1)  # untrained it is 0
        model = copy.deepcopy(alone)
        with monkeypatch.context() as patched:
            patched.setattr(ranks, "num_ranks", lambda: 2)  # one process alone would not be wrapped
            shared = share_out(model)
        x_t, t = torch.randn(4, 1, 8, 8, device=device), torch.arange(4, device=device)
        for network in (alone, shared):
            network(x_t, t).square().mean().backward()
        for expected, found in zip(alone.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-6)
        assert torch.equal(torch.cat(ranks._from_all_ranks(t)), t)
    finally:
        dist.destroy_process_group()


def test_processes_that_torchrun_did_not_start_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with (
        pytest.raises(ValueError, match=r"LOCAL_RANK.* is not set: start them with torchrun"),
        join_ranks(torch.device("cpu")),
    ):
        pass


def test_more_processes_than_devices_are_refused_in_each_of_them(monkeypatch):
    for name in ("WORLD_SIZE", *SET_BY_TORCHRUN):
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused = pytest.raises(ValueError, match="more processes than devices: say --nproc-per-node 1, or fewer")
    with refused, join_ranks(torch.device("cuda")):
        pass
