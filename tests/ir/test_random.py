"""Random ops: the published test vectors of the generator, the layout of counters, distributions, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphnn.errors import DTypeError, NumericsError
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.ops import philox, random
from graphnn.ir.ops.inputs import constant, placeholder
from graphnn.ir.types import f32, f64, i32, i64

# Random123's kat_vectors, the lines "philox4x32 10": counter, key, result.
PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]
SEED, STEP = np.array(7, np.int64), np.array(11, np.int64)


@pytest.mark.parametrize(("counter", "key", "expected"), PUBLISHED)
def test_published_vectors(counter, key, expected):
    assert tuple(int(w) for w in philox.philox4x32(counter, key)) == expected
    arrays = tuple(np.full(3, word) for word in counter)
    np.testing.assert_array_equal(np.stack(philox.philox4x32(arrays, key), -1), [expected] * 3)


def test_bits_are_the_words_of_the_documented_counter():
    bits = random.RandomBits((3, 3), 5).numpy(np.array(-2, np.int64), np.array(2**33 + 4, np.int64)).ravel().view(np.uint32)
    a, b, _, _ = philox.philox4x32((5, 0, 0, philox.FOLD), (0xFFFFFFFE, 0xFFFFFFFF))
    for i in range(9):
        assert bits[i] == philox.philox4x32((i // 4, 0, 4, 2), (int(a), int(b)))[i % 4]


def test_the_same_bits_make_every_kind():
    bits = random.RandomBits((20,), 5).numpy(SEED, STEP).view(np.uint32).astype(np.uint64)
    np.testing.assert_array_equal(random.RandomUniform((20,), 5, f32).numpy(SEED, STEP), (bits >> 8) / 2.0**24)
    np.testing.assert_array_equal(random.RandomBernoulli((20,), 5, 0.25).numpy(SEED, STEP), bits < 2**30)
    wide = bits[0::2] | (bits[1::2] << np.uint64(32))
    np.testing.assert_array_equal(random.RandomUniform((10,), 5, f64).numpy(SEED, STEP), (wide >> np.uint64(11)) / 2.0**53)
    expected = [-3 + (int(w) * 1000 >> 64) for w in wide]
    np.testing.assert_array_equal(random.RandomIntegers((10,), 5, -3, 997, i32).numpy(SEED, STEP), expected)
    expected = [(int(w) * 2**32 >> 64) for w in wide]
    np.testing.assert_array_equal(random.RandomIntegers((10,), 5, 0, 2**32, i64).numpy(SEED, STEP), expected)


def test_a_prefix_of_a_longer_draw_is_the_same():
    for make in (lambda n: random.RandomNormal((n,), 1, f32), lambda n: random.RandomNormal((n,), 1, f64),
                 lambda n: random.RandomUniform((n,), 1, f64), lambda n: random.RandomIntegers((n,), 1, 0, 9, i64)):
        np.testing.assert_array_equal(make(7).numpy(SEED, STEP), make(50).numpy(SEED, STEP)[:7])


def test_seed_step_and_stream_each_change_everything():
    draws = [random.RandomBits((64,), stream).numpy(np.array(seed), np.array(step))
             for seed in (0, 1, 2**32) for step in (0, 1, 2**32) for stream in (0, 1, 2**32)]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert (a != b).mean() > 0.9


@pytest.mark.parametrize("dtype", [f32, f64])
def test_distributions(dtype):
    n = 200_000
    u = random.RandomUniform((n,), 2, dtype).numpy(SEED, STEP)
    assert u.dtype == dtype.numpy
    assert 0 <= u.min() < u.max() < 1
    np.testing.assert_allclose([u.mean(), u.var()], [1 / 2, 1 / 12], atol=0.003)
    z = random.RandomNormal((n,), 2, dtype).numpy(SEED, STEP).astype(np.float64)
    moments = [(z**k).mean() for k in range(1, 5)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.04)
    for t in (-2, -1, 0.5):
        assert abs((z < t).mean() - 0.5 * (1 + math.erf(t / math.sqrt(2)))) < 0.004
    assert abs((z[0::2] * z[1::2]).mean()) < 0.01                           # the two of a pair are independent
    assert abs((z[0::2]**2 * z[1::2]**2).mean() - 1) < 0.05


def test_cos_and_sin_of_turns():
    u = np.concatenate([np.arange(0, 1, 1 / 512), np.array([2.0**-24, 0.25 + 2.0**-50, 0.5 - 2.0**-24, 1 - 2.0**-53])])
    cos, sin = random.cos_sin_turns(u)
    np.testing.assert_allclose(cos, np.cos(2 * np.pi * u), atol=1e-15)
    np.testing.assert_allclose(sin, np.sin(2 * np.pi * u), atol=1e-15)
    assert cos[np.argmax(u == 0.25)] == 0
    np.testing.assert_allclose(cos[-3], -2 * np.pi * 2.0**-50, rtol=1e-14)  # exact near a zero
    np.testing.assert_allclose(cos**2 + sin**2, 1, rtol=1e-15)


def test_bernoulli_and_integers():
    n = 100_000
    for p in (0.0, 0.1, 1.0):
        assert abs(random.RandomBernoulli((n,), 3, p).numpy(SEED, STEP).mean() - p) < 0.004
    drawn = random.RandomIntegers((n,), 3, -2, 5, i64).numpy(SEED, STEP)
    counts = np.bincount(drawn + 2, minlength=7)
    assert len(counts) == 7
    assert np.abs(counts / n - 1 / 7).max() < 0.006


def test_functions_make_symbolic_draws():
    seed, step, x = placeholder("seed", "i64[]"), placeholder("step", "i64[]"), placeholder("x", "f32[N,3]")
    drawn = [random.random_normal(seed, step, x.shape, stream=1),
             random.random_integers(seed, step, ("N",), 0, x.shape[0], stream=2),
             random.random_bits(seed, step, (), stream=3), random.random_bernoulli(seed, step, x.shape, 0.5, stream=4),
             random.random_uniform(seed, step, (2,), stream=5, dtype="f64")]
    assert [str(v.type) for v in drawn] == ["f32[N,3]", "i64[N]", "i32[]", "bool[N,3]", "f64[2]"]
    out = interpret(Graph.of("g", [seed, step, x], drawn), [SEED, STEP, np.zeros((4, 3), np.float32)]).outputs
    assert [o.shape for o in out] == [(4, 3), (4,), (), (4, 3), (2,)]
    assert out[1].max() < 4
    assert drawn[0].node.op.grad(drawn[0].node, drawn[0]) == (None, None)


def test_fold_seed_is_unlike_its_parts():
    folded = {int(random.FoldSeed().numpy(np.array(s), np.array(d))) for s in range(30) for d in range(30)}
    assert len(folded) == 900


def test_errors_say_what_is_wrong():
    seed, step = constant(0, "i64"), constant(0, "i64")
    with pytest.raises(DTypeError, match=r"seed and step as i64\[\], not i32\[\]"):
        random.random_bits(constant(0, "i32"), step, (3,), stream=0)
    with pytest.raises(NumericsError, match=r"p is 1\.5"):
        random.random_bernoulli(seed, step, (3,), 1.5, stream=0)
    with pytest.raises(NumericsError, match="p is nan"):
        random.random_bernoulli(seed, step, (3,), math.nan, stream=0)
    with pytest.raises(NumericsError, match=r"cannot draw i64 from \[3, 3\)"):
        random.random_integers(seed, step, (3,), 3, 3, stream=0)
    with pytest.raises(NumericsError, match="cannot draw i32"):
        random.random_integers(seed, step, (3,), 0, 2**32, stream=0, dtype="i32")
    with pytest.raises(DTypeError, match="use random_integers"):
        random.random_uniform(seed, step, (3,), stream=0, dtype="i32")
    with pytest.raises(NumericsError, match="stream id"):
        random.random_bits(seed, step, (3,), stream=-1)
