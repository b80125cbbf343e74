/*
 * The CUDA backend: planning, and what the host sees of a GPU's memory. Its runs: replay.cu.
 *
 * Host memory: inputs and outputs have pinned copies at fixed addresses, because graphs remember
 * addresses. Parameters and gradients have host copies when somebody asks for them; which copy is
 * newer is tracked here.
 */
#include <string.h>

#include "runtime/backend/cuda/backend_impl.h"
#include "runtime/backend/cuda/device_comm.h"
#include "runtime/backend/cuda/kernel.cuh"

/* ---- planning ---- */

static enum status cuda_prepare(struct kernel *kernel)
{
    const struct op *op = kernel->node->op;
    const struct cuda_op *cuda = cuda_op_find(op);
    CHECK(cuda, STATUS_UNSUPPORTED,
          "%s%sop '%s' has no CUDA kernel; leave out what needs it, or run on the CPU",
          kernel->node->path, *kernel->node->path ? ": " : "", op->name);
    return cuda->prepare ? cuda->prepare(kernel) : STATUS_OK;
}

static void cuda_release_kernel(struct kernel *kernel)
{
    const struct cuda_op *cuda = cuda_op_find(kernel->node->op);
    if (cuda && cuda->release) cuda->release(kernel);
}

static bool cuda_sums(const struct node *node)
{
    const struct cuda_op *cuda = cuda_op_find(node->op);
    return cuda && cuda->sums;
}

/* ---- host copies ---- */

static float *cuda_flat(struct executor *e, enum plan_class memory_class)
{
    struct cuda_state *s = state_of(e);
    int which = memory_class == PLAN_CLASS_GRADIENT;
    size_t bytes = e->plan->class_bytes[memory_class];
    if (s->flat[which]) return s->flat[which];
    if (cudaMallocHost((void **)&s->flat[which], bytes + 64) != cudaSuccess) {
        (void)cudaGetLastError(); /* the caller's to tell, not the next launch's */
        s->flat[which] = NULL;
        return NULL;
    }
    memset(s->flat[which], 0, bytes);
    return s->flat[which];
}

static enum status cuda_fetch(struct executor *e, enum plan_class memory_class)
{
    struct cuda_state *s = state_of(e);
    int which = memory_class == PLAN_CLASS_GRADIENT;
    CHECK(cuda_flat(e, memory_class), STATUS_NO_MEMORY, "no host memory for a copy of the %s",
          which ? "gradients" : "parameters");
    TRY(cuda_wait(e));
    if (!s->flat_stale[which]) return STATUS_OK;
    if (s->comm) TRY(device_comm_order(s->comm, s->stream));
    CUDA_TRY(cudaMemcpyAsync(s->flat[which], e->memory[memory_class],
                             e->plan->class_bytes[memory_class], cudaMemcpyDeviceToHost,
                             s->stream));
    TRY(cuda_finish(e, which ? "gradients" : "parameters"));
    s->flat_stale[which] = false;
    return STATUS_OK;
}

static void cuda_stale(struct executor *e, bool host_is_newer)
{
    struct cuda_state *s = state_of(e);
    /* Without a host copy there is nothing that could have been edited. */
    s->parameters_edited = host_is_newer && s->flat[0];
    s->flat_stale[0] = !host_is_newer;
}

static void *cuda_data(struct executor *e, int value)
{
    struct cuda_state *s = state_of(e);
    const struct plan_value *v = &e->plan->values[value];
    const struct plan_buffer *b = &e->plan->buffers[v->buffer];
    if (b->memory_class == PLAN_CLASS_INPUT) return s->inputs + b->offset + v->offset;
    for (int i = 0; i < s->num_outputs; i++) {
        if (s->output[i].value == value) return s->outputs + s->output[i].offset;
    }
    if (b->memory_class <= PLAN_CLASS_GRADIENT) {
        char *flat = (char *)cuda_flat(e, b->memory_class);
        return flat ? flat + b->offset + v->offset : NULL;
    }
    return NULL;
}

static size_t cuda_bytes(const struct executor *e)
{
    return e->options.ahead ? e->plan->class_bytes[PLAN_CLASS_INPUT] : 0;
}

static struct CUstream_st *cuda_stream(const struct executor *e)
{
    return state_of(e)->stream;
}

const struct backend cuda_backend = {
    {256, cuda_prepare, cuda_release_kernel, NULL, NULL, cuda_sums},
    cuda_allocate,
    cuda_release,
    cuda_run_step,
    cuda_wait,
    cuda_inputs_wait,
    cuda_inputs_send,
    cuda_seconds,
    cuda_data,
    cuda_flat,
    cuda_fetch,
    cuda_stale,
    cuda_settle,
    cuda_bytes,
    cuda_stream,
};
