/*
 * The emulator and the words of kernel.cuh: warp functions, barriers, tensor-core fragments,
 * asynchronous copies, launches, graphs, the order of streams, and what it must refuse.
 *
 * On a GPU the same tests say that the emulator's idea of an instruction is the machine's.
 */
#include "runtime/backend/cuda/kernel.cuh"
#include "tests/cuda/cuda_check.h"

/* ---- warps ---- */

static __global__ void warp_kernel(float *out, unsigned *ballot)
{
    float x = (float)(threadIdx.x + 1);
    float *mine = out + 8 * threadIdx.x;
    mine[0] = warp_sum(x);
    mine[1] = warp_max(x);
    mine[2] = __shfl_sync(0xFFFFFFFFu, x, 5);
    mine[3] = __shfl_xor_sync(0xFFFFFFFFu, x, 3);
    mine[4] = __shfl_up_sync(0xFFFFFFFFu, x, 4u);
    mine[5] = __shfl_down_sync(0xFFFFFFFFu, x, 4u);
    mine[6] = __shfl_sync(0xFFFFFFFFu, x, 9, 8);
    mine[7] = __shfl_xor_sync(0xFFu << (threadIdx.x % 32 / 8 * 8), x, 4, 8);
    ballot[threadIdx.x] = __ballot_sync(0xFFFFFFFFu, threadIdx.x % 3 == 0);
}

static void test_warp(void **state)
{
    (void)state;
    enum { THREADS = 64 };
    float *out = device_array<float>(8 * THREADS);
    unsigned *ballot = device_array<unsigned>(THREADS);
    MUST_CUDA(CUDA_LAUNCH(warp_kernel, 1, THREADS, 0, 0, out, ballot));
    float got[8 * THREADS];
    unsigned bits[THREADS];
    from_device(got, out, 8 * THREADS);
    from_device(bits, ballot, THREADS);
    for (int i = 0; i < THREADS; i++) {
        int base = i / 32 * 32;
        int lane = i % 32;
        unsigned want = 0;
        for (int k = 0; k < 32; k++) {
            want |= (unsigned)((base + k) % 3 == 0) << k;
        }
        assert_float_equal(got[8 * i], 32 * 33 / 2 + 32 * base, 0);
        assert_float_equal(got[8 * i + 1], base + 32, 0);
        assert_float_equal(got[8 * i + 2], base + 6, 0);
        assert_float_equal(got[8 * i + 3], (i ^ 3) + 1, 0);
        assert_float_equal(got[8 * i + 4], (lane < 4 ? i : i - 4) + 1, 0);
        assert_float_equal(got[8 * i + 5], (lane >= 28 ? i : i + 4) + 1, 0);
        assert_float_equal(got[8 * i + 6], (i / 8 * 8 + 2), 0);
        assert_float_equal(got[8 * i + 7], (i ^ 4) + 1, 0);
        assert_int_equal(bits[i], want);
    }
    device_free(out);
    device_free(ballot);
}

/* ---- blocks ---- */

static __global__ void block_kernel(const float *x, float *out, int count)
{
    __shared__ float shared[BLOCK_SHARED];
    KERNEL_SHARED(float, turned);
    float sum = 0;
    float most = -INFINITY;
    for (int i = (int)threadIdx.x; i < count; i += (int)blockDim.x) {
        sum += x[blockIdx.x * count + i];
        most = max_nan(most, x[blockIdx.x * count + i]);
    }
    sum = block_sum(sum, shared);
    most = block_max(most, shared);
    turned[threadIdx.x] = x[blockIdx.x * count + threadIdx.x];
    __syncthreads();
    float last = turned[blockDim.x - 1 - threadIdx.x];
    if (threadIdx.x == 0) {
        out[3 * blockIdx.x] = sum;
        out[3 * blockIdx.x + 1] = most;
        out[3 * blockIdx.x + 2] = last;
    }
}

static void test_block(void **state)
{
    (void)state;
    enum { BLOCKS = 3, COUNT = 300, THREADS = 96 };
    float x[BLOCKS * COUNT];
    for (int i = 0; i < BLOCKS * COUNT; i++) {
        x[i] = (float)(i * 37 % 101);
    }
    float *in = to_device(x, BLOCKS * COUNT);
    float *out = device_array<float>(3 * BLOCKS);
    for (int seed = 1; seed < 20; seed++) {
        emulated_seed(seed);
        MUST_CUDA(
            CUDA_LAUNCH(block_kernel, BLOCKS, THREADS, THREADS * sizeof(float), 0, in, out, COUNT));
        float got[3 * BLOCKS];
        from_device(got, out, 3 * BLOCKS);
        for (int b = 0; b < BLOCKS; b++) {
            float sum = 0;
            float most = 0;
            for (int i = 0; i < COUNT; i++) {
                sum += x[b * COUNT + i];
                most = fmaxf(most, x[b * COUNT + i]);
            }
            assert_float_equal(got[3 * b], sum, 0);
            assert_float_equal(got[3 * b + 1], most, 0);
            assert_float_equal(got[3 * b + 2], x[b * COUNT + THREADS - 1], 0);
        }
    }
    device_free(in);
    device_free(out);
}

