/*
 * The attention kernels for GPUs against f64: all features, sizes at the edges of tiles, both
 * element types, and that two runs give the same bits in whatever order threads run. timeout=240
 */
#define CASE_PAD 8 /* keeps rows aligned to 16 bytes, as the tensor-core kernels want them */
#include "runtime/ops/attention_cuda.h"
#include "tests/cuda/cuda_check.h"
#include "tests/runtime/ops/attention_case.h"

/* As in tests/runtime/ops/test_attention_kernel.c, but that exponentials have an error of 2^-22
 * and sums another order. */
static const double tolerance[2][CASE_RESULTS] = {
    /* o     lse   dq    dk    dv    dbias */
    {4e-6, 2e-6, 8e-6, 8e-6, 8e-6, 8e-6},
    {8e-3, 2e-6, 1.5e-2, 1.5e-2, 1e-2, 1.5e-2},
};

/* A case with its tensors in device memory. */
struct device_case {
    struct attention_case host;
    struct attention_tensors tensors;
    void *in, *kv, *out, *dout, *din, *dkv;
    float *lse, *bias, *dbias;
    int32_t *mask;
    struct attention_run *run;
};

static int64_t packed_bytes(const struct case_packed *p)
{
    return packed_count(p) * (p->bf16 ? 2 : 4);
}

static void *upload(const struct case_packed *p)
{
    return to_device(static_cast<const char *>(p->data), packed_bytes(p));
}

static void download(const struct case_packed *p, const void *memory)
{
    from_device(static_cast<char *>(p->data), static_cast<const char *>(memory), packed_bytes(p));
}

static int64_t num_lse(const struct attention_shape *s)
{
    return s->batch * s->heads * s->query_len;
}

static int64_t num_bias(const struct attention_shape *s)
{
    return (2 * s->window - 1) * (2 * s->window - 1) * s->heads;
}

static void *slice_of(const struct case_packed *p, void *memory, int64_t part)
{
    return static_cast<char *>(memory) + part * p->width * (p->bf16 ? 2 : 4);
}

static void device_case_init(struct device_case *c, struct attention_shape shape, bool bias,
                             bool masked, uint64_t seed)
{
    struct attention_case *h = &c->host;
    case_init(h, shape, bias, masked, seed);
    const struct attention_shape *s = &h->shape;
    bool self = s->query_len == s->key_len;
    int part = self ? 1 : 0;
    c->in = upload(&h->in);
    c->kv = upload(&h->kv);
    c->out = upload(&h->out);
    c->dout = upload(&h->dout);
    c->din = upload(&h->din);
    c->dkv = upload(&h->dkv);
    c->lse = device_array<float>(num_lse(s));
    c->bias = bias ? to_device(h->bias, num_bias(s)) : NULL;
    c->dbias = bias ? device_array<float>(num_bias(s)) : NULL;
    c->mask = masked ? to_device(h->mask, s->batch * s->key_len) : NULL;
    const struct attention_run run = {h->tensors.random.step, h->tensors.random.sample_base};
    c->run = to_device(&run, 1);
    struct attention_tensors *t = &c->tensors;
    *t = h->tensors;
    t->q = c->in;
    t->k = slice_of(self ? &h->in : &h->kv, self ? c->in : c->kv, part);
    t->v = slice_of(self ? &h->in : &h->kv, self ? c->in : c->kv, part + 1);
    t->key_mask = c->mask;
    t->bias_table = c->bias;
    t->o = c->out;
    t->lse = c->lse;
    t->dout = c->dout;
    t->dq = c->din;
    t->dk = slice_of(self ? &h->din : &h->dkv, self ? c->din : c->dkv, part);
    t->dv = slice_of(self ? &h->din : &h->dkv, self ? c->din : c->dkv, part + 1);
    t->dbias_table = c->dbias;
}

static void device_case_fini(struct device_case *c)
{
    void *all[] = {c->in,  c->kv,   c->out,   c->dout, c->din, c->dkv,
                   c->lse, c->bias, c->dbias, c->mask, c->run};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i]) device_free(all[i]);
    }
    case_fini(&c->host);
}

static void device_case_pass(struct device_case *c, bool backward)
{
    const struct attention_shape *s = &c->host.shape;
    struct attention_cuda *plan = NULL;
    MUST_CUDA(attention_cuda_create(s, c->mask != NULL, c->bias != NULL, backward, &plan));
    char *scratch = device_array<char>((int64_t)attention_cuda_scratch(plan) + 1);
    c->tensors.scratch = scratch;
    MUST_CUDA(attention_cuda_run(plan, &c->tensors, c->run, NULL));
    MUST_CUDA(cuda_status(cudaDeviceSynchronize(), "synchronise"));
    device_free(scratch);
    attention_cuda_destroy(&plan);
    assert_null(plan);
}

/* Forward and backward; the results are in the host's tensors then. */
static void device_case_run(struct device_case *c, uint64_t seed)
{
    struct attention_case *h = &c->host;
    const struct attention_shape *s = &h->shape;
    emulated_seed(seed);
    device_case_pass(c, false);
    device_case_pass(c, true);
    download(&h->out, c->out);
    download(&h->din, c->din);
    download(&h->dkv, c->dkv);
    from_device(h->lse, c->lse, num_lse(s));
    if (c->dbias) from_device(h->dbias, c->dbias, num_bias(s));
}

