"""State on two ranks that see different rows: equal on both, and to one process that sees the rows in rank order."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from zoo.state import ClassQueue, LabelMemory

STEPS, C, K, N, D = 5, 3, 4, 10, 2
ROWS = (3, 5)  # per step on rank 0 and rank 1
GLOBAL = sum(ROWS)


def rows_of_step(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    features = torch.randn(GLOBAL, D, generator=generator)
    labels = torch.randint(-1, C, (GLOBAL,), generator=generator)
    index = torch.randint(0, N, (GLOBAL,), generator=generator)  # repeats within and across ranks
    return features, labels, index


def trained(rows: slice) -> dict[str, torch.Tensor]:
    queue, memory = ClassQueue(C, K, D), LabelMemory(N, D)
    for step in range(STEPS):
        features, labels, index = (x[rows] for x in rows_of_step(step))
        if step == 3 and rows.start:
            features, labels, index = features[:0], labels[:0], index[:0]  # one rank has nothing to give
        queue.push(features, labels)
        memory.update(index, features, momentum=0.5)
    return {**queue.state_dict(), **memory.state_dict()}


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    own = slice(0, ROWS[0]) if rank == 0 else slice(ROWS[0], GLOBAL)
    torch.save(trained(own), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_hold_the_state_of_one_process_fed_in_rank_order(tmp_path):
    mp.spawn(run_rank, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))

    queue, memory = ClassQueue(C, K, D), LabelMemory(N, D)
    for step in range(STEPS):
        features, labels, index = (x[: ROWS[0]] if step == 3 else x for x in rows_of_step(step))
        queue.push(features, labels)
        memory.update(index, features, momentum=0.5)
    for name, expected in {**queue.state_dict(), **memory.state_dict()}.items():
        assert torch.equal(first[name], second[name]), name
        assert torch.equal(first[name], expected), name
