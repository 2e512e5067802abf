import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Independent, Normal

from zoo.state import GaussianMixture

shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(1, 7))


def random_mixture(c: int, k: int, d: int, generator: torch.Generator, offset: float = 0.0) -> GaussianMixture:
    mixture = GaussianMixture(c, k, d)
    mixture.means.copy_(torch.randn(c, k, d, generator=generator) + offset)
    mixture.variances.copy_(0.1 + torch.rand(c, k, d, generator=generator))
    mixture.priors.copy_(torch.rand(c, k, generator=generator).add(0.1))
    mixture.priors.div_(mixture.priors.sum(-1, keepdim=True))
    return mixture


def reference(mixture: GaussianMixture, x: Tensor) -> Tensor:
    """[N, C, K] by torch.distributions in float64."""
    normal = Normal(mixture.means.double(), mixture.variances.double().sqrt())
    return Independent(normal, 1).log_prob(x.double()[:, None, None])


@given(shapes, st.integers(0, 1000), st.sampled_from([0.0, 300.0]))
@settings(max_examples=40, deadline=None)
def test_log_density_equals_torch_distributions_also_far_from_the_origin(shape, seed, offset):
    c, k, d, n = shape
    generator = torch.Generator().manual_seed(seed)
    mixture = random_mixture(c, k, d, generator, offset)
    x = 2 * torch.randn(n, d, generator=generator) + offset
    expected = reference(mixture, x)
    log_density = mixture.log_density(x)
    assert log_density.shape == (n, c, k)
    assert torch.allclose(log_density.double(), expected, rtol=2e-5, atol=1e-3)

    joint = expected + mixture.priors.double().log()
    assert torch.allclose(mixture.class_log_likelihood(x).double(), joint.logsumexp(-1), rtol=2e-5, atol=1e-3)
    assert torch.allclose(mixture.responsibilities(x).double(), joint.softmax(-1), atol=2e-3)


@given(shapes, st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_own_points_of_each_class_give_the_diagonal_of_all_points(shape, seed):
    c, k, d, n = shape
    generator = torch.Generator().manual_seed(seed)
    mixture = random_mixture(c, k, d, generator)
    own = torch.randn(c, n, d, generator=generator)
    everyone = own.flatten(0, 1)
    for method in (mixture.log_density, mixture.responsibilities, mixture.class_log_likelihood):
        crossed = method(everyone).unflatten(0, (c, n))
        diagonal = torch.stack([crossed[i, :, i] for i in range(c)])
        assert torch.allclose(method(own), diagonal, atol=1e-4)


@given(shapes, st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_permuting_classes_permutes_densities(shape, seed):
    c, k, d, n = shape
    generator = torch.Generator().manual_seed(seed)
    mixture, permuted = random_mixture(c, k, d, generator), GaussianMixture(c, k, d)
    order = torch.randperm(c, generator=generator)
    permuted.load_state_dict({name: buffer[order] for name, buffer in mixture.state_dict().items()})
    x = torch.randn(n, d, generator=generator)
    assert torch.allclose(permuted.log_density(x), mixture.log_density(x)[:, order], atol=1e-5)
    assert torch.allclose(permuted.class_log_likelihood(x), mixture.class_log_likelihood(x)[:, order], atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 1e4, 1e6])
@pytest.mark.parametrize("variance", [1e-6, 1.0, 1e6])
def test_extreme_values_stay_finite_and_responsibilities_sum_to_one(scale, variance):
    generator = torch.Generator().manual_seed(0)
    mixture = random_mixture(3, 4, 256, generator)
    mixture.means.mul_(scale)
    mixture.variances.fill_(variance)
    mixture.priors.copy_(torch.tensor([0.0, 1e-30, 0.5, 0.5]))  # one component off, one nearly
    x = torch.cat([mixture.means.flatten(0, 1), scale * torch.randn(5, 256, generator=generator)])
    responsibilities = mixture.responsibilities(x)
    assert mixture.log_density(x).isfinite().all()
    assert mixture.class_log_likelihood(x).isfinite().all()
    assert torch.allclose(responsibilities.sum(-1), torch.ones(len(x), 3), atol=1e-5)
    assert not responsibilities[..., 0].any()


def test_density_is_at_its_peak_on_the_mean():
    mixture = random_mixture(2, 3, 64, torch.Generator().manual_seed(0), offset=5.0)
    at_means = mixture.log_density(mixture.means.flatten(0, 1)).flatten(1).diagonal()
    peak = reference(mixture, mixture.means.flatten(0, 1)).flatten(1).diagonal()
    assert torch.allclose(at_means.double(), peak, atol=1e-3)


def test_rounding_lifts_no_density_above_its_peak():
    mixture = random_mixture(2, 8, 64, torch.Generator().manual_seed(0))
    mixture.means.mul_(1000)
    at_means = mixture.log_density(mixture.means.flatten(0, 1)).flatten(1).diagonal()
    peak = reference(mixture, mixture.means.flatten(0, 1)).flatten(1).diagonal()
    assert (at_means <= peak + 1e-3).all()


def test_gradient_reaches_the_points_and_not_the_mixture():
    mixture = random_mixture(2, 3, 4, torch.Generator().manual_seed(0))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    mixture.class_log_likelihood(x).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0
    assert not any(buffer.requires_grad for buffer in mixture.buffers())


def test_autocast_does_not_coarsen_densities():
    mixture = random_mixture(2, 3, 16, torch.Generator().manual_seed(0))
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    plain = mixture.class_log_likelihood(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = mixture.class_log_likelihood(x)
    assert torch.equal(under_autocast, plain)


def test_state_is_saved():
    mixture, resumed = random_mixture(2, 3, 4, torch.Generator().manual_seed(0)), GaussianMixture(2, 3, 4)
    resumed.load_state_dict(mixture.state_dict())
    assert set(mixture.state_dict()) == {"means", "variances", "priors"}
    for name, buffer in mixture.state_dict().items():
        assert torch.equal(buffer, resumed.state_dict()[name]), name
