#include "runtime/backend/cpu/matmul.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/backend/cpu/dnnl_util.h"
#include "runtime/backend/cpu/pack.h"
#include "runtime/base/bf16.h"
#include "runtime/base/log.h"

_Thread_local int dnnl_depth;

struct product {
    dnnl_primitive_t primitive;
    dnnl_memory_t scratch;
};

struct cpu_matmul {
    struct cpu_matmul_spec spec; /* of the oneDNN product: f32 throughout when widened */
    struct product plain;        /* overwrites c, or always adds */
    struct product adding;       /* with may_add */
    dnnl_memory_t a, b, c, bias;
    struct pack *pack;
    struct cpu_matmul *inner; /* the f32 product behind a widened one */
    size_t inner_scratch;
};

/* ---- descriptors ---- */

struct descriptors {
    dnnl_memory_desc_t a, b, c, bias;
};

static enum status describe(const struct cpu_matmul_spec *s, struct descriptors *d)
{
    int64_t a_strides[3] = {s->m * s->k, s->transpose_a ? 1 : s->k, s->transpose_a ? s->m : 1};
    int64_t b_strides[3] = {s->k * s->n, s->transpose_b ? 1 : s->n, s->transpose_b ? s->k : 1};
    int64_t c_strides[3] = {s->m * s->n, s->n, 1};
    int64_t bias_strides[3] = {s->n, s->n, 1};
    int64_t a_dims[3] = {s->batch, s->m, s->k};
    int64_t b_dims[3] = {s->batch, s->k, s->n};
    int64_t c_dims[3] = {s->batch, s->m, s->n};
    int64_t bias_dims[3] = {1, 1, s->n};
    int skip = s->batch == 1 ? 1 : 0;
    int rank = 3 - skip;
    TRY(dnnl_desc(&d->a, rank, a_dims + skip, s->dtype_a, a_strides + skip));
    TRY(dnnl_desc(&d->b, rank, b_dims + skip, s->dtype_b, b_strides + skip));
    TRY(dnnl_desc(&d->c, rank, c_dims + skip, s->dtype_c, c_strides + skip));
    return dnnl_desc(&d->bias, rank, bias_dims + skip, DTYPE_F32, bias_strides + skip);
}

static enum status make_attributes(const struct cpu_matmul_spec *s, bool add,
                                   dnnl_primitive_attr_t *attributes)
{
    TRY_DNNL(dnnl_primitive_attr_create(attributes));
    TRY_DNNL(dnnl_primitive_attr_set_scratchpad_mode(*attributes, dnnl_scratchpad_mode_user));
    dnnl_post_ops_t post;
    TRY_DNNL(dnnl_post_ops_create(&post));
    dnnl_status_t status = dnnl_success;
    if (add) status = dnnl_post_ops_append_sum(post, 1.0f);
    if (s->gelu && status == dnnl_success) {
        status = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_gelu_erf, 0.0f, 0.0f);
    }
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(*attributes, post);
    dnnl_post_ops_destroy(post);
    return dnnl_check(status, "post-ops");
}

/* Makes the primitive descriptor; *desc is NULL when the library has no such product. */
static enum status make_desc(const struct cpu_matmul_spec *s, const struct descriptors *d, bool add,
                             dnnl_primitive_desc_t *desc)
{
    dnnl_matmul_desc_t matmul;
    TRY_DNNL(dnnl_matmul_desc_init(&matmul, &d->a, &d->b, s->bias ? &d->bias : NULL, &d->c));
    dnnl_primitive_attr_t attributes = NULL;
    enum status status = make_attributes(s, add, &attributes);
    *desc = NULL;
    if (status == STATUS_OK) {
        dnnl_status_t made =
            dnnl_primitive_desc_create(desc, &matmul, attributes, cpu_engine(), NULL);
        if (made == dnnl_unimplemented) *desc = NULL;
        if (made != dnnl_unimplemented) status = dnnl_check(made, "dnnl_primitive_desc_create");
    }
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return status;
}

static enum status make_product(struct product *product, dnnl_primitive_desc_t desc,
                                size_t *scratch_size)
{
    const dnnl_memory_desc_t *scratch =
        dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    size_t size = dnnl_memory_desc_get_size(scratch);
    if (size > *scratch_size) *scratch_size = size;
    TRY_DNNL(dnnl_primitive_create(&product->primitive, desc));
    return dnnl_check(
        dnnl_memory_create(&product->scratch, scratch, cpu_engine(), DNNL_MEMORY_NONE),
        "dnnl_memory_create");
}

