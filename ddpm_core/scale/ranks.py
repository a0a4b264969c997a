"""One training in several processes, on one machine or many: each computes its share of every batch.

torchrun starts the processes ("ranks"). All of them go through the same iterations with the same random numbers; only
the calls of the network are shared out. So the maths of training need not know, and from data in memory its losses are
those of a single process, but for the last digits, in which sums of parts differ from the whole. GPUs have to be of
one kind: another kind makes other numbers of the same seed.
"""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ddpm_core.training import Batches

SET_BY_TORCHRUN = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SECONDS_TO_WAIT = 600  # for another process, before it is taken for dead


class RankLost(RuntimeError):
    """Another process of the same training has ended or does not answer."""


def num_ranks() -> int:
    """How many processes train together; 1 where nobody called join_ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0. Only 0 writes files and speaks."""
    return dist.get_rank() if num_ranks() > 1 else 0


def job_name() -> str:
    """What the processes that one torchrun starts, at first and again, have in common."""
    job = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return job if job != "none" else f"{platform.node()} {os.getppid()}"


def was_restarted() -> bool:
    """Whether a process of this job died, so that torchrun has started all of them again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


@contextmanager
def join_ranks(device: torch.device) -> Iterator[torch.device]:
    """Joins the other processes that torchrun started, and yields this one's device; alone, it does nothing.

    Raises ValueError where there are more processes than devices, or where it was not torchrun that started them, and
    RankLost where another process dies. A GPU that waits for a dead process is ended by torchrun.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield device
        return
    if missing := [name for name in SET_BY_TORCHRUN if name not in os.environ]:
        raise ValueError(
            f"WORLD_SIZE says that there are several processes, but {', '.join(missing)} is not set: start them with "
            "torchrun, or unset WORLD_SIZE"
        )
    if device.type == "cuda":
        if int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
            raise ValueError(
                f"there are more processes than devices: say --nproc-per-node {torch.cuda.device_count()}, or fewer"
            )
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    timeout = timedelta(seconds=SECONDS_TO_WAIT)
    with _lost_ranks_explained():
        store, number, count = next(dist.rendezvous("env://", timeout=timeout))
        # After a restart the store may still hold the addresses of the processes that are gone.
        store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=timeout)
        yield device


@contextmanager
def _lost_ranks_explained() -> Iterator[None]:
    """Turns the errors of a connection that is gone into RankLost; in the end this process leaves the others."""
    try:
        yield
    except RuntimeError as error:
        # The backends raise exceptions of their own or, for a connection that is gone, a plain one that names them.
        is_plain = type(error) is RuntimeError and any(name in str(error).lower() for name in ("gloo", "nccl"))
        if not is_plain and not isinstance(error, dist.DistError):
            raise
        raise RankLost(
            "another process of this training has ended or does not answer, so this one ends too. What is in the "
            "checkpoint is safe: the same command with --resume goes on (torchrun --max-restarts does so itself)"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def share_out(model: nn.Module) -> Callable[..., Tensor]:
    """model(x_t, t, ...) computed by all processes, each on its rows of the batch; model itself where there is one.

    Every process gets the whole answer. Gradients become the same in all of them, those of the whole batch.
    """
    if num_ranks() == 1:
        return model
    # Its broadcast makes all processes start from the weights of rank 0.
    parallel = DistributedDataParallel(model)

    def shared_model(*batch: Tensor) -> Tensor:
        answer = parallel(*(rows.chunk(num_ranks())[rank()] for rows in batch))
        # DistributedDataParallel divides the sum of all gradients by the number of processes, as if each had a loss of
        # its own. Here all have the same one, of the whole batch, and each its own part of the gradient.
        answer.register_hook(lambda gradient: gradient * num_ranks())
        parts = _from_all_ranks(answer.detach())
        parts[rank()] = answer
        return torch.cat(parts)

    return shared_model


def share_of(batch_size: int) -> int:
    """How many pictures of every batch each process reads. Raises ValueError where they cannot be alike."""
    if batch_size % num_ranks():
        raise ValueError(
            f"batch_size must be a multiple of the {num_ranks()} processes that share each batch; got {batch_size}"
        )
    return batch_size // num_ranks()


def whole_batches(shares: Callable[[int], Batches], device: torch.device) -> Callable[[int], Batches]:
    """The batches of all processes on the device, where each reads its own share of every one."""

    def whole(rows: Tensor) -> Tensor:  # from pinned memory a GPU fetches rows while the next ones are read
        return gather_rows((rows.pin_memory() if device.type == "cuda" else rows).to(device, non_blocking=True))

    return lambda start: ((whole(pictures), whole(cond)) for pictures, cond in shares(start))


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether flag is true in any of the processes, the same answer in all of them."""
    return flag if num_ranks() == 1 else bool(gather_rows(torch.tensor([flag], device=device)).any())


def same_everywhere(iteration: int, device: torch.device) -> None:
    """Raises ValueError where the processes have read different checkpoints."""
    iterations = gather_rows(torch.tensor([iteration], device=device)).tolist()
    if len(set(iterations)) > 1:
        raise ValueError(
            f"the processes do not see the same checkpoint (they are at iterations {iterations}): "
            "all machines need one shared folder for it"
        )


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (B / ranks, ...) of all processes, (B, ...), in the order of the ranks."""
    return rows if num_ranks() == 1 else torch.cat(_from_all_ranks(rows))


def _from_all_ranks(rows: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(num_ranks())]
    dist.all_gather(parts, rows.contiguous())
    return parts