/* ---- tensor cores: c [16,8] = a [16,16] b [16,8] through ldmatrix ---- */

static __global__ void product_kernel(const uint16_t *a, const uint16_t *b, float *c)
{
    __shared__ __align__(16) uint16_t sa[16 * 16];
    __shared__ __align__(16) uint16_t sb[16 * 8];
    int lane = (int)threadIdx.x;
    cp_async_16(sa + 8 * lane, a + 8 * lane, true);
    cp_async_commit();
    cp_async_16(sb + 8 * (lane % 16), b + 8 * (lane % 16), true);
    cp_async_commit();
    cp_async_wait<0>();
    __syncwarp();
    uint32_t fa[4];
    uint32_t fb[2];
    /* Matrices 0..3: rows 0-7 and 8-15 of columns 0-7, then of columns 8-15. */
    ldmatrix_x4(fa, sa + (lane % 16) * 16 + lane / 16 * 8);
    /* b is row-major, its fragments run along the rows: transposed. */
    ldmatrix_x2_transposed(fb, sb + (lane % 16) * 8);
    float sum[4] = {0, 0, 0, 0};
    mma_m16n8k16_bf16(sum, fa, fb, sum);
    for (int i = 0; i < 4; i++) {
        c[(lane / 4 + 8 * (i >> 1)) * 8 + lane % 4 * 2 + (i & 1)] = sum[i];
    }
}

static __global__ void product_tf32_kernel(const float *a, const float *b, float *c)
{
    int g = (int)threadIdx.x / 4;
    int t = (int)threadIdx.x % 4;
    uint32_t fa[4];
    uint32_t fb[2];
    for (int r = 0; r < 4; r++) {
        fa[r] = tf32_of_f32(a[(g + 8 * (r & 1)) * 8 + t + 4 * (r >> 1)]);
        if (r < 2) fb[r] = tf32_of_f32(b[(t + 4 * r) * 8 + g]);
    }
    float sum[4] = {1, 1, 1, 1};
    mma_m16n8k8_tf32(sum, fa, fb, sum);
    for (int i = 0; i < 4; i++) {
        c[(g + 8 * (i >> 1)) * 8 + 2 * t + (i & 1)] = sum[i];
    }
}

static void test_products(void **state)
{
    (void)state;
    float a[16 * 16];
    float b[16 * 8];
    uint16_t narrow_a[16 * 16];
    uint16_t narrow_b[16 * 8];
    for (int i = 0; i < 16 * 16; i++) {
        a[i] = (float)(i * 7 % 23 - 11);
        narrow_a[i] = bf16_from_f32(a[i]);
    }
    for (int i = 0; i < 16 * 8; i++) {
        b[i] = (float)(i * 5 % 19 - 9);
        narrow_b[i] = bf16_from_f32(b[i]);
    }
    uint16_t *da = to_device(narrow_a, 16 * 16);
    uint16_t *db = to_device(narrow_b, 16 * 8);
    float *wide_a = to_device(a, 16 * 8);
    float *wide_b = to_device(b, 8 * 8);
    float *dc = device_array<float>(16 * 8);
    float c[16 * 8];
    MUST_CUDA(CUDA_LAUNCH(product_kernel, 1, WARP, 0, 0, da, db, dc));
    from_device(c, dc, 16 * 8);
    for (int i = 0; i < 16 * 8; i++) {
        float want = 0;
        for (int k = 0; k < 16; k++) {
            want += a[i / 8 * 16 + k] * b[k * 8 + i % 8];
        }
        assert_float_equal(c[i], want, 0);
    }
    MUST_CUDA(CUDA_LAUNCH(product_tf32_kernel, 1, WARP, 0, 0, wide_a, wide_b, dc));
    from_device(c, dc, 16 * 8);
    for (int i = 0; i < 16 * 8; i++) {
        float want = 1;
        for (int k = 0; k < 8; k++) {
            want += a[i / 8 * 8 + k] * b[k * 8 + i % 8];
        }
        assert_float_equal(c[i], want, 0);
    }
    device_free(da);
    device_free(db);
    device_free(wide_a);
    device_free(wide_b);
    device_free(dc);
}

