"""Kernels that the runtime's tests run: builders for `Kernel.of("tests.runtime.sample_kernels:name", ...)`."""

# Numba gives the kernels their types.
# pyright: basic, reportCallIssue=false


def add_relu(dtype):
    """z = max(x + y, 0); args x, y, z, n, elements a tile."""
    from graphnn.runtime import intrinsics as k

    pointer, scalar, size = k.POINTER[dtype], k.SCALAR[dtype], k.ITEMSIZE[dtype]

    def kernel(args, tile, scratch):
        first = tile * args[4]
        x, y, z = pointer(args[0] + size * first), pointer(args[1] + size * first), pointer(args[2] + size * first)
        for i in range(k.imin(args[3] - first, args[4])):
            z[i] = k.maximum(x[i] + y[i], scalar(0.0))
            k.independent()
        return 0

    return kernel


def matmul_rows(dtype):
    """c = a @ b, one tile a row of c; args a, b, c, inner size, columns."""
    from graphnn.runtime import intrinsics as k

    pointer, scalar, size = k.POINTER[dtype], k.SCALAR[dtype], k.ITEMSIZE[dtype]

    def kernel(args, tile, scratch):
        inner, columns = args[3], args[4]
        a, c = pointer(args[0] + size * tile * inner), pointer(args[2] + size * tile * columns)
        for j in range(columns):
            c[j] = scalar(0.0)
        for p in range(inner):
            b = pointer(args[1] + size * p * columns)
            for j in range(columns):
                c[j] += a[p] * b[j]
        return 0

    return kernel


def through_scratch(words):
    """Sum of `words` int64 by way of the thread's scratch; args x (words of them for each tile), out."""
    from graphnn.runtime import intrinsics as k

    def kernel(args, tile, scratch):
        x, out, mine = k.slots(args[0] + 8 * words * tile), k.slots(args[1]), k.slots(scratch)
        for i in range(words):
            mine[i] = x[i]
        total = 0
        for i in range(words):
            total += mine[i]
        out[tile] = total
        return 0

    return kernel


def count_visits():
    """out[tile] += step; args out, step."""
    from graphnn.runtime import intrinsics as k

    def kernel(args, tile, scratch):
        out = k.slots(args[0])
        out[tile] += args[1]
        return 0

    return kernel


def append():
    """journal[journal[0]] = value, and the count goes up; args journal, value. One tile."""
    from graphnn.runtime import intrinsics as k

    def kernel(args, tile, scratch):
        journal = k.slots(args[0])
        journal[0] += 1
        journal[journal[0]] = args[1]
        return 0

    return kernel


def fail_where():
    """Code args[1] on tile args[0] when the word at args[2] is args[3]."""
    from graphnn.runtime import intrinsics as k

    def kernel(args, tile, scratch):
        if tile == args[0] and k.slots(args[2])[0] == args[3]:
            return args[1]
        return 0

    return kernel


def busy(turns):
    """Spin for a while; args: none."""
    from graphnn.runtime import intrinsics as k

    def kernel(args, tile, scratch):
        for _ in range(turns):
            k.pause()
        return 0

    return kernel


def constant(value):
    """Returns `value`."""

    def kernel(args, tile, scratch):
        return value

    return kernel


def calls(symbol):
    """Calls a C function that kernels must not call."""
    from numba import types
    from numba.extending import intrinsic

    from graphnn.runtime.intrinsics import VOID, call_llvm

    @intrinsic
    def call(context):
        def emit(context, builder, signature, values):
            call_llvm(builder, symbol, VOID, [])
            return context.get_dummy_value()

        return types.void(), emit

    def kernel(args, tile, scratch):
        call()
        return 0

    return kernel


def clears_memory():
    """Zeroes args[1] bytes at args[0] and copies them to args[2]: LLVM calls memset and memcpy."""
    from graphnn.runtime import intrinsics as k

    def kernel(args, tile, scratch):
        k.memset0(args[0], args[1])
        k.memcpy(args[2], args[0], args[1])
        return 0

    return kernel


def polynomial(dtype, degree):
    """y = a polynomial with many constants, by fused multiply-adds (a libm call where the CPU has none); args x, y, n."""
    from graphnn.runtime import intrinsics as k

    pointer, scalar = k.POINTER[dtype], k.SCALAR[dtype]

    def kernel(args, tile, scratch):
        x, y = pointer(args[0]), pointer(args[1])
        for i in range(args[2]):
            total = scalar(1.0)
            for _ in range(degree):
                total = k.fma(total, x[i], scalar(0.1))
            y[i] = total
        return 0

    return kernel


def may_raise():
    """Calls a function that raises."""
    from numba import njit

    @njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def checked(x):
        if x < 0:
            raise ValueError("negative")
        return x

    def kernel(args, tile, scratch):
        return checked(args[0])

    return kernel


def shared_helper():
    """args[0] through a helper that is called several times, directly and by another helper."""
    from graphnn.runtime.intrinsics import inline

    @inline
    def add_one(x):
        return x + 1

    @inline
    def add_two(x):
        return add_one(add_one(x))

    def kernel(args, tile, scratch):
        return add_one(add_two(add_one(add_two(args[0]))))

    return kernel


def ill_typed():
    """Does not type: an address plus text."""

    def kernel(args, tile, scratch):
        return args[0] + "x"

    return kernel
