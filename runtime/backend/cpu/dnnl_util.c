#include "runtime/backend/cpu/dnnl_util.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/backend/cpu/isa.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static dnnl_engine_t engine;
static dnnl_stream_t stream;

/* oneDNN obeys WEFT_ISA too, so that each level can be tested as a whole. */
static void limit_isa(void)
{
    static const dnnl_cpu_isa_t levels[CPU_ISA_COUNT] = {
        [CPU_ISA_SCALAR] = dnnl_cpu_isa_sse41,
        [CPU_ISA_AVX2] = dnnl_cpu_isa_avx2,
        [CPU_ISA_AVX512] = dnnl_cpu_isa_avx512_core,
        [CPU_ISA_AVX512BF16] = dnnl_cpu_isa_avx512_core_bf16,
        [CPU_ISA_AMX] = dnnl_cpu_isa_all,
    };
    if (getenv("WEFT_ISA")) dnnl_set_max_cpu_isa(levels[cpu_isa()]);
}

static void start(void)
{
    limit_isa();
    if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) engine = NULL;
    if (engine && dnnl_stream_create(&stream, engine, dnnl_stream_in_order) != dnnl_success) {
        stream = NULL;
    }
}

dnnl_engine_t cpu_engine(void)
{
    pthread_once(&once, start);
    return engine;
}

dnnl_stream_t cpu_stream(void)
{
    pthread_once(&once, start);
    return stream;
}

enum status dnnl_check(dnnl_status_t status, const char *call)
{
    static const char *const names[] = {"success",       "out of memory", "invalid arguments",
                                        "unimplemented", "iterator ends", "runtime error",
                                        "not required"};
    if (status == dnnl_success) return STATUS_OK;
    unsigned index = (unsigned)status;
    return status_fail(
        status == dnnl_out_of_memory ? STATUS_NO_MEMORY : STATUS_INTERNAL, "oneDNN: %s in %s",
        index < sizeof names / sizeof names[0] ? names[index] : "unknown error", call);
}

enum status dnnl_point(dnnl_memory_t memory, void *bytes)
{
    return dnnl_check(dnnl_memory_set_data_handle_v2(memory, bytes, stream),
                      "dnnl_memory_set_data_handle_v2");
}

enum status dnnl_execute(dnnl_primitive_t primitive, int count, const dnnl_exec_arg_t *arguments)
{
    dnnl_status_t status = dnnl_primitive_execute(primitive, stream, count, arguments);
    if (status == dnnl_success) status = dnnl_stream_wait(stream);
    return dnnl_check(status, "dnnl_primitive_execute");
}

dnnl_data_type_t dnnl_type(enum dtype dtype)
{
    static const dnnl_data_type_t types[DTYPE_COUNT] = {[DTYPE_F32] = dnnl_f32,
                                                        [DTYPE_BF16] = dnnl_bf16,
                                                        [DTYPE_I32] = dnnl_s32,
                                                        [DTYPE_U8] = dnnl_u8};
    return types[dtype];
}

enum status dnnl_desc(dnnl_memory_desc_t *desc, int rank, const int64_t *dims, enum dtype dtype,
                      const int64_t *strides)
{
    dnnl_dims_t d = {0};
    dnnl_dims_t s = {0};
    for (int i = 0; i < rank; i++) {
        d[i] = dims[i];
        s[i] = strides[i];
    }
    return dnnl_check(dnnl_memory_desc_init_by_strides(desc, rank, d, dnnl_type(dtype), s),
                      "dnnl_memory_desc_init_by_strides");
}
