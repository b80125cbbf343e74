/*
 * Blocks and threads of the emulator.
 *
 * A block runs at a time, its threads as fibers that switch only where they wait. A fiber is a
 * stack that runs threads one after another: a thread that never waits costs a function call, and
 * only threads that wait at the same time need stacks of their own. Who is next is drawn at random
 * from those that can run. A barrier or warp function that not everyone reaches leaves nobody who
 * can run; that is reported, never waited for.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <map>
#include <vector>

#include "tests/cuda/emulator/cuda_runtime.h"
#include "tests/cuda/emulator/emulated_kernel.h"
#include "tests/cuda/emulator/emulated_streams.h"
#include "tests/cuda/emulator/emulator.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

enum { STACK_BYTES = 256 * 1024, MAX_THREADS = 1024, MAX_SHARED = 227 * 1024 };

struct emulated_position emulated_now;

struct context {
#if defined(__x86_64__)
    void *stack_pointer;
#else
    ucontext_t ucontext;
#endif
    void *fake_stack; /* ASan's */
    const void *stack;
    size_t stack_bytes;
};

struct fiber {
    struct context context;
    int thread; /* that it runs next, or is suspended in */
};

enum state { STATE_NEW, STATE_READY, STATE_BARRIER, STATE_WARP, STATE_DONE };

struct thread {
    enum state state;
    struct fiber *fiber; /* while suspended */
    /* What it waits for. */
    const char *what;
    int line;
    unsigned mask;
    emulated_apply *apply;
    void *payload;
    /* Asynchronous copies that it issued, see cp_async_16. */
    std::vector<struct emulated_copy> copies;
    int groups;
};

struct emulator {
    const char *name; /* of the kernel */
    const std::function<void()> *kernel;
    uint3 block;
    dim3 block_size, grid_size;
    int num_threads;
    struct thread threads[MAX_THREADS];
    int ready[MAX_THREADS];
    int num_ready, num_done, num_at_barrier;
    int current;
    struct fiber *running;
    struct context main;
    std::vector<struct fiber *> idle;
    void *shared;
    size_t shared_bytes;
    uint64_t random;
    int64_t launches;
    std::map<const void *, int> allowed; /* dynamic shared memory by kernel */
};
/* Never destroyed: a kernel may run, and fibers are suspended, when the process ends. */
static struct emulator &e = *new struct emulator();

/* ---- switching ---- */

#if defined(__x86_64__)
extern "C" void emulated_switch_stacks(void **save, void *load);
__asm__(".text\n"
        ".globl emulated_switch_stacks\n"
        ".type emulated_switch_stacks, @function\n"
        "emulated_switch_stacks:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size emulated_switch_stacks, .-emulated_switch_stacks\n"
        ".section .note.GNU-stack,\"\",@progbits\n"
        ".text\n");
#endif

static void switch_to(struct context *from, struct context *to)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#if defined(__x86_64__)
    emulated_switch_stacks(&from->stack_pointer, to->stack_pointer);
#else
    swapcontext(&from->ucontext, &to->ucontext);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

static void fiber_main(void);

static struct fiber *fiber_get(void)
{
    if (!e.idle.empty()) {
        struct fiber *fiber = e.idle.back();
        e.idle.pop_back();
        return fiber;
    }
    struct fiber *fiber = new struct fiber();
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) emulated_fail("no memory for the stack of a thread");
    fiber->context.stack = stack;
    fiber->context.stack_bytes = STACK_BYTES;
#if defined(__x86_64__)
    /* What a switch pops: six registers and where to go; 16-byte aligned as at a call. */
    void **top = (void **)((char *)stack + STACK_BYTES) - 8;
    memset(top, 0, 8 * sizeof *top);
    top[6] = (void *)fiber_main;
    fiber->context.stack_pointer = top;
#else
    getcontext(&fiber->context.ucontext);
    fiber->context.ucontext.uc_stack.ss_sp = stack;
    fiber->context.ucontext.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber->context.ucontext, fiber_main, 0);
#endif
    return fiber;
}

/* ---- who is next ---- */

static uint64_t draw(void)
{
    /* xorshift64* (Vigna, 2016); its quality does not matter here. */
    e.random ^= e.random >> 12;
    e.random ^= e.random << 25;
    e.random ^= e.random >> 27;
    return e.random * 0x2545F4914F6CDD1Du;
}

static void position_set(int thread)
{
    unsigned i = (unsigned)thread;
    const dim3 &size = e.block_size;
    e.current = thread;
    emulated_now.thread = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    emulated_now.linear = i;
}

