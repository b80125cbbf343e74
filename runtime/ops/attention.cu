/*
 * Attention on a GPU, the host's part: which kernels a shape gets, how it is cut into blocks, what
 * they keep in shared memory, and the reduction of the bias gradient.
 *
 * On tensor cores (attention_forward.cuh, attention_backward.cuh) a block takes whole places
 * (windows, or batch rows) as long as two blocks fit on a multiprocessor: then q, k, v and dout
 * are read once. Small blocks of few warps are better than large ones, because while one block
 * waits for its copies the others compute; so warps are what is missing to about 16 a
 * multiprocessor, rounded so that all have the same number of 16-row tiles.
 */
#include <stdlib.h>

#include "runtime/ops/attention_backward.cuh"
#include "runtime/ops/attention_cuda.h"
#include "runtime/ops/attention_exact.cuh"
#include "runtime/ops/attention_forward.cuh"
#include "runtime/ops/attention_node.h"
#include "runtime/ops/ops_cuda.h"

typedef void (*attention_kernel_function)(const struct attention_problem);

enum {
    MAX_LAUNCHES = 2,
    MAX_TENSOR_WINDOW = 24,
    PART_ROWS = 128,      /* of the side that comes in parts */
    PART_WARPS = 4,       /* of a block whose other side comes in parts */
    WANTED_BLOCKS = 2048, /* before a block gets a second place */
    MAX_GROUP = 8,
    REDUCE_SLICES = 8
};

/* One kernel launch. */
struct attention_launch {
    attention_kernel_function function;
    struct attention_problem problem;
    int64_t blocks;
    int threads;
    int shared_bytes;
};

struct attention_cuda {
    struct attention_launch launch[MAX_LAUNCHES];
    int num_launches;
    bool backward;
    bool tensor_cores;
    int64_t slots;      /* partial bias gradients */
    size_t delta_bytes; /* of scratch, before the partial gradients */
    size_t scratch_bytes;
};

/* The bias gradient: partial [slots, count] summed over slots in order, REDUCE_SLICES runs of slots
 * at a time; count = heads x table. */
static __global__ void __launch_bounds__(REDUCE_SLICES *WARP)
    attention_reduce_kernel(const float *partial, int slots, int heads, int table, float *dbias)
{
    __shared__ float sums[REDUCE_SLICES][WARP];
    int slice = (int)threadIdx.x / WARP;
    int64_t count = (int64_t)heads * table;
    int64_t entry = (int64_t)blockIdx.x * WARP + lane_id();
    int begin = (int)((int64_t)slots * slice / REDUCE_SLICES);
    int end = (int)((int64_t)slots * (slice + 1) / REDUCE_SLICES);
    float sum = 0.0f;
#pragma unroll 4
    for (int slot = begin; slot < end; slot++) {
        if (entry < count) sum += partial[slot * count + entry];
    }
    sums[slice][lane_id()] = sum;
    __syncthreads();
    if (slice > 0 || entry >= count) return;
    for (int n = 1; n < REDUCE_SLICES; n++) {
        sum += sums[n][lane_id()];
    }
    dbias[entry % table * heads + entry / table] = sum;
}

/* ---- kernels by template arguments ---- */

static attention_kernel_function find_forward(int dim, bool window)
{
    switch (dim) {
    case 16:
        return window ? attention_forward_kernel<16, true> : attention_forward_kernel<16, false>;
    case 32:
        return window ? attention_forward_kernel<32, true> : attention_forward_kernel<32, false>;
    default:
        return window ? attention_forward_kernel<64, true> : attention_forward_kernel<64, false>;
    }
}