/* ---- bf16 ---- */

static __global__ void round_kernel(const float *x, uint16_t *y, uint16_t *packed, float *back)
{
    unsigned i = threadIdx.x;
    store_f32(y + i, x[i]);
    if (i % 8 == 0) store_pack(packed + i, x + i);
    __syncthreads();
    back[i] = load_f32(packed + i);
}

static void test_bf16(void **state)
{
    (void)state;
    static const uint32_t words[32] = {0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF,
                                       0xBF818000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x00000001,
                                       0x00008000, 0x00018000, 0x80000000, 0x477FE000};
    float x[32];
    memcpy(x, words, sizeof x);
    float *in = to_device(x, 32);
    uint16_t *out = device_array<uint16_t>(32);
    uint16_t *packed = device_array<uint16_t>(32);
    float *back = device_array<float>(32);
    MUST_CUDA(CUDA_LAUNCH(round_kernel, 1, 32, 0, 0, in, out, packed, back));
    uint16_t got[32];
    uint16_t got_packed[32];
    float got_back[32];
    from_device(got, out, 32);
    from_device(got_packed, packed, 32);
    from_device(got_back, back, 32);
    for (int i = 0; i < 32; i++) {
        assert_int_equal(got[i], bf16_from_f32(x[i]));
        assert_int_equal(got_packed[i], got[i]);
        float want = bf16_to_f32(got[i]);
        assert_memory_equal(&got_back[i], &want, sizeof want);
    }
    device_free(in);
    device_free(out);
    device_free(packed);
    device_free(back);
}

/* ---- graphs: what is recorded runs again with what memory holds then ---- */

static __global__ void add_kernel(float *x, const float *by, float times)
{
    x[threadIdx.x] += *by * times;
}

