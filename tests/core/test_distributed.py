"""Gathers and means over ranks give what one process gives that holds all rows."""

import pytest
import torch
from torch import Tensor, nn

from tests.support.ranks import on_ranks
from zoo.core.distributed import (
    gather_objects,
    gather_rows,
    gather_rows_with_grad,
    mean_over_ranks,
    rank,
    sum_over_ranks,
    sum_over_ranks_with_grad,
    world_size,
)

# Rows per rank: unequal, none at all on one rank.
COUNTS = {1: [(5,)], 2: [(3, 5), (0, 4)], 3: [(2, 0, 4), (1, 3, 2)]}
DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.uint8]


def all_rows(n: int) -> Tensor:
    return torch.arange(float(n * 6)).view(n, 3, 2)


def own(rows: Tensor, counts: tuple[int, ...]) -> Tensor:
    start = sum(counts[: rank()])
    return rows[start : start + counts[rank()]]


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 2)


def after_ddp(model: nn.Module) -> dict[str, Tensor]:
    """Gradients as DDP leaves them: averaged over ranks."""
    return {name: sum_over_ranks(p.grad) / world_size() for name, p in model.named_parameters()}


def global_loss(features: Tensor) -> Tensor:
    """A loss over pairs, as contrastive ones are: every row meets every other."""
    return (features @ features.T).exp().sum().log() + features.std()


def exercise(counts: tuple[int, ...]) -> dict:
    rows = all_rows(sum(counts))
    found = {"rank": rank(), "world": world_size(), "objects": gather_objects({"rank": rank(), "ids": ["a"] * rank()})}

    local = own(rows, counts).requires_grad_()
    gathered = gather_rows(local)
    found["rows"], found["rows need gradient"] = gathered, gathered.requires_grad
    for dtype in DTYPES:
        found[f"rows {dtype}"] = gather_rows(own(rows, counts).to(dtype))
        found[f"sum {dtype}"] = sum_over_ranks(torch.tensor([rank(), 1]).to(dtype))
    images = own(rows, counts)[..., None].repeat(1, 1, 1, 4)
    found["rows channels last"] = gather_rows(images.contiguous(memory_format=torch.channels_last))
    found["rows transposed"] = gather_rows(own(rows, counts).transpose(1, 2))

    model = network()
    loss = global_loss(model(gather_rows_with_grad(own(rows, counts)).flatten(1) / 100))
    loss.backward()
    found["loss of gathered inputs"] = loss.detach()
    model = network()
    features = gather_rows_with_grad(model(own(rows, counts).flatten(1) / 100))
    found["gathered features"] = features.detach()
    loss = global_loss(features)
    loss.backward()
    found["loss of gathered features"], found["gradients of gathered features"] = loss.detach(), after_ddp(model)

    x = own(rows, counts).clone().requires_grad_()
    gather_rows_with_grad(x).sum().backward()  # an expanded gradient
    found["gradient of sum"] = x.grad

    model = network()
    chosen = own(rows, counts).flatten(1)[:, 0] > 4
    numerator = model(own(rows, counts).flatten(1)).square().sum(1)[chosen].sum()
    mean = mean_over_ranks(numerator, chosen.sum())
    mean.backward()
    found["mean"], found["gradients of mean"] = mean.detach(), after_ddp(model)
    found["mean of classes"] = mean_over_ranks(torch.tensor([6.0, 0.0, 1.0]), torch.tensor([rank() == 0, False, True]))
    found["mean of nothing"] = mean_over_ranks((model.weight * 0).sum(), torch.tensor(0)).detach()
    half = mean_over_ranks(torch.tensor(2.0, dtype=torch.bfloat16), torch.tensor(301))
    found["mean dtype"], found["mean in half"] = str(half.dtype), half.float()

    model = network()
    total = sum_over_ranks_with_grad(model(own(rows, counts).flatten(1) / 100).sum(0))
    found["total"] = total.detach()
    total.square().sum().backward()
    found["gradients of total"] = after_ddp(model)
    x = torch.tensor([1.0 + rank()])
    found["sum"] = sum_over_ranks(x)
    found["argument after sum"] = x
    return found


CASES = [(world, counts) for world, several in COUNTS.items() for counts in several]


@pytest.fixture(scope="module", params=CASES, ids=str)
def ranks(request):
    world, counts = request.param
    return counts, on_ranks(world, exercise, counts) if world > 1 else [exercise(counts)]


def model_gradients(function) -> dict[str, Tensor]:
    model = network()
    function(model).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)