/* *keys: up to how many fit in registers; 0: rows are swept twice. */
static attention_kernel_function find_backward(int dim, bool window, int groups)
{
    switch (dim) {
    case 16:
        return window ? attention_backward_kernel<16, true, 0>
                      : attention_backward_kernel<16, false, 0>;
    case 32:
        if (window && groups == 4) return attention_backward_kernel<32, true, 4>;
        if (window && groups == 9) return attention_backward_kernel<32, true, 9>;
        if (groups == 4) return attention_backward_kernel<32, false, 4>;
        return window ? attention_backward_kernel<32, true, 0>
                      : attention_backward_kernel<32, false, 0>;
    default:
        if (!window && groups == 4) return attention_backward_kernel<64, false, 4>;
        return window ? attention_backward_kernel<64, true, 0>
                      : attention_backward_kernel<64, false, 0>;
    }
}

/* Groups of 16 keys that short_rows holds for this call; 0: too many keys, or no such kernel. */
static int row_groups(int dim, bool window, int keys)
{
    if (dim == 16) return 0;
    if (keys <= 64 && (!window || dim == 32)) return 4;
    return window && dim == 32 && keys > 128 && keys <= 144 ? 9 : 0;
}

enum exact_pass { EXACT_FORWARD, EXACT_QUERIES, EXACT_KEYS };

template <typename T, int SLOTS>
static attention_kernel_function find_exact_of(enum exact_pass pass, int *block_rows,
                                               int *shared_bytes)
{
    *block_rows = exact_sizes<SLOTS>::block_rows;
    *shared_bytes = (int)sizeof(struct exact_backward_shared<SLOTS>);
    if (pass == EXACT_QUERIES) return attention_exact_backward_kernel<T, SLOTS, false>;
    if (pass == EXACT_KEYS) return attention_exact_backward_kernel<T, SLOTS, true>;
    *shared_bytes = (int)sizeof(float) * (exact_sizes<SLOTS>::own + 2 * exact_sizes<SLOTS>::tile +
                                          exact_sizes<SLOTS>::block_rows * WARP);
    return attention_exact_forward_kernel<T, SLOTS>;
}

template <typename T>
static attention_kernel_function find_exact(int64_t head_dim, enum exact_pass pass, int *block_rows,
                                            int *shared_bytes)
{
    if (head_dim <= 32) return find_exact_of<T, 1>(pass, block_rows, shared_bytes);
    if (head_dim <= 64) return find_exact_of<T, 2>(pass, block_rows, shared_bytes);
    return find_exact_of<T, 8>(pass, block_rows, shared_bytes);
}

/* ---- cutting ---- */

static int round_16(int64_t rows)
{
    return (int)(ceil_div(rows, 16) * 16);
}

/* Rows in shared memory of a side that may come in parts. */
static int part_rows(int rows, bool whole)
{
    int64_t most = PART_ROWS;
    return whole || rows < most ? round_16(rows) : (int)most;
}

static int take(int *used, int64_t bytes)
{
    int at = *used;
    *used += (int)(ceil_div(bytes, 128) * 128);
    return at;
}

/* Lays out shared memory for query_rows, key_rows and `warps`; returns its bytes. */
static int lay_out(struct attention_problem *p, int dim, int warps, bool backward, bool has_bias)
{
    struct attention_layout *at = &p->at;
    bool window = p->shape.window > 0;
    bool gradient = backward && window && has_bias && p->want_rows;
    bool parked =
        backward && p->want_columns && p->want_rows && row_groups(dim, window, p->nk) == 9;
    int64_t query_tile = (int64_t)p->query_rows * dim * 2;
    int64_t key_tile = (int64_t)p->key_rows * dim * 2;
    int used = 0;
    at->q = take(&used, query_tile);
    at->dout = take(&used, backward ? query_tile : 0);
    at->k = take(&used, key_tile);
    at->v = take(&used, key_tile);
    at->query_token = take(&used, 4 * p->query_rows);
    at->query_base = take(&used, 4 * p->query_rows);
    at->query_mark = take(&used, 4 * p->query_rows);
    at->lse = take(&used, backward ? 4 * p->query_rows : 0);
    at->delta = take(&used, backward ? 4 * p->query_rows : 0);
    at->key_token = take(&used, 4 * p->key_rows);
    at->key_base = take(&used, 4 * p->key_rows);
    at->key_mark = take(&used, 4 * p->key_rows);
    at->stage = take(&used, (int64_t)warps * 16 * dim * 2);
    at->bias = take(&used, window ? 4 * p->table : 0);
    at->dbias = take(&used, gradient ? 4 * p->table : 0);
    /* An odd number of 8-byte steps between rows keeps lanes in different banks. */
    p->scores_stride = round_16(p->nk) + 8;
    at->scores = take(&used, gradient || parked ? (int64_t)warps * 16 * p->scores_stride * 2 : 0);
    at->bytes = used;
    return used;
}

