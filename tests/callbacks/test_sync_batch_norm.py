import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from callbacks.sync_batch_norm import SyncBatchNorm, SynchronisedBatchNorm2d
from tests.helpers.tolerances import assert_close

PROCESSES = 2


def network():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4, eps=1e-3, momentum=0.1),
        nn.ReLU(),
        nn.Conv2d(4, 2, 3, padding=1, bias=False),
        nn.BatchNorm2d(2),
    ]
    return nn.Sequential(*layers)


def batches():
    """Two steps of a global batch of six; its halves differ in mean and spread."""
    images = torch.rand(2, 6, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    images[:, 3:] = 4 * images[:, 3:] - 1
    return images


def run(model, images):
    """Train two steps, then evaluate: outputs, gradients of the second step, statistics."""
    model.train()
    for step in images:
        model.zero_grad()
        output = model(step)
        (output * torch.linspace(0, 1, 7)).square().mean().backward()
    outputs = [output.detach(), model.eval()(images[-1]).detach()]
    gradients = {name: value.grad.clone() for name, value in model.named_parameters()}
    return outputs, gradients, dict(model.named_buffers())


def one_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES
    )
    share = batches().chunk(PROCESSES, dim=1)[rank]
    outputs, gradients, buffers = run(SyncBatchNorm().apply(network()), share)
    for gradient in gradients.values():  # as DistributedDataParallel does
        dist.all_reduce(gradient)
        gradient /= PROCESSES
    torch.save((outputs, gradients, buffers), f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.ddp
def test_two_processes_equal_one_with_the_double_batch(tmp_path):
    torch.multiprocessing.start_processes(  # fork: nothing is imported again
        one_rank, (str(tmp_path),), nprocs=PROCESSES, start_method="fork"
    )
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(PROCESSES)]
    outputs, gradients, buffers = run(network(), batches())
    for number, expected in enumerate(outputs):
        joined = torch.cat([found[number] for found, _, _ in ranks])
        assert_close(joined, expected)
    for _, found_gradients, found_buffers in ranks:
        for name, expected in gradients.items():
            assert_close(found_gradients[name], expected, rtol=1e-4)  # sums in another order
        for name, expected in buffers.items():
            assert_close(found_buffers[name], expected)


def test_names_and_values_survive_apply_and_revert():
    model = network()
    before = copy.deepcopy(model.state_dict())
    plugin = SyncBatchNorm()
    applied = plugin.apply(model)
    assert sum(isinstance(module, SynchronisedBatchNorm2d) for module in applied.modules()) == 2
    assert applied.state_dict().keys() == before.keys()
    reverted = plugin.revert(applied)
    assert [type(module) for module in reverted] == [type(module) for module in network()]
    for name, value in reverted.state_dict().items():
        assert torch.equal(value, before[name])


def test_one_process_is_plain_batch_normalisation():
    images = batches()[0]
    assert torch.equal(SyncBatchNorm().apply(network())(images), network()(images))
