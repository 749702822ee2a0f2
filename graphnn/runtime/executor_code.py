"""The executor's compiled half: kernels, kept in the kernel store like any other, that walk a table of rows.

The words of a row: the kernel's address, the offset of its argument slots, its tiles, its span, where its tickets are,
and in how many parts its tiles are dealt out. Rows of a single tile that follow each other are one unit of work, as long
as the span of the first: one thread runs them all, and nobody waits in between. `LOOP` and `END` in place of the address
repeat the rows between; the tiles are then the trips, the span the index of the partner.

Tickets. A row counts the tiles finished, and in each part the tiles claimed; the counts only ever grow. The `visit` of a
row is how often it has been reached over all runs (run number and loop counters, mixed radix), and visit v owns the
tickets from v * n to (v + 1) * n of a part of n tiles. So nothing is cleared between runs, a thread that runs alone does
all the work, and a thread that comes late, even whole runs late, finds every ticket taken and walks through. A thread
takes from its own part first, the same in every row, so that it finds in its cache what it wrote in the row before.

Runs are announced on a board that workers watch; a worker notes the table it works on in its own slot, then looks again
whether the announcement still stands (a hazard pointer), so that a table may be freed once no slot names it.
"""

# Numba gives these functions their types.
# pyright: basic, reportCallIssue=false, reportPossiblyUnboundVariable=false

from __future__ import annotations

from collections.abc import Callable

LOOP, END = 0, 1
"""In place of a kernel's address."""

WORDS_A_ROW = 8
KERNEL, ARGUMENTS, TILES, SPAN, TICKET_LINE, PARTS = range(6)
"""The words of a row; the other two are padding to a cache line."""

# The control block of a table: words. What threads write stands on cache lines of its own.
ROWS, ARGS, COUNT, SCRATCH, SCRATCH_STRIDE, STACK, STACK_STRIDE, TICKETS = range(8)
FAIL = 8  # 0, or (row + 1) << 32 | code: the first failure
# Number of the next parallel run; ticks by row, of timed walks; address of sched_yield; threads and lines of the tickets;
# when a timed run began.
RUN, TIMES, YIELD, TICKET_THREADS, TICKET_LINES, BEGAN = range(16, 22)
CONTROL_WORDS = 24

# The board of a pool: the announcement, constants, then one cache line for each worker.
EPOCH, TABLE, NUMBER, THREADS = range(4)  # the epoch is odd while the announcement is being written
WALK, POOL_YIELD, PATIENCE, STOP, WORKERS, WAIT, POST = range(8, 15)
# Of worker w from SLOTS + w * SLOT_WORDS: the table it works on, whether it sleeps or is about to, and its gate (parking.py).
SLOTS, SLOT_WORDS = 16, 8
WORKING_ON, PARKED, GATE = 0, 1, 2

_PAUSES_BEFORE_YIELD = 2000

Kernel = Callable[[int, int, int], int]


def serial(timed: bool) -> Kernel:
    """`serial(control, 0, 0)`: walk the table on this thread; returns 0 or the failure word."""
    from graphnn.runtime import intrinsics as k

    if timed:
        ticks = _ticks()

    def kernel(control, tile, scratch):
        rows, args, count = k.slots(control[ROWS]), control[ARGS], control[COUNT]
        scratch, stack, level = control[SCRATCH], k.slots(control[STACK]), 0
        times = k.slots(control[TIMES])
        i = 0
        while i < count:
            row = WORDS_A_ROW * i
            function, tiles = rows[row], rows[row + TILES]
            if function > END:
                slots = args + 8 * rows[row + ARGUMENTS]
                start = ticks() if timed else 0
                for t in range(tiles):
                    code = k.call_kernel(function, slots, t, scratch)
                    if code != 0:
                        return k.shl(i + 1, 32) + code
                if timed:
                    times[i] += ticks() - start
            elif function == LOOP:
                if tiles <= 0:
                    i = rows[row + SPAN]
                else:
                    stack[2 * level] = tiles
                    level += 1
            else:
                stack[2 * level - 2] -= 1
                if stack[2 * level - 2] > 0:
                    i = rows[row + SPAN]
                else:
                    level -= 1
            i += 1
        return 0

    return kernel