static enum status record_two_adds(cudaStream_t stream, cudaGraph_t *graph, float *x, float *by)
{
    CUDA_TRY(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    TRY(CUDA_LAUNCH(add_kernel, 1, 4, 0, stream, x, by, 1.0f));
    TRY(CUDA_LAUNCH(add_kernel, 1, 4, 0, stream, x, by, 2.0f));
    CUDA_TRY(cudaStreamEndCapture(stream, graph));
    return STATUS_OK;
}

static void test_graph(void **state)
{
    (void)state;
    const float zeros[4] = {0, 0, 0, 0};
    float value = 1;
    float *x = to_device(zeros, 4);
    float *by = to_device(&value, 1);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    MUST_CUDA(cuda_status(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream"));
    MUST_CUDA(record_two_adds(stream, &graph, x, by));
    MUST_CUDA(cuda_status(cudaGraphInstantiate(&exec, graph, 0), "instantiate"));
    float got[4];
    from_device(got, x, 4);
    assert_float_equal(got[3], 0, 0);
    for (int run = 0; run < 3; run++) {
        value = (float)(run + 1);
        MUST_CUDA(cuda_status(
            cudaMemcpyAsync(by, &value, sizeof value, cudaMemcpyHostToDevice, stream), "copy"));
        MUST_CUDA(cuda_status(cudaGraphLaunch(exec, stream), "launch"));
        MUST_CUDA(cuda_status(cudaStreamSynchronize(stream), "wait"));
    }
    from_device(got, x, 4);
    assert_float_equal(got[0], 3 * (1 + 2 + 3), 0);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    device_free(x);
    device_free(by);
}

static void test_launch_refused(void **state)
{
    (void)state;
    float *x = device_array<float>(4);
    assert_int_not_equal(CUDA_LAUNCH(add_kernel, 1, 2048, 0, 0, x, x, 1.0f), STATUS_OK);
    assert_non_null(strstr(status_message(), "add_kernel: invalid configuration"));
    cudaGetLastError();
    assert_int_not_equal(CUDA_LAUNCH(add_kernel, dim3(1, 70000), 32, 0, 0, x, x, 1.0f), STATUS_OK);
    cudaGetLastError();
    assert_int_not_equal(CUDA_LAUNCH(add_kernel, 1, 32, 100 * 1024, 0, x, x, 1.0f), STATUS_OK);
    cudaGetLastError();
    MUST_CUDA(CUDA_ALLOW_SHARED(add_kernel, 100 * 1024));
    MUST_CUDA(CUDA_LAUNCH(add_kernel, 1, 4, 100 * 1024, 0, x, x, 1.0f));
    device_free(x);
}

/* ---- what only the emulator finds ---- */

#if defined(WEFT_CUDA_EMULATED)

static __global__ void race_kernel(float *out)
{
    __shared__ float x[64];
    x[threadIdx.x] = (float)threadIdx.x;
    __syncwarp(); /* orders a warp; the block needs a barrier */
    out[threadIdx.x] = x[63 - threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = -1;
}

static void test_race_is_seen(void **state)
{
    (void)state;
    float *out = device_array<float>(64);
    int wrong = 0;
    for (int seed = 1; seed <= 10; seed++) {
        emulated_seed(seed);
        MUST_CUDA(CUDA_LAUNCH(race_kernel, 2, 64, 0, 0, out));
        float got[64];
        from_device(got, out, 64);
        for (int i = 0; i < 64; i++) {
            wrong += got[i] != (float)(63 - i);
        }
    }
    assert_true(wrong > 0);
    device_free(out);
}

/* ---- the order of streams ---- */

struct streams {
    cudaStream_t a, b;
    cudaEvent_t fork, join;
    float *x, *by; /* device */
};

/* x += by on the second stream, which writes `by` before, and x += 2 by on the first. */
static enum status enqueue_pair(const struct streams *s, const float *by, bool joins)
{
    CUDA_TRY(cudaEventRecord(s->fork, s->a));
    CUDA_TRY(cudaStreamWaitEvent(s->b, s->fork, 0));
    CUDA_TRY(cudaMemcpyAsync(s->by, by, sizeof *by, cudaMemcpyHostToDevice, s->b));
    TRY(CUDA_LAUNCH(add_kernel, 1, 1, 0, s->b, s->x, s->by, 1.0f));
    CUDA_TRY(cudaEventRecord(s->join, s->b));
    if (joins) CUDA_TRY(cudaStreamWaitEvent(s->a, s->join, 0));
    return CUDA_LAUNCH(add_kernel, 1, 1, 0, s->a, s->x, s->by, 2.0f);
}

static enum status record_pair(const struct streams *s, const float *by, bool joins,
                               cudaGraphExec_t *exec)
{
    cudaGraph_t graph;
    CUDA_TRY(cudaStreamBeginCapture(s->a, cudaStreamCaptureModeThreadLocal));
    enum status status = enqueue_pair(s, by, joins);
    cudaError_t error = cudaStreamEndCapture(s->a, &graph);
    TRY(status);
    CUDA_TRY(error);
    CUDA_TRY(cudaGraphInstantiate(exec, graph, 0));
    CUDA_TRY(cudaGraphDestroy(graph));
    return STATUS_OK;
}

static void streams_make(struct streams *s)
{
    s->x = device_array<float>(1);
    s->by = device_array<float>(1);
    MUST_CUDA(cuda_status(cudaStreamCreateWithFlags(&s->a, cudaStreamNonBlocking), "stream"));
    MUST_CUDA(cuda_status(cudaStreamCreateWithFlags(&s->b, cudaStreamNonBlocking), "stream"));
    MUST_CUDA(cuda_status(cudaEventCreateWithFlags(&s->fork, cudaEventDisableTiming), "event"));
    MUST_CUDA(cuda_status(cudaEventCreateWithFlags(&s->join, cudaEventDisableTiming), "event"));
}

static void streams_free(struct streams *s)
{
    cudaStreamDestroy(s->a);
    cudaStreamDestroy(s->b);
    cudaEventDestroy(s->fork);
    cudaEventDestroy(s->join);
    device_free(s->x);
    device_free(s->by);
}

/* How often x is not 3 by: what the host writes too soon, when `hurries`, or without an order. */
static int count_wrong(bool joins, bool hurries, bool recorded)
{
    struct streams s;
    cudaGraphExec_t exec = NULL;
    int wrong = 0;
    float by = 5;
    streams_make(&s);
    if (recorded) MUST_CUDA(record_pair(&s, &by, joins, &exec));
    for (int seed = 1; seed <= 40; seed++) {
        emulated_seed((uint64_t)seed);
        by = 5;
        MUST_CUDA(cuda_status(cudaMemsetAsync(s.x, 0, sizeof *s.x, s.a), "memset"));
        MUST_CUDA(cuda_status(cudaMemsetAsync(s.by, 0, sizeof *s.by, s.a), "memset"));
        if (recorded) {
            MUST_CUDA(cuda_status(cudaGraphLaunch(exec, s.a), "launch"));
        } else {
            MUST_CUDA(enqueue_pair(&s, &by, joins));
        }
        if (hurries) by = 7;
        MUST_CUDA(cuda_status(cudaStreamSynchronize(s.a), "wait"));
        MUST_CUDA(cuda_status(cudaStreamSynchronize(s.b), "wait"));
        float got = 0;
        from_device(&got, s.x, 1);
        wrong += got != 15;
    }
    if (exec) cudaGraphExecDestroy(exec);
    streams_free(&s);
    return wrong;
}

static void test_order(void **state)
{
    (void)state;
    assert_int_equal(count_wrong(true, false, false), 0);
    assert_int_equal(count_wrong(true, false, true), 0);
    assert_in_range(count_wrong(false, false, false), 5, 35);
    assert_in_range(count_wrong(true, true, false), 5, 40);
    assert_in_range(count_wrong(true, true, true), 5, 40);
}

/* A recording whose streams do not come together, or that waits for what is not part of it. */
static void test_recording_refused(void **state)
{
    (void)state;
    struct streams s;
    cudaGraphExec_t exec;
    float by = 5;
    streams_make(&s);
    assert_int_not_equal(record_pair(&s, &by, false, &exec), STATUS_OK);
    assert_non_null(strstr(status_message(), "capturing stream has unjoined work"));
    MUST_CUDA(cuda_status(cudaEventRecord(s.join, s.b), "event"));
    MUST_CUDA(cuda_status(cudaStreamBeginCapture(s.a, cudaStreamCaptureModeThreadLocal), "begin"));
    assert_int_equal(cudaStreamWaitEvent(s.a, s.join, 0), cudaErrorStreamCaptureIsolation);
    cudaGraph_t graph;
    MUST_CUDA(cuda_status(cudaStreamEndCapture(s.a, &graph), "end"));
    cudaGraphDestroy(graph);
    cudaGetLastError();
    streams_free(&s);
}

static __global__ void bad_kernel(float *x, int kind)
{
    __shared__ float shared[32];
    if (kind == 0 && threadIdx.x > 3) __syncthreads();
    if (kind == 1 && threadIdx.x == 7) return;
    if (kind == 1) warp_sum(1.0f);
    if (kind == 2) x[threadIdx.x] = (float)load_16(x + 1).x;
    if (kind == 3) cp_async_16(shared, x, true);
    if (kind == 4 && threadIdx.x < 16) __syncwarp(0xFFFFu);
    if (kind == 4 && threadIdx.x >= 16) __syncwarp();
    if (kind == 5) __shfl_sync(0xFFFFu << (threadIdx.x / 16 * 16), 1.0f, 3);
}

/* What bad_kernel prints, and its end. */
static void assert_refused(int kind, const char *message)
{
    int out[2];
    assert_int_equal(pipe(out), 0);
    float *x = device_array<float>(64);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(out[1], 2);
        (void)CUDA_LAUNCH(bad_kernel, 1, 32, 0, 0, x, kind);
        cudaDeviceSynchronize();
        _exit(0);
    }
    close(out[1]);
    char text[4096] = "";
    size_t length = 0;
    for (ssize_t n; (n = read(out[0], text + length, sizeof text - 1 - length)) > 0;) {
        length += (size_t)n;
    }
    close(out[0]);
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
    if (!strstr(text, message)) fail_msg("kind %d: no '%s' in '%s'", kind, message, text);
    device_free(x);
}

static void test_refused(void **state)
{
    (void)state;
    assert_refused(0, "which 4 of 32 threads never reach");
    assert_refused(1, "but lane 7 has ended");
    assert_refused(2, "a 16-byte access to the misaligned address");
    assert_refused(3, "ends before its asynchronous copies");
    assert_refused(4, "__syncwarp with the mask");
    assert_refused(5, "which is not in the mask");
    assert_refused(5, "emulated GPU: bad_kernel, block (0,0,0), thread (");
}

static void test_memory(void **state)
{
    (void)state;
    size_t free_before;
    size_t free_after;
    size_t total;
    void *memory;
    emulated_memory(1 << 20);
    assert_int_equal(cudaMalloc(&memory, 2 << 20), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMemGetInfo(&free_before, &total), cudaSuccess);
    assert_int_equal(cudaMalloc(&memory, 1000), cudaSuccess);
    assert_int_equal(cudaMemGetInfo(&free_after, &total), cudaSuccess);
    assert_int_equal(free_before - free_after, 1000);
    char host[16];
    assert_int_equal(cudaMemcpy(host, memory, 16, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(host, memory, 16, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_int_equal((unsigned char)host[3], 0xFF);
    assert_int_equal(cudaFree(host), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(memory), cudaSuccess);
    emulated_memory((size_t)1 << 34);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warp),
        cmocka_unit_test(test_block),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_graph),
        cmocka_unit_test(test_launch_refused),
#if defined(WEFT_CUDA_EMULATED)
        cmocka_unit_test(test_race_is_seen),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_recording_refused),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