static void check_results(const struct attention_case *c, const char *name)
{
    static const char *const names[CASE_RESULTS] = {"o", "lse", "dq", "dk", "dv", "dbias"};
    double error[CASE_RESULTS];
    case_errors(c, error);
    for (int i = 0; i < CASE_RESULTS; i++) {
        if (error[i] <= tolerance[c->shape.bf16][i]) continue;
        fail_msg("%s, %s: %s is off by %.3g, allowed %.3g", name, c->shape.bf16 ? "bf16" : "f32",
                 names[i], error[i], tolerance[c->shape.bf16][i]);
    }
    assert_true(packed_gaps_intact(&c->out) && packed_gaps_intact(&c->din));
    assert_true(packed_gaps_intact(&c->dkv));
}

/* ---- sizes and features ---- */

struct row {
    const char *name;
    int64_t batch, query_len, key_len, heads, head_dim;
    int64_t window, shift, grid_h, grid_w;
    bool causal, masked;
    float dropout;
};

static const struct row rows[] = {
    {"one token", 1, 1, 1, 1, 1, 0, 0, 0, 0, false, false, 0},
    {"one token of 32", 2, 1, 1, 2, 32, 0, 0, 0, 0, false, false, 0},
    {"one key", 2, 5, 1, 2, 16, 0, 0, 0, 0, false, false, 0},
    {"one query", 2, 1, 7, 2, 32, 0, 0, 0, 0, false, true, 0},
    {"text", 2, 40, 40, 3, 64, 0, 0, 0, 0, false, true, 0.1f},
    {"text, causal", 2, 40, 40, 2, 64, 0, 0, 0, 0, true, false, 0},
    {"causal, masked, dropout", 3, 37, 37, 2, 32, 0, 0, 0, 0, true, true, 0.25f},
    {"64 tokens", 1, 64, 64, 1, 16, 0, 0, 0, 0, false, false, 0},
    {"65 tokens", 1, 65, 65, 1, 32, 0, 0, 0, 0, false, true, 0},
    {"145 tokens", 1, 145, 145, 1, 32, 0, 0, 0, 0, false, false, 0},
    {"image to text", 2, 144, 50, 2, 32, 0, 0, 0, 0, false, true, 0},
    {"text to image", 2, 50, 144, 1, 64, 0, 0, 0, 0, false, false, 0.1f},
    {"long", 1, 65, 577, 1, 64, 0, 0, 0, 0, false, true, 0},
    {"long queries, causal", 1, 300, 300, 1, 64, 0, 0, 0, 0, true, true, 0},
    {"odd head", 2, 13, 21, 3, 7, 0, 0, 0, 0, false, true, 0.5f},
    {"head 24", 1, 33, 17, 1, 24, 0, 0, 0, 0, false, false, 0},
    {"head 40", 2, 33, 17, 2, 40, 0, 0, 0, 0, false, false, 0},
    {"head 80", 1, 17, 35, 2, 80, 0, 0, 0, 0, false, true, 0},
    {"head 256", 1, 9, 18, 1, 256, 0, 0, 0, 0, false, false, 0},
    {"window 7", 2, 49, 49, 2, 32, 7, 0, 7, 7, false, false, 0},
    {"window 7, oblong", 2, 294, 294, 2, 16, 7, 3, 14, 21, false, false, 0},
    {"window 8", 1, 64, 64, 1, 64, 8, 4, 8, 8, false, false, 0},
    {"window 12", 1, 576, 576, 1, 32, 12, 0, 24, 24, false, false, 0},
    {"window 12 shifted", 2, 576, 576, 1, 32, 12, 6, 24, 24, false, false, 0},
    {"window 2", 2, 24, 24, 3, 32, 2, 1, 4, 6, false, false, 0},
    {"window 1", 2, 6, 6, 2, 32, 1, 0, 2, 3, false, false, 0},
    {"window 5, all", 3, 150, 150, 2, 24, 5, 2, 10, 15, false, true, 0.2f},
    {"window 18", 1, 324, 324, 1, 32, 18, 0, 18, 18, false, false, 0},
    {"window 24", 1, 576, 576, 1, 32, 24, 0, 24, 24, false, false, 0},
};

static struct attention_shape shape_of(const struct row *row, bool is_bf16)
{
    struct attention_shape s;
    memset(&s, 0, sizeof s);
    s.batch = row->batch;
    s.query_len = row->query_len;
    s.key_len = row->key_len;
    s.heads = row->heads;
    s.head_dim = row->head_dim;
    s.bf16 = is_bf16;
    s.scale = 1 / sqrtf((float)row->head_dim);
    s.causal = row->causal;
    s.mask_value = -10000;
    s.window = row->window;
    s.shift = row->shift;
    s.grid_h = row->grid_h;
    s.grid_w = row->grid_w;
    s.dropout = row->dropout;
    return s;
}

static void check_all(bool is_bf16)
{
    const char *only = getenv("WEFT_TEST_ROW");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (only && !strstr(rows[i].name, only)) continue;
        struct device_case c;
        device_case_init(&c, shape_of(&rows[i], is_bf16), rows[i].window > 0, rows[i].masked, i);
        naive_run(&c.host.naive);
        device_case_run(&c, i + 1);
        check_results(&c.host, rows[i].name);
        device_case_fini(&c);
    }
}

static void test_f32(void **state)
{
    (void)state;
    check_all(false);
}

static void test_bf16(void **state)
{
    (void)state;
    check_all(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