def walk(timed: bool) -> Kernel:
    """`walk(control, thread, run)`: do this thread's share of a run; returns 0, or 1 after a failure.

    Timed, a row lasts from the end of the row before to its own. Whoever finishes tiles stamps the row, so a thread that
    the system suspends between rows does not change whose time it is.
    """
    from graphnn.runtime import intrinsics as k

    if timed:
        ticks = _ticks()

    def kernel(control, thread, run):
        rows, args, count = k.slots(control[ROWS]), control[ARGS], control[COUNT]
        scratch = control[SCRATCH] + thread * control[SCRATCH_STRIDE]
        stack, level = k.slots(control[STACK] + thread * control[STACK_STRIDE]), 0
        tickets, sharers, pause_call = control[TICKETS], control[TICKET_THREADS], control[YIELD]
        fail = k.address_of(control, FAIL)
        times = k.slots(control[TIMES])
        i, visit = 0, run
        before = control[BEGAN]  # of the caller's own: a worker may be through before the caller gets here
        while i < count:
            row = WORDS_A_ROW * i
            function, tiles = rows[row], rows[row + TILES]
            if function > END:
                finished = tickets + 64 * rows[row + TICKET_LINE]
                parts, span = rows[row + PARTS], rows[row + SPAN]
                own, done = k.udiv(thread * parts, sharers), 0
                start = 0
                for turn in range(parts):
                    part = own + turn
                    if part >= parts:
                        part -= parts
                    first = k.udiv(part * tiles, parts)
                    size = k.udiv((part + 1) * tiles, parts) - first
                    claimed, base = finished + 64 * (part + 1), visit * size
                    while True:
                        ticket = k.load_acquire(claimed)
                        if ticket >= base + size:
                            break
                        if k.load_acquire(fail) != 0:
                            return 1
                        if k.compare_and_swap(claimed, ticket, ticket + 1) != 0:
                            if timed:
                                start = ticks()
                            for r in range(i, i + span):
                                slots = args + 8 * rows[WORDS_A_ROW * r + ARGUMENTS]
                                code = k.call_kernel(rows[WORDS_A_ROW * r], slots, first + ticket - base, scratch)
                                if code != 0:
                                    k.compare_and_swap(fail, 0, k.shl(r + 1, 32) + code)
                                    return 1
                                if timed and span > 1:
                                    now = ticks()
                                    times[r] += now - start
                                    start = now
                            done += 1
                top = (visit + 1) * tiles
                if done != 0:
                    if timed:
                        times[count + i] = ticks()
                    k.atomic_add(finished, done)
                pauses = 0
                while k.load_acquire(finished) < top:
                    if k.load_acquire(fail) != 0:
                        return 1
                    pauses += 1
                    if pauses < _PAUSES_BEFORE_YIELD:
                        k.pause()
                    else:
                        k.call_kernel(pause_call, 0, 0, 0)
                if timed and thread == 0:
                    if span == 1:
                        times[i] += times[count + i] - before
                    before = times[count + i]
                i += span - 1
            elif function == LOOP:
                if tiles <= 0:
                    i = rows[row + SPAN]
                else:
                    stack[2 * level] = tiles
                    stack[2 * level + 1] = visit
                    level += 1
                    visit *= tiles
            else:
                stack[2 * level - 2] -= 1
                if stack[2 * level - 2] > 0:
                    i = rows[row + SPAN]
                    visit += 1
                else:
                    level -= 1
                    visit = stack[2 * level + 1]
            i += 1
        return 0

    return kernel


def lead() -> Kernel:
    """`lead(board, control, threads)`: announce a run, do the caller's share, take the announcement back.

    The caller wakes workers 1 and 2, and worker w wakes 2 w + 1 and 2 w + 2: a wake-up is a call to the system, and for
    many workers one after the other they would take longer than the run.
    """
    from graphnn.runtime import intrinsics as k

    fence, wake = _full_fence(), _wake()

    def kernel(board, control, threads):
        table = k.slots(control)
        run, epoch = table[RUN], board[EPOCH]
        here = k.address_of(board, EPOCH)
        k.atomic_add(here, 1)
        k.store_release(k.address_of(board, TABLE), control)
        k.store_release(k.address_of(board, NUMBER), run)
        k.store_release(k.address_of(board, THREADS), threads)
        k.store_release(here, epoch + 2)
        fence()
        wake(board, 1, threads)
        k.call_kernel(board[WALK], control, 0, run)
        k.atomic_add(here, 1)
        k.store_release(k.address_of(board, TABLE), 0)
        k.store_release(here, epoch + 4)
        failure = k.load_acquire(k.address_of(table, FAIL))
        if failure == 0:
            table[RUN] = run + 1
            return 0
        # Tiles may still be running; their buffers are the caller's again when this returns.
        fence()
        for worker in range(1, board[WORKERS] + 1):
            pauses = 0
            while k.load_acquire(k.address_of(board, SLOTS + SLOT_WORDS * worker)) == control:
                pauses += 1
                if pauses < _PAUSES_BEFORE_YIELD:
                    k.pause()
                else:
                    k.call_kernel(board[POOL_YIELD], 0, 0, 0)
        k.memset0(table[TICKETS], 64 * table[TICKET_LINES])
        table[RUN] = 0
        table[FAIL] = 0
        return failure

    return kernel


