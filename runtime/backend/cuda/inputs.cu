/*
 * Inputs on their way to the GPU.
 *
 * The host writes them to pinned memory, one place, whose addresses callers may keep. On the device
 * there are two: the one that kernels read, and with the option `ahead` one where those of the next
 * run wait. They are copied on a stream of their own, so that this does not wait for the run that
 * goes on:
 *
 *   sent ahead    pinned -> ahead, behind the run that took the last ones from there;
 *                 ahead -> the kernels' place, on the run's stream, at its beginning
 *   not sent      pinned -> the kernels' place: the run before is over
 *
 * A wait for the copies of a run that has been started does not wait for other ranks: all that they
 * come behind is the run before, which is over. So it need not poll for failures.
 *
 * Rejected: two places that kernels read in turns, which need every graph twice. The copy within
 * the device takes a thousandth of a run.
 */
#include "runtime/backend/cuda/backend_impl.h"
#include "runtime/backend/cuda/device.h"
#include "runtime/backend/cuda/kernel.cuh"

static enum status inputs_wait(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    CUDA_TRY(cudaEventSynchronize(s->inputs_read));
    s->is_sent = false;
    return STATUS_OK;
}

enum status cuda_inputs_wait(struct executor *e)
{
    return cuda_device_blame(e->options.comm, inputs_wait(e));
}

static enum status send(struct executor *e, void *to)
{
    struct cuda_state *s = state_of(e);
    CUDA_TRY(cudaMemcpyAsync(to, s->inputs, e->plan->class_bytes[PLAN_CLASS_INPUT],
                             cudaMemcpyHostToDevice, s->copies));
    CUDA_TRY(cudaEventRecord(s->inputs_read, s->copies));
    return STATUS_OK;
}

static enum status inputs_send(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    CHECK(s->ahead, STATUS_INVALID, "executor: inputs sent ahead need the option `ahead`");
    CUDA_TRY(cudaStreamWaitEvent(s->copies, s->ahead_taken, 0));
    TRY(send(e, s->ahead));
    s->is_sent = true;
    return STATUS_OK;
}

enum status cuda_inputs_send(struct executor *e)
{
    return cuda_device_blame(e->options.comm, inputs_send(e));
}

enum status cuda_inputs_take(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    void *to = e->memory[PLAN_CLASS_INPUT];
    if (!s->is_sent) TRY(send(e, to));
    CUDA_TRY(cudaStreamWaitEvent(s->stream, s->inputs_read, 0));
    if (!s->is_sent) return STATUS_OK;
    CUDA_TRY(cudaMemcpyAsync(to, s->ahead, e->plan->class_bytes[PLAN_CLASS_INPUT],
                             cudaMemcpyDeviceToDevice, s->stream));
    CUDA_TRY(cudaEventRecord(s->ahead_taken, s->stream));
    s->is_sent = false;
    return STATUS_OK;
}