/* ---- the widened product ---- */

static void say_widened(void)
{
    log_warning("this processor or oneDNN build has no bf16 matrix products: they are computed in "
                "f32, slower");
}

static int64_t count_a(const struct cpu_matmul_spec *s)
{
    return s->batch * s->m * s->k;
}

static int64_t count_b(const struct cpu_matmul_spec *s)
{
    return s->batch * s->k * s->n;
}

static int64_t count_c(const struct cpu_matmul_spec *s)
{
    return s->batch * s->m * s->n;
}

static int64_t lines(int64_t count)
{
    return (count + 15) / 16 * 16;
}

static enum status make_widened(struct cpu_matmul *matmul, size_t *scratch_size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, say_widened);
    struct cpu_matmul_spec inner = matmul->spec;
    inner.dtype_a = inner.dtype_b = inner.dtype_c = DTYPE_F32;
    inner.packs = NULL;
    TRY(cpu_matmul_create(&matmul->inner, &inner, &matmul->inner_scratch));
    int64_t floats = lines(count_a(&inner)) + lines(count_b(&inner)) + lines(count_c(&inner));
    matmul->inner_scratch = (matmul->inner_scratch + 63) / 64 * 64;
    *scratch_size = matmul->inner_scratch + (size_t)floats * sizeof(float);
    return STATUS_OK;
}

static void *widen(const void *from, enum dtype dtype, float *to, int64_t count)
{
    if (dtype == DTYPE_F32) return (void *)(uintptr_t)from;
    const bf16 *values = from;
#pragma omp parallel for schedule(static) if (count > 32768)
    for (int64_t i = 0; i < count; i++) {
        to[i] = bf16_to_f32(values[i]);
    }
    return to;
}

static enum status run_widened(struct cpu_matmul *matmul, const struct cpu_matmul_run *run)
{
    const struct cpu_matmul_spec *s = &matmul->spec;
    struct cpu_matmul_run inner = *run;
    float *space = (float *)(void *)((char *)run->scratch + matmul->inner_scratch);
    inner.a = widen(run->a, s->dtype_a, space, count_a(s));
    space += lines(count_a(s));
    inner.b = widen(run->b, s->dtype_b, space, count_b(s));
    space += lines(count_b(s));
    if (s->dtype_c == DTYPE_F32) return cpu_matmul_run(matmul->inner, &inner);
    inner.c = space;
    if (s->adds || run->add) widen(run->c, s->dtype_c, space, count_c(s));
    TRY(cpu_matmul_run(matmul->inner, &inner));
    bf16 *to = run->c;
    int64_t count = count_c(s);
#pragma omp parallel for schedule(static) if (count > 32768)
    for (int64_t i = 0; i < count; i++) {
        to[i] = bf16_from_f32(space[i]);
    }
    return STATUS_OK;
}

/* ---- creation ---- */

static enum status make_memories(struct cpu_matmul *m, const struct descriptors *d)
{
    dnnl_engine_t engine = cpu_engine();
    TRY_DNNL(dnnl_memory_create(&m->a, &d->a, engine, DNNL_MEMORY_NONE));
    TRY_DNNL(dnnl_memory_create(&m->b, &d->b, engine, DNNL_MEMORY_NONE));
    TRY_DNNL(dnnl_memory_create(&m->c, &d->c, engine, DNNL_MEMORY_NONE));
    TRY_DNNL(dnnl_memory_create(&m->bias, &d->bias, engine, DNNL_MEMORY_NONE));
    return STATUS_OK;
}

/* Lets the library choose b's layout; keeps a packed copy when it is not the plain one. */
static enum status make_packed(struct cpu_matmul *m, const struct descriptors *d,
                               dnnl_primitive_desc_t *desc)
{
    struct descriptors free_b = *d;
    dnnl_dims_t dims = {m->spec.k, m->spec.n};
    TRY_DNNL(dnnl_memory_desc_init_by_tag(&free_b.b, 2, dims, dnnl_type(m->spec.dtype_b),
                                          dnnl_format_tag_any));
    TRY(make_desc(&m->spec, &free_b, m->spec.adds, desc));
    if (!*desc) return STATUS_OK;
    const dnnl_memory_desc_t *chosen =
        dnnl_primitive_desc_query_md(*desc, dnnl_query_weights_md, 0);
    if (dnnl_memory_desc_equal(chosen, &d->b)) return STATUS_OK;
    return pack_cache_get(m->spec.packs, m->spec.pack_id, &d->b, chosen, &m->pack);
}