def serve() -> Kernel:
    """`serve(board, worker, 0)`: take part in the runs that are announced, and sleep when none has come for a while.

    Whoever announces a run looks for sleepers after the announcement; a worker says that it sleeps before it looks at the
    board for the last time. So one of the two sees the other.
    """
    from graphnn.runtime import intrinsics as k

    fence, wake = _full_fence(), _wake()

    def kernel(board, worker, unused):
        here, slot = k.address_of(board, EPOCH), SLOTS + SLOT_WORDS * worker
        mine, parked = k.address_of(board, slot + WORKING_ON), k.address_of(board, slot + PARKED)
        seen, pauses = 0, 0
        while k.load_acquire(k.address_of(board, STOP)) == 0:
            epoch = k.load_acquire(here)
            if epoch != seen and epoch & 1 == 0:
                control = k.load_acquire(k.address_of(board, TABLE))
                run = k.load_acquire(k.address_of(board, NUMBER))
                threads = k.load_acquire(k.address_of(board, THREADS))
                if control == 0 or worker >= threads:
                    if k.load_acquire(here) == epoch:
                        seen = epoch
                else:
                    k.store_release(mine, control)
                    fence()
                    if k.load_acquire(here) == epoch:
                        wake(board, 2 * worker + 1, threads)
                        k.call_kernel(board[WALK], control, worker, run)
                        seen, pauses = epoch, 0
                    k.store_release(mine, 0)
            pauses += 1
            if pauses < board[PATIENCE]:
                k.pause()
            else:
                k.store_release(parked, 1)
                fence()
                epoch = k.load_acquire(here)
                if (epoch == seen or epoch & 1 != 0) and k.load_acquire(k.address_of(board, STOP)) == 0:
                    k.call_kernel(board[WAIT], board[slot + GATE], -1, 0)
                # When somebody else did this, a post is on its way: at worst a later sleep ends early.
                k.compare_and_swap(parked, 1, 0)
                pauses = 0
        return 0

    return kernel


def spin() -> Kernel:
    """`spin(board, pauses, 0)`: so many pauses; how long a pause takes differs tenfold between CPUs."""
    from graphnn.runtime import intrinsics as k

    def kernel(board, pauses, unused):
        here = k.address_of(board, EPOCH)
        for _ in range(pauses):
            k.load_acquire(here)
            k.pause()
        return 0

    return kernel


def quiet() -> Kernel:
    """`quiet(board, control, 0)`: 1 when no worker is in that table (which is no longer announced), else 0."""
    from graphnn.runtime import intrinsics as k

    fence = _full_fence()

    def kernel(board, control, unused):
        fence()
        for worker in range(1, board[WORKERS] + 1):
            if k.load_acquire(k.address_of(board, SLOTS + SLOT_WORDS * worker)) == control:
                return 0
        return 1

    return kernel


def advance() -> Kernel:
    """A row kernel: args (count, then slot and step for each): add the step to the slot, counted from this row's first."""

    def kernel(args, tile, scratch):
        for i in range(args[0]):
            args[args[1 + 2 * i]] += args[2 + 2 * i]
        return 0

    return kernel


def restore() -> Kernel:
    """A row kernel: args (count, then slot and value for each): set the slot, counted from this row's first."""

    def kernel(args, tile, scratch):
        for i in range(args[0]):
            args[args[1 + 2 * i]] = args[2 + 2 * i]
        return 0

    return kernel


def ticks() -> Kernel:
    """`ticks(0, 0, 0)`: the counter that timed walks read, to learn its rate."""
    read = _ticks()

    def kernel(args, tile, scratch):
        return read()

    return kernel


def _ticks():
    """An intrinsic that reads the CPU's steadily running counter."""
    import llvmlite.binding as llvm
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    from graphnn.runtime.intrinsics import call_llvm

    word = ir.IntType(64)

    def emit(context, builder, signature, values):
        if llvm.get_process_triple().startswith(("aarch64", "arm64")):
            # LLVM's readcyclecounter is a register there that user programs may not read.
            return builder.asm(ir.FunctionType(word, []), "mrs $0, cntvct_el0", "=r", [], True)
        return call_llvm(builder, "llvm.readcyclecounter", word, [])

    @intrinsic
    def read(context):
        return types.int64(), emit

    return read


def _wake():
    """`wake(board, worker, threads)`: end the sleep of that worker and of the next one, where they sleep and take part."""
    from graphnn.runtime import intrinsics as k

    @k.inline
    def wake(board, worker, threads):
        for sleeper in range(worker, worker + 2):
            slot = SLOTS + SLOT_WORDS * sleeper
            parked = k.address_of(board, slot + PARKED)
            if sleeper < threads and k.load_acquire(parked) != 0 and k.compare_and_swap(parked, 1, 0) != 0:
                k.call_kernel(board[POST], board[slot + GATE], 1, 0)

    return wake


def _full_fence():
    """An intrinsic: no read after it may pass a write before it."""
    from numba import types
    from numba.extending import intrinsic

    def emit(context, builder, signature, values):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    @intrinsic
    def fence(context):
        return types.void(), emit

    return fence
