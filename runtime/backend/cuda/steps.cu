/* Steps of a plan on a GPU: enqueued, or run alone to see what they do. */
#include <stdio.h>
#include <stdlib.h>

#include "runtime/backend/cuda/backend_impl.h"
#include "runtime/backend/cuda/kernel.cuh"

static __global__ void add_to_kernel(float *to, const float *from, int64_t count)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[i] += from[i];
}

/* A final gradient that was computed elsewhere goes to its slot of the flat vector. */
static enum status store_gradient(struct executor *e, const struct plan_step *step, bool accumulate)
{
    cudaStream_t stream = state_of(e)->stream;
    const struct parameter *p = graph_parameter_at(e->graph, step->store);
    const float *from = (const float *)step->kernel.in[0];
    float *to = (float *)e->memory[PLAN_CLASS_GRADIENT] + p->offset;
    if (p->count == 0) return STATUS_OK;
    if (accumulate) {
        return CUDA_LAUNCH(add_to_kernel, (unsigned)ceil_div(p->count, 256), 256, 0, stream, to,
                           from, p->count);
    }
    CUDA_TRY(
        cudaMemcpyAsync(to, from, (size_t)p->count * sizeof *to, cudaMemcpyDeviceToDevice, stream));
    return STATUS_OK;
}

enum status cuda_step_poison(struct executor *e, int index)
{
    for (int i = e->dying_first[index]; i < e->dying_first[index + 1]; i++) {
        const struct plan_buffer *b = &e->plan->buffers[e->dying[i]];
        CUDA_TRY(cudaMemsetAsync(executor_buffer_address(e, e->dying[i]), 0xFF, b->size,
                                 state_of(e)->stream));
    }
    return STATUS_OK;
}

enum status cuda_step_enqueue(struct executor *e, int index, const struct cuda_run *run)
{
    struct plan_step *step = &e->plan->steps[index];
    if (!step->node) return store_gradient(e, step, run->accumulate);
    if (step_is_view(step)) return STATUS_OK;
    enum status status = cuda_op_find(step->node->op)->run(&step->kernel, run);
    if (status == STATUS_OK) return status;
    const char *path = step->node->path;
    return status_prefix(status, "%s%s%s", path, *path ? ": " : "", step->node->op->name);
}

enum status cuda_fault_describe(const struct executor *e, int number)
{
    CHECK(number >= 0 && number < e->plan->num_steps, STATUS_INTERNAL,
          "executor: the device reports a fault of step %d", number);
    const struct node *node = e->plan->steps[number].node;
    const struct cuda_op *cuda = cuda_op_find(node->op);
    return status_fail(STATUS_INVALID, "%s%s%s: %s", node->path, *node->path ? ": " : "",
                       node->op->name, cuda->fault ? cuda->fault : "bad data");
}

/* Looks at what an op computed, with the CPU's eyes. */
static enum status look_at_outputs(struct executor *e, const struct plan_step *step)
{
    for (int k = 0; k < step->node->num_outputs; k++) {
        const struct tensor *tensor = e->plan->values[step->out[k]].tensor;
        size_t bytes = tensor_bytes(tensor);
        void *copy = malloc(bytes + 1);
        CHECK(copy, STATUS_NO_MEMORY, "executor: out of memory");
        enum status status = cuda_status(
            cudaMemcpy(copy, step->kernel.out[k], bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
        if (status == STATUS_OK) status = executor_check_finite(step, tensor, k, copy);
        free(copy);
        TRY(status);
    }
    return STATUS_OK;
}

/* Runs an op to its end, and says what went wrong in it. */
enum status cuda_step_alone(struct executor *e, int index, const struct cuda_run *run)
{
    struct cuda_state *s = state_of(e);
    struct plan_step *step = &e->plan->steps[index];
    CUDA_TRY(cudaEventRecord(s->start, s->stream));
    TRY(cuda_step_enqueue(e, index, run));
    CUDA_TRY(cudaEventRecord(s->end, s->stream));
    enum status status = cuda_finish(e, "the kernel");
    if (status != STATUS_OK) {
        if (!step->node) return status;
        return status_prefix(status, "%s%s%s (step %d of the plan)", step->node->path,
                             *step->node->path ? ": " : "", step->node->op->name, index);
    }
    if (e->options.profile) {
        float milliseconds = 0;
        CUDA_TRY(cudaEventElapsedTime(&milliseconds, s->start, s->end));
        e->profile[index].seconds += 1e-3 * (double)milliseconds;
        e->profile[index].runs++;
    }
    if (!step->node || step_is_view(step)) return STATUS_OK;
    int32_t fault = 0;
    CUDA_TRY(cudaMemcpy(&fault, s->fault, sizeof fault, cudaMemcpyDeviceToHost));
    if (fault != CUDA_NO_FAULT) return cuda_fault_describe(e, fault);
    if (e->options.check_finite) TRY(look_at_outputs(e, step));
    if (e->found && e->found->step < 0 && look_at_outputs(e, step) != STATUS_OK) {
        e->found->step = index;
        snprintf(e->found->text, sizeof e->found->text, "%s", status_message());
    }
    return STATUS_OK;
}
