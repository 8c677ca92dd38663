import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.nets.convolution import Convolution, Upsample, convolve

CASES = [  # length, kernel, padding, stride
    (8, 5, 2, 1),
    (8, 3, 1, 2),
    (7, 3, 1, 2),
    (6, 1, 0, 1),
    (5, 2, 1, 1),
    (9, 5, 2, 2),
]

FAST_CASES = [(8, 5, 2, 1), (9, 5, 2, 1), (3, 5, 4, 1), (5, 5, 0, 1), (8, 3, 1, 1), (7, 4, 2, 1)]
FORMS_AND_CASES = [
    *(("matmul", *case) for case in CASES),
    *(("native", *case) for case in CASES),
    *(("fast", *case) for case in FAST_CASES),
]


def random_case(length, kernel, channels_in=3, channels_out=4):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(length, channels_in)).astype(np.float32)
    return x, rng.normal(size=(kernel, channels_in, channels_out)).astype(np.float32)


def direct_sum(x, weight, padding, stride):
    """The definition, term by term."""
    kernel, _, channels_out = weight.shape
    steps = (len(x) + 2 * padding - kernel) // stride + 1
    y = np.zeros((steps, channels_out))
    for i in range(steps):
        for k in range(kernel):
            row = i * stride + k - padding
            if 0 <= row < len(x):
                y[i] += x[row].astype(float) @ weight[k].astype(float)
    return y


@pytest.mark.parametrize(("form", "length", "kernel", "padding", "stride"), FORMS_AND_CASES)
def test_every_form_equals_the_direct_sum(form, length, kernel, padding, stride):
    x, weight = random_case(length, kernel)
    y = convolve(jnp.asarray(x), jnp.asarray(weight), padding=padding, stride=stride, form=form)
    np.testing.assert_allclose(y, direct_sum(x, weight, padding, stride), atol=1e-5)


@pytest.mark.parametrize(("form", "length", "kernel", "padding", "stride"), FORMS_AND_CASES)
def test_gradients_of_every_form_are_the_sums_transpose(form, length, kernel, padding, stride):
    """The convolution is linear in each argument, so the gradient of <y, c> is c pulled back by that map,
    which unit inputs read off the direct sum."""
    x, weight = random_case(length, kernel, 2, 2)
    cotangent = np.random.default_rng(1).normal(size=direct_sum(x, weight, padding, stride).shape)
    cotangent = cotangent.astype(np.float32)

    def weighted(x, weight):
        return jnp.sum(convolve(x, weight, padding=padding, stride=stride, form=form) * cotangent)

    x_gradient, weight_gradient = jax.grad(weighted, (0, 1))(jnp.asarray(x), jnp.asarray(weight))
    for index in np.ndindex(x.shape):
        unit = np.zeros_like(x)
        unit[index] = 1
        expected = np.sum(direct_sum(unit, weight, padding, stride) * cotangent)
        np.testing.assert_allclose(x_gradient[index], expected, atol=1e-5)
    for index in np.ndindex(weight.shape):
        unit = np.zeros_like(weight)
        unit[index] = 1
        expected = np.sum(direct_sum(x, unit, padding, stride) * cotangent)
        np.testing.assert_allclose(weight_gradient[index], expected, atol=1e-5)


def test_a_batch_is_one_matmul():
    """Under `vmap` the batch joins the rows: no batched matmul, which a CPU runs one small one at a time."""
    x, weight = jnp.ones((6, 8, 3)), jnp.ones((5, 3, 4))

    def total(weight, x):
        return jnp.sum(jax.vmap(lambda x: convolve(x, weight, padding=2, form="matmul"))(x) ** 2)

    products = [
        e
        for e in jax.make_jaxpr(jax.grad(total, (0, 1)))(weight, x).eqns
        if e.primitive.name == "dot_general"
    ]
    assert len(products) == 3  # forward, to the input, to the weight
    assert all(product.params["dimension_numbers"][1] == ((), ()) for product in products)


def test_the_fast_form_loses_hardly_a_digit():
    """At the sizes of the U-Net, against the sum in double precision; the matmul form errs by half as much."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 128)).astype(np.float32)
    weight = (rng.uniform(-1, 1, (5, 128, 128)) / np.sqrt(640)).astype(np.float32)
    exact = direct_sum(x, weight, 2, 1)
    fast = convolve(jnp.asarray(x), jnp.asarray(weight), padding=2, form="fast")
    assert np.abs(fast - exact).max() < 2e-5 * exact.std()


def test_the_fast_form_is_one_matmul_a_point_and_three_in_its_gradient():
    """No point's matmul is split by the batch, and none is done for each example by itself."""
    x, weight = jnp.ones((6, 8, 3)), jnp.ones((5, 3, 4))

    def total(weight, x):
        return jnp.sum(jax.vmap(lambda x: convolve(x, weight, padding=2, form="fast"))(x) ** 2)

    products = [
        e
        for e in jax.make_jaxpr(jax.grad(total, (0, 1)))(weight, x).eqns
        if e.primitive.name == "dot_general" and e.params["dimension_numbers"][1] != ((), ())
    ]
    assert len(products) == 3
    assert all(len(product.params["dimension_numbers"][1][0]) == 1 for product in products)


@pytest.mark.parametrize("taps", [2, 6])
def test_the_fast_form_refuses_other_kernels(taps):
    with pytest.raises(ValueError, match=f"3 to 5 taps, got {taps}"):
        convolve(jnp.ones((8, 2)), jnp.ones((taps, 2, 2)), form="fast")


def test_the_fast_form_refuses_a_stride():
    with pytest.raises(ValueError, match="stride 1, got 2"):
        convolve(jnp.ones((8, 2)), jnp.ones((5, 2, 2)), stride=2, form="fast")


def test_the_default_form_follows_the_backend(monkeypatch):
    x, weight = jnp.ones((8, 2)), jnp.ones((3, 2, 2))

    def primitives(backend):
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        jaxpr = jax.make_jaxpr(lambda x, weight: convolve(x, weight, padding=1))(x, weight)
        return {e.primitive.name for e in jaxpr.eqns}

    assert "conv_general_dilated" not in primitives("cpu")
    assert "conv_general_dilated" in primitives("gpu")


def test_initial_values_fill_pytorchs_range():
    layer = Convolution(10, 20, 5, key=jax.random.key(0))
    bound = 1 / np.sqrt(50)
    assert 0.95 * bound < jnp.abs(layer.weight).max() <= bound
    assert jnp.abs(layer.bias).max() <= bound
    assert abs(float(layer.weight.std()) - bound / np.sqrt(3)) < 0.05 * bound


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="odd"):
        Convolution(2, 2, 4, key=jax.random.key(0))


@pytest.mark.parametrize("form", ["matmul", "native"])
def test_upsample_is_the_transposed_convolution(form):
    """Against the definition: each input adds its kernel of 4 at stride 2; one step a side is cropped."""
    channels, length = 3, 5
    layer = Upsample(channels, form, key=jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(length, channels)).astype(np.float32)
    # weight[j, :, s]: what input i - 1 + j sends to output 2 i - 1 + s, at kernel position 2 - 2 j + s.
    taps = np.zeros((4, channels, channels))
    for j in range(2):
        for s in range(2):
            taps[2 - 2 * j + s] = np.asarray(layer.weight).reshape(2, channels, 2, channels)[j, :, s]
    expected = np.zeros((2 * length + 2, channels))
    for i in range(length):
        for k in range(4):
            expected[2 * i + k] += x[i] @ taps[k]
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected[1:-1] + np.asarray(layer.bias), atol=1e-5)
