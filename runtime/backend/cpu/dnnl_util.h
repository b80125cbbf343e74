/* The one engine and stream of oneDNN on this process, and its errors as statuses. */
#ifndef WEFT_RUNTIME_BACKEND_CPU_DNNL_UTIL_H
#define WEFT_RUNTIME_BACKEND_CPU_DNNL_UTIL_H

#include <dnnl.h>

#include "runtime/base/status.h"
#include "runtime/graph/tensor.h"

/* Created at the first call, kept until exit. NULL when the library cannot start. */
dnnl_engine_t cpu_engine(void);
dnnl_stream_t cpu_stream(void);

/* Turns a failed oneDNN call into STATUS_INTERNAL with the call's text. */
enum status dnnl_check(dnnl_status_t status, const char *call);
#define TRY_DNNL(call) TRY(dnnl_check((call), #call))

dnnl_data_type_t dnnl_type(enum dtype dtype);

/* Points a memory object at bytes of ours. */
enum status dnnl_point(dnnl_memory_t memory, void *bytes);

/* Runs a primitive to its end. */
enum status dnnl_execute(dnnl_primitive_t primitive, int count, const dnnl_exec_arg_t *arguments);

/* A strided memory descriptor of `rank` dimensions; `strides` in elements. */
enum status dnnl_desc(dnnl_memory_desc_t *desc, int rank, const int64_t *dims, enum dtype dtype,
                      const int64_t *strides);

#endif