static int log_dim(int64_t head_dim)
{
    return head_dim <= 16 ? 16 : head_dim <= 32 ? 32 : 64;
}

/* Whether there is a GPU: plans are also made without one, to look at. */
static bool has_gpu(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

/* Shared memory that a block can have, an H100's without a GPU; a multiprocessor has about 1 KiB
 * more. */
static enum status shared_limit(int *bytes)
{
    int device = 0;
    *bytes = 227 * 1024;
    if (!has_gpu()) return STATUS_OK;
    CUDA_TRY(cudaGetDevice(&device));
    CUDA_TRY(cudaDeviceGetAttribute(bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    return STATUS_OK;
}

/* What all launches of a call have in common. */
static struct attention_problem base_problem(const struct attention_shape *s)
{
    struct attention_problem p;
    memset(&p, 0, sizeof p);
    const double log2e = 1.4426950408889634;
    int64_t tokens = s->window * s->window;
    p.shape = *s;
    p.nq = (int)(s->window ? tokens : s->query_len);
    p.nk = (int)(s->window ? tokens : s->key_len);
    p.windows = (int)(s->window ? s->query_len / tokens : 1);
    p.across = (int)(s->window ? s->grid_w / s->window : 1);
    p.table = (int)(s->window ? (2 * s->window - 1) * (2 * s->window - 1) : 0);
    p.places = (int)s->batch * p.windows;
    p.group = 1;
    p.row_blocks = 1;
    p.scale2 = (float)(s->scale * log2e);
    p.mask2 = (float)(s->mask_value * log2e);
    p.shift2 = (float)(ATTENTION_SHIFT_MASK * log2e);
    p.drop_below = (uint32_t)ceil(s->dropout * 0x1p24) << 8;
    p.keep_scale = 1.0f / (1.0f - s->dropout);
    return p;
}

/* Places that a block computes one after another: more than one where a bias is fetched for them
 * and there are blocks enough. */
static int choose_group(const struct attention_problem *p)
{
    if (!p->shape.window) return 1;
    int64_t blocks = (int64_t)p->places * p->shape.heads * p->row_blocks;
    int64_t group = blocks / WANTED_BLOCKS;
    if (group > MAX_GROUP) group = MAX_GROUP;
    return group < 1 ? 1 : (int)group;
}

static void set_launch(struct attention_launch *launch, attention_kernel_function function,
                       const struct attention_problem *p, int warps, int shared_bytes)
{
    launch->function = function;
    launch->problem = *p;
    launch->problem.group = choose_group(p);
    launch->blocks = p->shape.heads * p->row_blocks * ceil_div(p->places, launch->problem.group);
    launch->threads = warps * WARP;
    launch->shared_bytes = shared_bytes;
}

/* Warps of a block for `tiles` tiles of 16 rows, when blocks of `bytes` share a multiprocessor. */
static int choose_warps(int64_t tiles, int limit, int bytes, int wanted, int most)
{
    int blocks = limit / bytes < 1 ? 1 : limit / bytes;
    int warps = (int)ceil_div(wanted, blocks);
    warps = warps < 2 ? 2 : warps > most ? most : warps;
    return (int)ceil_div(tiles, ceil_div(tiles, warps));
}

/* Both sides whole; false when that leaves no room for a second block. */
static bool cut_whole(struct attention_problem *p, int dim, bool backward, bool has_bias, int limit,
                      int *warps)
{
    int64_t rows = p->nq > p->nk ? p->nq : p->nk;
    int64_t tiles = ceil_div(backward ? rows : p->nq, 16);
    if (rows > 1024) return false;
    p->query_rows = round_16(p->nq);
    p->key_rows = round_16(p->nk);
    p->block_rows = (int)rows;
    p->row_blocks = 1;
    int bytes = lay_out(p, dim, 2, backward, has_bias);
    int most = backward ? BACKWARD_THREADS / WARP : FORWARD_THREADS / WARP;
    *warps = choose_warps(tiles, limit, bytes, backward ? 10 : 16, most);
    while (lay_out(p, dim, *warps, backward, has_bias) > limit / 2) {
        if (*warps <= 2) return false;
        --*warps;
    }
    return true;
}

static enum status plan_forward(struct attention_cuda *plan, const struct attention_shape *s,
                                bool has_bias, int limit)
{
    struct attention_problem p = base_problem(s);
    int dim = log_dim(s->head_dim);
    int warps = PART_WARPS;
    if (!cut_whole(&p, dim, false, has_bias, limit, &warps)) {
        warps = PART_WARPS;
        p.block_rows = p.query_rows = 16 * warps;
        p.row_blocks = (int)ceil_div(p.nq, p.block_rows);
        p.key_rows = part_rows(p.nk, s->window > 0);
    }
    int bytes = lay_out(&p, dim, warps, false, has_bias);
    set_launch(&plan->launch[0], find_forward(dim, s->window > 0), &p, warps, bytes);
    plan->num_launches = 1;
    return STATUS_OK;
}

static enum status plan_backward(struct attention_cuda *plan, const struct attention_shape *s,
                                 bool has_bias, int limit)
{
    struct attention_problem p = base_problem(s);
    bool window = s->window > 0;
    int dim = log_dim(s->head_dim);
    int warps = PART_WARPS;
    p.want_rows = p.want_columns = true;
    if (cut_whole(&p, dim, true, has_bias, limit, &warps)) {
        int bytes = lay_out(&p, dim, warps, true, has_bias);
        int groups = row_groups(dim, window, p.nk);
        set_launch(&plan->launch[0], find_backward(dim, window, groups), &p, warps, bytes);
        plan->num_launches = 1;
        return STATUS_OK;
    }
    warps = PART_WARPS;
    p.want_columns = false;
    p.block_rows = p.query_rows = 16 * warps;
    p.row_blocks = (int)ceil_div(p.nq, p.block_rows);
    p.key_rows = part_rows(p.nk, window);
    int bytes = lay_out(&p, dim, warps, true, has_bias);
    set_launch(&plan->launch[0], find_backward(dim, window, 0), &p, warps, bytes);
    p.want_rows = false;
    p.want_columns = true;
    p.block_rows = p.key_rows = 16 * warps;
    p.row_blocks = (int)ceil_div(p.nk, p.block_rows);
    p.query_rows = part_rows(p.nq, false);
    bytes = lay_out(&p, dim, warps, true, has_bias);
    set_launch(&plan->launch[1], find_backward(dim, window, 0), &p, warps, bytes);
    plan->num_launches = 2;
    return STATUS_OK;
}

static void plan_exact(struct attention_launch *launch, const struct attention_shape *s,
                       enum exact_pass pass, bool has_bias)
{
    struct attention_problem p = base_problem(s);
    int bytes = 0;
    attention_kernel_function function =
        s->bf16 ? find_exact<uint16_t>(s->head_dim, pass, &p.block_rows, &bytes)
                : find_exact<float>(s->head_dim, pass, &p.block_rows, &bytes);
    p.row_blocks = (int)ceil_div(pass == EXACT_KEYS ? p.nk : p.nq, p.block_rows);
    bool gradient = pass == EXACT_QUERIES && has_bias;
    if (gradient) bytes += EXACT_WARPS * p.table * (int)sizeof(float);
    set_launch(launch, function, &p, EXACT_WARPS, bytes);
    if (gradient) return;
    launch->problem.group = 1;
    launch->blocks = p.shape.heads * p.row_blocks * (int64_t)p.places;
}

/* ---- plans ---- */

static bool stride_is_even(struct attention_stride stride)
{
    return stride.batch % 8 == 0 && stride.token % 8 == 0;
}

static bool suits_tensor_cores(const struct attention_shape *s, bool has_mask, bool backward)
{
    if (!s->bf16 || s->head_dim % 8 != 0 || s->head_dim > 64) return false;
    if (s->window && (has_mask || s->dropout > 0 || s->window > MAX_TENSOR_WINDOW)) return false;
    bool even = stride_is_even(s->q) && stride_is_even(s->k) && stride_is_even(s->v) &&
                stride_is_even(s->o);
    return even && (!backward || (stride_is_even(s->dq) && stride_is_even(s->dk) &&
                                  stride_is_even(s->dv) && stride_is_even(s->dout)));
}

static enum status allow_launch(const struct attention_launch *launch, int limit)
{
    CHECK(launch->shared_bytes <= limit, STATUS_UNSUPPORTED,
          "attention: window %lld with head size %lld needs %d KiB of shared memory, the GPU has "
          "%d; use a smaller window",
          (long long)launch->problem.shape.window, (long long)launch->problem.shape.head_dim,
          launch->shared_bytes / 1024, limit / 1024);
    CHECK(launch->blocks <= INT32_MAX, STATUS_UNSUPPORTED, "attention: %lld blocks exceed a grid",
          (long long)launch->blocks);
    /* A kernel is in many plans: the limit is that of all. */
    return has_gpu() ? CUDA_ALLOW_SHARED(launch->function, limit) : STATUS_OK;
}

static enum status make_plan(const struct attention_shape *s, bool has_mask, bool has_bias,
                             bool backward, struct attention_cuda *plan)
{
    int limit = 0;
    TRY(shared_limit(&limit));
    plan->backward = backward;
    plan->tensor_cores = suits_tensor_cores(s, has_mask, backward);
    if (plan->tensor_cores) {
        TRY(backward ? plan_backward(plan, s, has_bias, limit)
                     : plan_forward(plan, s, has_bias, limit));
    } else if (backward) {
        plan_exact(&plan->launch[0], s, EXACT_QUERIES, has_bias);
        plan_exact(&plan->launch[1], s, EXACT_KEYS, has_bias);
        plan->num_launches = 2;
    } else {
        plan_exact(&plan->launch[0], s, EXACT_FORWARD, has_bias);
        plan->num_launches = 1;
    }
    for (int i = 0; i < plan->num_launches; i++) {
        TRY(allow_launch(&plan->launch[i], limit));
    }
    if (!backward) return STATUS_OK;
    const struct attention_launch *rows = &plan->launch[0];
    plan->slots = has_bias ? rows->blocks / s->heads : 0;
    plan->delta_bytes = (size_t)ceil_div(s->batch * s->heads * s->query_len * 4, 64) * 64;
    plan->scratch_bytes =
        plan->delta_bytes + (size_t)(plan->slots * s->heads * rows->problem.table) * sizeof(float);
    return STATUS_OK;
}

extern "C" enum status attention_cuda_create(const struct attention_shape *shape, bool has_mask,
                                             bool has_bias, bool backward,
                                             struct attention_cuda **plan)
{
    *plan = NULL;
    struct attention_cuda *made =
        static_cast<struct attention_cuda *>(calloc(1, sizeof(struct attention_cuda)));
    CHECK(made, STATUS_NO_MEMORY, "out of memory");
    enum status status = make_plan(shape, has_mask, has_bias, backward, made);
    if (status == STATUS_OK) {
        *plan = made;
    } else {
        free(made);
    }
    return status;
}

extern "C" void attention_cuda_destroy(struct attention_cuda **plan)
{
    free(*plan);
    *plan = NULL;
}

extern "C" size_t attention_cuda_scratch(const struct attention_cuda *plan)
{
    return plan->scratch_bytes;
}

/* ---- runs ---- */

static bool is_aligned(const void *p)
{
    return ((uintptr_t)p & 15) == 0;
}

extern "C" enum status attention_cuda_run(const struct attention_cuda *plan,
                                          const struct attention_tensors *t,
                                          const struct cuda_values *values, void *stream_handle)
{
    cudaStream_t stream = static_cast<cudaStream_t>(stream_handle);
    CHECK(!plan->tensor_cores ||
              (is_aligned(t->q) && is_aligned(t->k) && is_aligned(t->v) && is_aligned(t->o) &&
               is_aligned(t->dout) && is_aligned(t->dq) && is_aligned(t->dk) && is_aligned(t->dv)),
          STATUS_INTERNAL, "attention: a tensor is not aligned to 16 bytes");
    float *delta = static_cast<float *>(t->scratch);
    float *partial = delta ? delta + plan->delta_bytes / sizeof(float) : NULL;
    for (int i = 0; i < plan->num_launches; i++) {
        const struct attention_launch *launch = &plan->launch[i];
        struct attention_problem p = launch->problem;
        p.tensors = *t;
        p.values = values;
        p.delta = delta;
        p.partial = partial;
        TRY(CUDA_LAUNCH(launch->function, (unsigned)launch->blocks, (unsigned)launch->threads,
                        (size_t)launch->shared_bytes, stream, p));
    }
    if (!plan->backward || !plan->slots) return STATUS_OK;
    const struct attention_problem *p = &plan->launch[0].problem;
    int heads = (int)p->shape.heads;
    return CUDA_LAUNCH(attention_reduce_kernel, (unsigned)ceil_div((int64_t)heads * p->table, WARP),
                       REDUCE_SLICES * WARP, 0, stream, partial, (int)plan->slots, heads, p->table,
                       t->dbias_table);
}

/* ---- ops ---- */

static enum status prepare_pass(struct kernel *kernel, bool backward)
{
    struct attention_shape shape;
    bool has_mask = false;
    bool has_bias = false;
    struct attention_cuda *plan = NULL;
    attention_node_describe(kernel->node, &shape, &has_mask, &has_bias);
    TRY(attention_cuda_create(&shape, has_mask, has_bias, backward, &plan));
    kernel->state = plan;
    kernel->scratch_size = attention_cuda_scratch(plan);
    return STATUS_OK;
}

static enum status attention_prepare_cuda(struct kernel *kernel)
{
    return prepare_pass(kernel, false);
}

static enum status attention_grad_prepare_cuda(struct kernel *kernel)
{
    return prepare_pass(kernel, true);
}

static enum status attention_run_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct attention_cuda *plan = static_cast<const struct attention_cuda *>(kernel->state);
    struct run_context context;
    memset(&context, 0, sizeof context);
    context.seed = run->seed;
    struct attention_tensors tensors;
    attention_node_tensors(kernel, &plan->launch[0].problem.shape, &context, &tensors);
    return attention_cuda_run(plan, &tensors, run->values, run->stream);
}

static void attention_release_cuda(struct kernel *kernel)
{
    struct attention_cuda *plan = static_cast<struct attention_cuda *>(kernel->state);
    attention_cuda_destroy(&plan);
    kernel->state = NULL;
}

const struct cuda_op cuda_op_attention = {&op_row_attention, attention_prepare_cuda,
                                          attention_run_cuda, attention_release_cuda, NULL};
const struct cuda_op cuda_op_attention_grad = {&op_row_attention_grad, attention_grad_prepare_cuda,
                                               attention_run_cuda, attention_release_cuda, NULL};
