/*
 * The attention kernels for GPUs against f64: all features, sizes at the edges of tiles, both
 * element types, and that two runs give the same bits in whatever order threads run. timeout=240
 */
#define CASE_PAD 8 /* keeps rows aligned to 16 bytes, as the tensor-core kernels want them */
#include "runtime/ops/attention_cuda.h"
#include "tests/cuda/cuda_check.h"
#include "tests/runtime/ops/attention_rows.h"

/* A case with its tensors in device memory. */
struct device_case {
    struct attention_case host;
    struct attention_tensors tensors;
    void *in, *kv, *out, *dout, *din, *dkv;
    float *lse, *bias, *dbias;
    int32_t *mask;
    struct cuda_values *values;
};

static void *upload(const struct case_packed *p)
{
    return to_device(static_cast<const char *>(p->data), (int64_t)packed_bytes(p));
}

static void download(const struct case_packed *p, const void *memory)
{
    from_device(static_cast<char *>(p->data), static_cast<const char *>(memory),
                (int64_t)packed_bytes(p));
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
    const struct cuda_values values = {h->tensors.random.step, h->tensors.random.sample_base};
    c->values = to_device(&values, 1);
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
    void *all[] = {c->in,  c->kv,   c->out,   c->dout, c->din,   c->dkv,
                   c->lse, c->bias, c->dbias, c->mask, c->values};
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
    MUST_CUDA(attention_cuda_run(plan, &c->tensors, c->values, NULL));
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

/* ---- sizes and features ---- */

static void check_row(const struct case_row *row, bool is_bf16, bool bias, uint64_t seed)
{
    struct device_case c;
    device_case_init(&c, case_row_shape(row, is_bf16), bias, row->masked, seed);
    naive_run(&c.host.naive);
    device_case_run(&c, seed + 1);
    case_check(&c.host, row->name, "GPU");
    device_case_fini(&c);
}

static void check_all(bool is_bf16)
{
    const char *only = getenv("WEFT_TEST_ROW");
    for (int i = 0; i < CASE_ROWS; i++) {
        const struct case_row *row = &case_rows[i];
        if (only && !strstr(row->name, only)) continue;
        check_row(row, is_bf16, row->window > 0, (uint64_t)i);
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

/* Windows whose scores have a place in shared memory for the bias gradient, and one without. */
static void test_window_without_bias(void **state)
{
    (void)state;
    static const struct case_row rows[] = {
        {"window 12, no bias", 1, 288, 288, 1, 32, 12, 6, 12, 24, false, false, 0},
        {"window 8, no bias", 1, 64, 64, 1, 64, 8, 4, 8, 8, false, false, 0},
    };
    for (uint64_t i = 0; i < 4; i++) {
        check_row(&rows[i / 2], i % 2, false, i);
    }
}

/* ---- numbers ---- */

/* Whatever the order in which threads run, and again: the same bits. Windows shifted on a grid of
 * several, text with everything, and rows that come in parts. */
static void test_reproducible(void **state)
{
    (void)state;
    static const struct case_row same[] = {
        {"windows", 2, 196, 196, 2, 32, 7, 3, 14, 14, false, false, 0},
        {"text", 2, 37, 37, 2, 64, 0, 0, 0, 0, true, true, 0.1f},
        {"parts", 1, 70, 300, 1, 64, 0, 0, 0, 0, false, true, 0},
    };
    for (int n = 0; n < 6; n++) {
        struct device_case c;
        device_case_init(&c, case_row_shape(&same[n / 2], n % 2), same[n / 2].window > 0,
                         same[n / 2].masked, (uint64_t)n);
        struct attention_case *h = &c.host;
        device_case_run(&c, 1);
        void *out = copy_of(h->out.data, packed_bytes(&h->out));
        void *din = copy_of(h->din.data, packed_bytes(&h->din));
        void *dkv = copy_of(h->dkv.data, packed_bytes(&h->dkv));
        void *lse = copy_of(h->lse, (size_t)num_lse(&h->shape) * 4);
        void *dbias = h->dbias ? copy_of(h->dbias, (size_t)num_bias(&h->shape) * 4) : NULL;
        for (uint64_t seed = 2; seed <= 5; seed++) {
            case_reset(h);
            device_case_run(&c, seed);
            assert_memory_equal(out, h->out.data, packed_bytes(&h->out));
            assert_memory_equal(din, h->din.data, packed_bytes(&h->din));
            assert_memory_equal(dkv, h->dkv.data, packed_bytes(&h->dkv));
            assert_memory_equal(lse, h->lse, (size_t)num_lse(&h->shape) * 4);
            if (dbias) assert_memory_equal(dbias, h->dbias, (size_t)num_bias(&h->shape) * 4);
        }
        free(out);
        free(din);
        free(dkv);
        free(lse);
        free(dbias);
        device_case_fini(&c);
    }
}

/* Writes an element of q, k or v (part) of a self-attention case, on both sides. */
static void put_input(struct device_case *c, int64_t token, int64_t column, float value)
{
    packed_put(&c->host.in, token * packed_stride(&c->host.in) + column, value);
}

static void send_inputs(struct device_case *c)
{
    device_free(c->in);
    device_free(c->kv);
    struct attention_case *h = &c->host;
    bool self = h->shape.query_len == h->shape.key_len;
    int part = self ? 1 : 0;
    c->in = upload(&h->in);
    c->kv = upload(&h->kv);
    c->tensors.q = c->in;
    c->tensors.k = slice_of(self ? &h->in : &h->kv, self ? c->in : c->kv, part);
    c->tensors.v = slice_of(self ? &h->in : &h->kv, self ? c->in : c->kv, part + 1);
}

/* See case_make_even. Rows held in registers, swept twice, and of the kernel in f32 arithmetic. */
static void test_even_softmax(void **state)
{
    (void)state;
    static const struct case_row even[] = {
        {"short", 1, 40, 40, 3, 64, 0, 0, 0, 0, false, false, 0},
        {"long", 1, 200, 200, 1, 64, 0, 0, 0, 0, false, false, 0},
        {"exact", 1, 40, 40, 1, 65, 0, 0, 0, 0, false, false, 0},
    };
    for (size_t n = 0; n < sizeof even / sizeof even[0]; n++) {
        struct device_case c;
        device_case_init(&c, case_row_shape(&even[n], true), false, false, 9);
        struct naive *naive = &c.host.naive;
        case_make_even(&c.host);
        send_inputs(&c);
        naive_run(naive);
        device_case_run(&c, 3);
        double dq = packed_norm_error(&c.host.din, 0, naive->dq);
        double dk = packed_norm_error(&c.host.din, 1, naive->dk);
        if (!(dq < CASE_EVEN_ERROR) || !(dk < CASE_EVEN_ERROR)) {
            fail_msg("%s: dq is off by %.3g, dk by %.3g", even[n].name, dq, dk);
        }
        device_case_fini(&c);
    }
}

/* Hiding every key of a row gives the bits of hiding none; -infinity hides a key entirely. */
static void test_hidden_rows(void **state)
{
    (void)state;
    for (int is_bf16 = 0; is_bf16 < 2; is_bf16++) {
        static const struct case_row small = {"", 1, 70, 70, 1, 32, 0, 0, 0, 0, false, true, 0};
        struct device_case c;
        device_case_init(&c, case_row_shape(&small, is_bf16), false, true, 5);
        struct attention_case *h = &c.host;
        int32_t *mask = c.mask;
        c.mask = NULL;
        c.tensors.key_mask = NULL;
        device_case_run(&c, 1);
        void *out = copy_of(h->out.data, packed_bytes(&h->out));
        void *din = copy_of(h->din.data, packed_bytes(&h->din));
        c.mask = mask;
        c.tensors.key_mask = mask;
        MUST_CUDA(cuda_status(cudaMemset(mask, 0, 70 * sizeof *mask), "cudaMemset"));
        for (int value = 0; value < 2; value++) {
            h->shape.mask_value = value ? -INFINITY : -10000.0f;
            device_case_run(&c, 2);
            assert_memory_equal(out, h->out.data, packed_bytes(&h->out));
            assert_memory_equal(din, h->din.data, packed_bytes(&h->din));
        }
        /* Only key 66 left, beyond the first ones that a warp sees: o is its value. */
        memset(h->mask, 0, 70 * sizeof *h->mask);
        h->mask[66] = 1;
        MUST_CUDA(cuda_status(cudaMemcpy(mask, h->mask, 70 * sizeof *mask, cudaMemcpyHostToDevice),
                              "cudaMemcpy"));
        device_case_run(&c, 3);
        for (int64_t d = 0; d < 32; d++) {
            double value = packed_get(&h->in, 66 * packed_stride(&h->in) + 64 + d);
            double o = packed_get(&h->out, 5 * packed_stride(&h->out) + d);
            assert_true(fabs(o - value) <= 1e-6 * fabs(value));
            assert_true(isfinite(packed_get(&h->din, d)));
        }
        free(out);
        free(din);
        device_case_fini(&c);
    }
}

/* A NaN in one query spoils its row of o and dq and what sums over rows, and no other row; scores
 * far apart neither overflow nor make NaN. */
static void test_nan_and_large(void **state)
{
    (void)state;
    for (int is_bf16 = 0; is_bf16 < 2; is_bf16++) {
        static const struct case_row cross = {"", 1, 20, 37, 1, 32, 0, 0, 0, 0, false, false, 0};
        struct device_case c;
        device_case_init(&c, case_row_shape(&cross, is_bf16), false, false, 6);
        struct attention_case *h = &c.host;
        put_input(&c, 7, 3, NAN);
        put_input(&c, 8, 3, 1e30f);
        put_input(&c, 9, 3, -1e30f);
        send_inputs(&c);
        device_case_run(&c, 1);
        for (int64_t i = 0; i < 20; i++) {
            assert_int_equal(isnan(packed_get(&h->out, i * packed_stride(&h->out))), i == 7);
            assert_int_equal(isnan(packed_get(&h->din, i * packed_stride(&h->din))), i == 7);
            assert_int_equal(isnan(h->lse[i]), i == 7);
        }
        assert_true(isnan(packed_get(&h->dkv, 0)));
        device_case_fini(&c);
    }
}

/* ---- plans ---- */

static void test_refused(void **state)
{
    (void)state;
    static const struct case_row wide = {"", 1, 4096, 4096, 1, 32, 64, 0, 64, 64, false, false, 0};
    struct attention_shape shape = case_row_shape(&wide, true);
    shape.q.batch = shape.k.batch = shape.v.batch = shape.o.batch = 4096 * 32;
    shape.q.token = shape.k.token = shape.v.token = shape.o.token = 32;
    shape.dq = shape.dk = shape.dv = shape.dout = shape.q;
    struct attention_cuda *plan = NULL;
    assert_int_equal(attention_cuda_create(&shape, false, true, true, &plan), STATUS_UNSUPPORTED);
    assert_null(plan);
    assert_non_null(strstr(status_message(), "attention: window 64 with head size 32 needs 278 KiB "
                                             "of shared memory, the GPU has 227"));
    /* Its forward needs no table. */
    MUST_CUDA(attention_cuda_create(&shape, false, true, false, &plan));
    assert_int_equal(attention_cuda_scratch(plan), 0);
    attention_cuda_destroy(&plan);
    attention_cuda_destroy(&plan);
    /* A tensor that 16-byte copies cannot read. */
    static const struct case_row text = {"", 1, 4, 4, 1, 32, 0, 0, 0, 0, false, false, 0};
    struct device_case c;
    device_case_init(&c, case_row_shape(&text, true), false, false, 1);
    MUST_CUDA(attention_cuda_create(&c.host.shape, false, false, false, &plan));
    c.tensors.q = static_cast<char *>(c.in) + 2;
    assert_int_equal(attention_cuda_run(plan, &c.tensors, c.values, NULL), STATUS_INTERNAL);
    assert_non_null(strstr(status_message(), "not aligned to 16 bytes"));
    attention_cuda_destroy(&plan);
    device_case_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_window_without_bias),
        cmocka_unit_test(test_reproducible),
        cmocka_unit_test(test_even_softmax),
        cmocka_unit_test(test_hidden_rows),
        cmocka_unit_test(test_nan_and_large),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
