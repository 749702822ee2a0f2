"""What the formulas of `vector_math` need to know of float32 and float64: layout, ranges and coefficients."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn.runtime.intrinsics import F32
from graphnn.runtime.llvm_numbers import Number


@dataclass(frozen=True)
class Format:
    """What the formulas need to know of float32 or float64."""

    mantissa: int  # bits behind the point
    bias: int  # of the exponent
    sqrt_half: int  # the bits of sqrt(1/2)
    tiny: float  # the smallest normal number
    exp_range: tuple[float, float]  # below it exp is 0, above it infinite
    expm1_low: float  # below it expm1 is -1
    tanh_one: float  # from here on tanh is 1
    erf_one: float  # from here on erf is 1
    ln2: tuple[float, float]  # upper bits, whose product with any exponent is exact, and the rest; both below the truth
    exp: tuple[float, ...]  # (exp(r) - 1 - r) / r**2 for |r| <= log(2) / 2
    log: tuple[float, ...]  # see `_log_core`
    erf_small: tuple[float, ...]  # erf(a) / a - 1 in a**2 for a < 1
    erf_large: tuple[float, ...]  # log(1 - erf(a)) for .95 < a < erf_one
    sin: tuple[float, ...]  # (sin(r) / r - 1) / r**2 in r**2 for |r| < pi / 4
    cos: tuple[float, ...]  # (cos(r) - 1 + r**2 / 2) / r**4 in r**2 for |r| < pi / 4

    @property
    def one(self) -> int:
        """The bits of 1.0."""
        return self.bias << self.mantissa

    @property
    def shifter(self) -> float:
        """Adding it rounds a small float to an integer, which then stands in the lowest bits."""
        return 1.5 * 2.0**self.mantissa


SINGLE = Format(
    mantissa=23, bias=127, sqrt_half=0x3F3504F3, tiny=2.0**-126, exp_range=(-104.0, 89.0), expm1_low=-18.0, tanh_one=10.0,
    erf_one=4.0, ln2=(45426 / 65536, 1.428606820309417e-06),
    exp=(0.49999994, 0.166665152, 0.0416680835, 0.00836934894, 0.00138403813),
    log=(0.333333135, -0.250002027, 0.200022519, -0.166575208, 0.142074317, -0.125786662, 0.121517688, -0.107474297,
         0.0502311476),
    erf_small=(0.128379166, -0.37612626, 0.112835787, -0.0268533472, 0.0051871622, -0.00079978531, 7.80690534e-05),
    erf_large=(-0.000166459824, -1.12779725, -0.636976004, -0.104113765, 0.0223152284, -0.00306547713, 0.000198215406),
    sin=(-0.166666672, 0.00833335519, -0.000198426191, 2.7276642e-06),
    cos=(0.0416665711, -0.001388459, 2.41942798e-05),
)  # fmt: skip
DOUBLE = Format(
    mantissa=52, bias=1023, sqrt_half=0x3FE6A09E667F3BCD, tiny=2.0**-1022, exp_range=(-746.0, 710.0), expm1_low=-38.0,
    tanh_one=20.0, erf_one=6.0, ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
    exp=(0.50000000000000111, 0.16666666666666138, 0.04166666666652246, 0.0083333333334522225, 0.001388888894768681,
         0.00019841269941753322, 2.4801486936110952e-05, 2.7556960870950418e-06, 2.7633018446029043e-07,
         2.5257899668933812e-08),
    log=(0.66666666666667374, 0.39999999999392927, 0.28571428747686095, 0.22222197985713496, 0.1818359698356791,
         0.15313163732908444, 0.14805310117043965),
    erf_small=(0.12837916709551256, -0.37612638903183343, 0.1128379167093695, -0.026866170641959144,
               0.005223977596735996, -0.00085483254850102967, 0.00012055280497148076, -1.4924465655706956e-05,
               1.6444150828367002e-06, -1.6183993579182922e-07, 1.3616711334878465e-08, -7.6078375055157891e-10),
    erf_large=(-7.966960713231028e-07, -1.1283711130336191, -0.63665759469452554, -0.10266312248311835,
               0.018910000284969607, 0.00052719059714282247, -0.0020442060066943675, 0.00087974966855621265,
               -0.00020768264295504312, 1.7786328388504695e-05, 7.132880459126586e-06, -3.6051950151919271e-06,
               8.7338099694856696e-07, -1.3510314035720448e-07, 1.3573449439049964e-08, -8.1434387999264897e-10,
               2.227210069809012e-11),
    sin=(-0.16666666666666627, 0.0083333333333210791, -0.00019841269828700791, 2.7557313296087602e-06,
         -2.5050694507184544e-08, 1.5893024445722576e-10),
    cos=(0.041666666666666588, -0.0013888888888872056, 2.4801587288144526e-05, -2.755731395413508e-07,
         2.0875667730914564e-09, -1.1356706818865355e-11),
)  # fmt: skip


def format_of(x: Number) -> Format:
    return SINGLE if x.value.type == F32 else DOUBLE


def halves(exponent: Number, form: Format) -> tuple[Number, Number]:
    """Powers of two whose product is 2**n, given n + 2 * bias in the low bits; each exists where 2**n may not."""
    low = exponent >> 1
    return (low << form.mantissa), ((exponent - low) << form.mantissa)


def split(x: Number, form: Format) -> tuple[Number, Number]:
    """The exponent e as a float and the mantissa m of x = 2**e * m with sqrt(1/2) <= m < sqrt(2), for normal x > 0."""
    i = x.bits + (form.one - form.sqrt_half)
    # The biased exponent in the low bits of 2**mantissa is that float plus the exponent: no conversion needed.
    unit = 2.0**form.mantissa
    e = ((i >> form.mantissa) | ((form.bias + form.mantissa) << form.mantissa)).from_bits - (unit + form.bias)
    m = ((i & ((1 << form.mantissa) - 1)) + form.sqrt_half).from_bits
    return e, m