static void ready_add(int thread)
{
    e.ready[e.num_ready++] = thread;
}

static int ready_take(void)
{
    int at = (int)((draw() >> 32) * (uint64_t)e.num_ready >> 32);
    int thread = e.ready[at];
    e.ready[at] = e.ready[--e.num_ready];
    return thread;
}

/* A thread that is in a warp function must not wait for lanes that have ended. */
static void check_lanes(int thread)
{
    const struct thread *t = &e.threads[thread];
    int first = thread / 32 * 32;
    for (int i = 0; i < 32; i++) {
        if (!(t->mask >> i & 1)) continue;
        if (first + i < e.num_threads && e.threads[first + i].state != STATE_DONE) continue;
        emulated_fail("calls %s with the mask %08x, but lane %d has ended or never was", t->what,
                      t->mask, i);
    }
}

[[noreturn]] static void deadlock(void)
{
    for (int i = 0; i < e.num_threads; i++) {
        const struct thread *t = &e.threads[i];
        if (t->state != STATE_BARRIER && t->state != STATE_WARP) continue;
        position_set(i);
        if (t->state == STATE_BARRIER) {
            emulated_fail("waits at the barrier of line %d, which %d of %d threads never reach",
                          t->line, e.num_threads - e.num_at_barrier, e.num_threads);
        }
        check_lanes(i);
        emulated_fail("waits in %s for other lanes of the mask %08x", t->what, t->mask);
    }
    emulated_fail("nobody can run");
}

/* Leaves the running thread, which waits, and comes back when it is its turn again. */
static void wait(void)
{
    int self = e.current;
    struct fiber *own = e.running;
    e.threads[self].fiber = own;
    if (e.num_ready == 0) deadlock();
    int next = ready_take();
    if (next == self) return;
    struct fiber *to = e.threads[next].fiber;
    if (!to) to = fiber_get();
    to->thread = next;
    position_set(next);
    e.running = to;
    switch_to(&own->context, &to->context);
}

static void fiber_main(void)
{
#if defined(__SANITIZE_ADDRESS__)
    const void *stack;
    size_t bytes;
    __sanitizer_finish_switch_fiber(NULL, &stack, &bytes);
    /* The first fiber was entered from the stack that launches. */
    if (!e.main.stack) e.main.stack = stack, e.main.stack_bytes = bytes;
#endif
    struct fiber *own = e.running;
    for (;;) {
        (*e.kernel)();
        struct thread *done = &e.threads[e.current];
        if (!done->copies.empty()) emulated_fail("ends before its asynchronous copies");
        done->state = STATE_DONE;
        done->fiber = NULL;
        e.num_done++;
        if (e.num_ready == 0) {
            if (e.num_done < e.num_threads) deadlock();
            e.idle.push_back(own);
            switch_to(&own->context, &e.main);
            continue; /* the thread was set by who came back */
        }
        int next = ready_take();
        position_set(next);
        struct fiber *to = e.threads[next].fiber;
        if (!to) continue;
        e.idle.push_back(own);
        e.running = to;
        switch_to(&own->context, &to->context);
    }
}

/* ---- waiting for others ---- */

void emulated_fail(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const struct emulated_position *p = &emulated_now;
    fprintf(stderr, "emulated GPU: %s, block (%u,%u,%u), thread (%u,%u,%u): %s\n",
            e.name ? e.name : "no kernel", p->block.x, p->block.y, p->block.z, p->thread.x,
            p->thread.y, p->thread.z, text);
    fflush(stderr);
    abort();
}

void emulated_barrier(const char *file, int line)
{
    (void)file;
    struct thread *self = &e.threads[e.current];
    self->state = STATE_BARRIER;
    self->line = line;
    if (++e.num_at_barrier < e.num_threads) {
        wait();
        return;
    }
    e.num_at_barrier = 0;
    for (int i = 0; i < e.num_threads; i++) {
        if (e.threads[i].line != line) {
            emulated_fail("is at the barrier of line %d while others are at that of line %d", line,
                          e.threads[i].line);
        }
        e.threads[i].state = STATE_READY;
        if (i != e.current) ready_add(i);
    }
    /* Whoever comes last is not always the first to go on. */
    ready_add(e.current);
    wait();
}

void emulated_apply_nothing(void *const payload[32], unsigned mask)
{
    (void)payload;
    (void)mask;
}