static enum status build(struct cpu_matmul *m, size_t *scratch_size)
{
    CHECK(cpu_engine() && cpu_stream(), STATUS_INTERNAL, "oneDNN does not start on this machine");
    struct descriptors d;
    TRY(describe(&m->spec, &d));
    dnnl_primitive_desc_t desc = NULL;
    if (m->spec.packs && m->spec.batch == 1) TRY(make_packed(m, &d, &desc));
    if (!desc) TRY(make_desc(&m->spec, &d, m->spec.adds, &desc));
    if (!desc) {
        bool has_bf16 = m->spec.dtype_a == DTYPE_BF16 || m->spec.dtype_b == DTYPE_BF16 ||
                        m->spec.dtype_c == DTYPE_BF16;
        CHECK(has_bf16, STATUS_UNSUPPORTED, "oneDNN has no f32 product for this processor");
        return make_widened(m, scratch_size);
    }
    enum status status = make_product(&m->plain, desc, scratch_size);
    dnnl_primitive_desc_destroy(desc);
    if (status == STATUS_OK && m->spec.may_add) {
        TRY(make_desc(&m->spec, &d, true, &desc));
        CHECK(desc, STATUS_UNSUPPORTED, "oneDNN has no accumulating product for this processor");
        status = make_product(&m->adding, desc, scratch_size);
        dnnl_primitive_desc_destroy(desc);
    }
    TRY(status);
    return make_memories(m, &d);
}

enum status cpu_matmul_create(struct cpu_matmul **matmul, const struct cpu_matmul_spec *spec,
                              size_t *scratch_size)
{
    struct cpu_matmul *m = calloc(1, sizeof *m);
    CHECK(m, STATUS_NO_MEMORY, "matrix product: out of memory");
    m->spec = *spec;
    *scratch_size = 0;
    enum status status = build(m, scratch_size);
    if (status != STATUS_OK) {
        cpu_matmul_destroy(&m);
        return status_prefix(status, "[%lld,%lld] x [%lld,%lld]", (long long)spec->m,
                             (long long)spec->k, (long long)spec->k, (long long)spec->n);
    }
    *matmul = m;
    return STATUS_OK;
}

static void product_fini(struct product *product)
{
    if (product->primitive) dnnl_primitive_destroy(product->primitive);
    if (product->scratch) dnnl_memory_destroy(product->scratch);
}

void cpu_matmul_destroy(struct cpu_matmul **matmul)
{
    struct cpu_matmul *m = *matmul;
    if (!m) return;
    product_fini(&m->plain);
    product_fini(&m->adding);
    dnnl_memory_t memories[] = {m->a, m->b, m->c, m->bias};
    for (int i = 0; i < 4; i++) {
        if (memories[i]) dnnl_memory_destroy(memories[i]);
    }
    cpu_matmul_destroy(&m->inner);
    free(m);
    *matmul = NULL;
}

/* Points the primitive's memories at this run's operands and executes it. */
static enum status run_product(struct cpu_matmul *m, const struct cpu_matmul_run *run)
{
    const struct product *product = run->add && m->spec.may_add ? &m->adding : &m->plain;
    dnnl_memory_t b = m->b;
    if (m->pack) {
        TRY(pack_refresh(m->pack, run->b, run->version));
        b = pack_memory(m->pack);
    } else {
        TRY(dnnl_point(b, run->b));
    }
    TRY(dnnl_point(m->a, run->a));
    TRY(dnnl_point(m->c, run->c));
    TRY(dnnl_point(product->scratch, run->scratch));
    dnnl_exec_arg_t arguments[5] = {{DNNL_ARG_SRC, m->a},
                                    {DNNL_ARG_WEIGHTS, b},
                                    {DNNL_ARG_DST, m->c},
                                    {DNNL_ARG_SCRATCHPAD, product->scratch}};
    int count = 4;
    if (m->spec.bias) {
        TRY(dnnl_point(m->bias, run->bias));
        arguments[count++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, m->bias};
    }
    return dnnl_execute(product->primitive, count, arguments);
}

enum status cpu_matmul_run(struct cpu_matmul *m, const struct cpu_matmul_run *run)
{
    if (m->inner) return run_widened(m, run);
    dnnl_depth++;
    enum status status = run_product(m, run);
    dnnl_depth--;
    return status;
}