def test_ranks_and_their_number_are_known(ranks):
    counts, found = ranks
    assert [one["rank"] for one in found] == list(range(len(counts)))
    assert {one["world"] for one in found} == {len(counts)}


def test_rows_are_gathered_in_rank_order_whatever_their_number(ranks):
    counts, found = ranks
    rows = all_rows(sum(counts))
    for one in found:
        assert torch.equal(one["rows"], rows)
        assert not one["rows need gradient"]
        assert torch.equal(one["rows channels last"], rows[..., None].repeat(1, 1, 1, 4))
        assert torch.equal(one["rows transposed"], rows.transpose(1, 2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_gathered_as_it_is(ranks, dtype):
    counts, found = ranks
    for one in found:
        assert one[f"rows {dtype}"].dtype == dtype
        assert torch.equal(one[f"rows {dtype}"], all_rows(sum(counts)).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_count_booleans_and_keep_other_dtypes(ranks, dtype):
    counts, found = ranks
    world = len(counts)
    first = max(world - 1, 0) if dtype == torch.bool else sum(range(world))
    for one in found:
        assert one[f"sum {dtype}"].dtype == (torch.int64 if dtype == torch.bool else dtype)
        assert one[f"sum {dtype}"].tolist() == [first, world]


def test_sums_leave_their_argument_alone(ranks):
    counts, found = ranks
    for number, one in enumerate(found):
        assert one["sum"].item() == sum(range(1, len(counts) + 1))
        assert one["argument after sum"].item() == 1 + number


def test_objects_are_gathered_in_rank_order(ranks):
    counts, found = ranks
    for one in found:
        assert one["objects"] == [{"rank": number, "ids": ["a"] * number} for number in range(len(counts))]


def test_a_loss_over_all_gathered_rows_has_one_processs_value_and_gradients(ranks):
    counts, found = ranks
    rows = all_rows(sum(counts)).flatten(1) / 100
    model = network()
    loss = global_loss(model(rows)).detach()
    for one in found:
        torch.testing.assert_close(one["gathered features"], model(rows).detach())
        torch.testing.assert_close(one["loss of gathered features"], loss)
        torch.testing.assert_close(one["loss of gathered inputs"], loss)
        assert_close(one["gradients of gathered features"], model_gradients(lambda m: global_loss(m(rows))))


def test_each_row_gets_the_gradients_of_all_ranks_uses(ranks):
    counts, found = ranks
    for n, one in zip(counts, found, strict=True):
        assert torch.equal(one["gradient of sum"], torch.full((n, 3, 2), float(len(counts))))


def test_a_mean_over_unequal_counts_has_one_processs_value_and_gradients(ranks):
    counts, found = ranks
    rows = all_rows(sum(counts)).flatten(1)
    chosen = rows[:, 0] > 4

    def mean(model):
        return model(rows).square().sum(1)[chosen].mean()

    for one in found:
        torch.testing.assert_close(one["mean"], mean(network()).detach())
        assert_close(one["gradients of mean"], model_gradients(mean))


def test_a_mean_per_class_divides_by_each_classs_count_and_gives_0_where_there_is_none(ranks):
    counts, found = ranks
    world = len(counts)
    for one in found:
        torch.testing.assert_close(one["mean of classes"], torch.tensor([6.0 * world, 0.0, 1.0]))
        assert one["mean of nothing"].item() == 0


def test_means_keep_the_numerators_dtype_and_count_exactly(ranks):
    # bfloat16 cannot tell 301 from 302: a count must not be cast to it before it is summed.
    _, found = ranks
    for one in found:
        assert one["mean dtype"] == "torch.bfloat16"
        assert one["mean in half"].item() == pytest.approx(2 / 301, rel=2**-8)


def test_a_function_of_the_global_sum_has_one_processs_value_and_gradients(ranks):
    counts, found = ranks
    rows = all_rows(sum(counts)).flatten(1) / 100
    for one in found:
        torch.testing.assert_close(one["total"], network()(rows).sum(0).detach())
        assert_close(one["gradients of total"], model_gradients(lambda m: m(rows).sum(0).square().sum()))


def test_one_process_needs_no_group_and_keeps_the_graph():
    x = torch.ones(3, 2, requires_grad=True)
    assert gather_rows_with_grad(x) is x
    assert sum_over_ranks_with_grad(x) is x
    assert not gather_rows(x).requires_grad
    assert gather_objects("a") == ["a"]