void emulated_warp(const char *what, unsigned mask, emulated_apply *apply, void *payload)
{
    struct thread *self = &e.threads[e.current];
    int lane = e.current % 32;
    int first = e.current - lane;
    if (!(mask >> lane & 1))
        emulated_fail("calls %s with the mask %08x, without itself", what, mask);
    self->state = STATE_WARP;
    self->what = what;
    self->mask = mask;
    self->apply = apply;
    self->payload = payload;
    void *payloads[32] = {};
    check_lanes(e.current);
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        const struct thread *t = &e.threads[first + i];
        /* One that waits for other lanes, or in another function, may come here later. */
        if (t->state != STATE_WARP || t->apply != apply || t->mask != mask) {
            wait();
            return;
        }
        payloads[i] = t->payload;
    }
    apply(payloads, mask);
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        e.threads[first + i].state = STATE_READY;
        ready_add(first + i);
    }
    wait();
}

/* ---- asynchronous copies: they arrive when they are waited for, and not before ---- */

void emulated_copy_issue(void *to, const void *from, unsigned bytes, unsigned filled)
{
    if ((uintptr_t)to % bytes || (uintptr_t)from % bytes) {
        emulated_fail("copies %u bytes asynchronously between misaligned addresses", bytes);
    }
    struct thread *self = &e.threads[e.current];
    self->copies.push_back({to, from, bytes, filled, self->groups});
}

void emulated_copy_commit(void)
{
    e.threads[e.current].groups++;
}

void emulated_copy_wait(int pending)
{
    struct thread *self = &e.threads[e.current];
    size_t kept = 0;
    for (const struct emulated_copy &copy : self->copies) {
        if (copy.group >= self->groups - pending) {
            self->copies[kept++] = copy;
            continue;
        }
        memcpy(copy.to, copy.from, copy.filled);
        memset((char *)copy.to + copy.filled, 0, copy.bytes - copy.filled);
    }
    self->copies.resize(kept);
}

/* ---- launches ---- */

void *emulated_shared(void)
{
    return e.shared;
}

cudaError_t emulated_allow_shared(const void *kernel, int bytes)
{
    if (bytes > MAX_SHARED) return cudaErrorInvalidValue;
    e.allowed[kernel] = bytes;
    return cudaSuccess;
}

cudaError_t emulated_check(const char *name, const void *kernel, dim3 grid, dim3 block,
                           size_t shared_bytes)
{
    (void)name;
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    auto allowed = e.allowed.find(kernel);
    size_t limit = allowed == e.allowed.end() ? 48 * 1024 : (size_t)allowed->second;
    if (threads == 0 || threads > MAX_THREADS || block.z > 64 || grid.x == 0 || grid.y == 0 ||
        grid.z == 0 || grid.x > 0x7FFFFFFF || grid.y > 65535 || grid.z > 65535) {
        return cudaErrorInvalidConfiguration;
    }
    return shared_bytes > limit ? cudaErrorInvalidValue : cudaSuccess;
}

static void run_block(void)
{
    e.num_ready = e.num_done = e.num_at_barrier = 0;
    for (int i = 0; i < e.num_threads; i++) {
        struct thread *t = &e.threads[i];
        t->state = STATE_NEW;
        t->fiber = NULL;
        t->groups = 0;
        ready_add(i);
    }
    /* NaN as f32 and as bf16. */
    if (e.shared_bytes) memset(e.shared, 0xFF, e.shared_bytes);
    struct fiber *fiber = fiber_get();
    position_set(ready_take());
    e.running = fiber;
    switch_to(&e.main, &fiber->context);
}

void emulated_run(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                  const std::function<void()> &thread)
{
    (void)kernel;
    if (e.random == 0) {
        const char *seed = getenv("WEFT_EMULATED_SEED");
        emulated_seed(seed ? strtoull(seed, NULL, 10) : 1);
    }
    e.name = name;
    e.kernel = &thread;
    e.block_size = block;
    e.grid_size = grid;
    e.num_threads = (int)(block.x * block.y * block.z);
    e.shared_bytes = shared_bytes;
    /* Of exactly the size asked for, so that ASan sees its end. */
    e.shared =
        shared_bytes ? aligned_alloc(128, shared_bytes + (128 - shared_bytes % 128) % 128) : NULL;
    emulated_now.block_size = block;
    emulated_now.grid_size = grid;
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) {
                emulated_now.block = {x, y, z};
                run_block();
            }
        }
    }
    free(e.shared);
    e.shared = NULL;
    e.name = NULL;
    e.launches++;
    emulated_ran(name);
}

void emulated_seed(uint64_t seed)
{
    emulated_streams_seed(seed);
    e.random = seed * 0x9E3779B97F4A7C15u + 0xD1B54A32D192ED03u;
    if (e.random == 0) e.random = 1;
}

int64_t emulated_launches(void)
{
    return e.launches;
}
