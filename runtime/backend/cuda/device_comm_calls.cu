/* Collectives, each between two marks that tell what is being done; see device_comm.h. */
#include "runtime/backend/cuda/device_comm_impl.cuh"

#if defined(WEFT_NCCL)

#include <stdio.h>
#include <string.h>

/* ---- the marks ---- */

static __global__ void mark_kernel(volatile int32_t *word, int32_t value)
{
    *word = value;
}

static int32_t label_number(struct device_comm *dc, const char *label)
{
    for (int i = 0; i < dc->num_labels; i++) {
        if (strncmp(dc->labels[i], label, LABEL - 1) == 0) return i;
    }
    if (dc->num_labels == MOST_LABELS) return MOST_LABELS - 1;
    snprintf(dc->labels[dc->num_labels], LABEL, "%s", label);
    return dc->num_labels++;
}

static enum status mark(struct device_comm *dc, int32_t value, cudaStream_t stream)
{
    return CUDA_LAUNCH(mark_kernel, 1, 1, 0, stream, dc->doing + (stream == dc->stream), value);
}

static enum status begin(struct device_comm *dc, const char *label, cudaStream_t stream)
{
    TRY(device_comm_check(dc));
    return mark(dc, label_number(dc, label), stream);
}

static enum status end(struct device_comm *dc, ncclResult_t result, const char *label,
                       cudaStream_t stream)
{
    TRY(device_comm_settle(dc, result, label));
    return mark(dc, NO_CALL, stream);
}

/* ---- calls ---- */

static ncclDataType_t type_of(enum comm_dtype dtype)
{
    switch (dtype) {
    case COMM_F32:
        return ncclFloat32;
    case COMM_BF16:
        return ncclBfloat16;
    case COMM_F64:
        return ncclFloat64;
    case COMM_I64:
        return ncclInt64;
    case COMM_I32:
        return ncclInt32;
    default:
        return ncclUint8;
    }
}

extern "C" enum status device_comm_all_reduce(struct device_comm *dc, const char *label,
                                              const void *send, void *recv, int64_t count,
                                              enum comm_dtype dtype, struct CUstream_st *stream)
{
    TRY(begin(dc, label, stream));
    ncclResult_t result =
        nccl.AllReduce(send, recv, (size_t)count, type_of(dtype), ncclSum, dc->nccl, stream);
    return end(dc, result, label, stream);
}

extern "C" enum status device_comm_reduce(struct device_comm *dc, const char *label, float *data,
                                          int64_t count, int root, struct CUstream_st *stream)
{
    TRY(begin(dc, label, stream));
    ncclResult_t result =
        nccl.Reduce(data, data, (size_t)count, ncclFloat32, ncclSum, root, dc->nccl, stream);
    return end(dc, result, label, stream);
}

extern "C" enum status device_comm_reduce_scatter(struct device_comm *dc, const char *label,
                                                  const void *send, void *recv, int64_t count,
                                                  enum comm_dtype dtype, struct CUstream_st *stream)
{
    TRY(begin(dc, label, stream));
    ncclResult_t result =
        nccl.ReduceScatter(send, recv, (size_t)count, type_of(dtype), ncclSum, dc->nccl, stream);
    return end(dc, result, label, stream);
}

extern "C" enum status device_comm_all_gather(struct device_comm *dc, const char *label,
                                              const void *send, void *recv, int64_t count,
                                              enum comm_dtype dtype, struct CUstream_st *stream)
{
    TRY(begin(dc, label, stream));
    ncclResult_t result =
        nccl.AllGather(send, recv, (size_t)count, type_of(dtype), dc->nccl, stream);
    return end(dc, result, label, stream);
}

/* What goes wrong inside a group also comes out of its end. */
static ncclResult_t exchange_calls(struct device_comm *dc, const char *send,
                                   const int64_t *send_bytes, char *recv, const int64_t *recv_bytes,
                                   cudaStream_t stream)
{
    ncclResult_t result = nccl.GroupStart();
    for (int r = 0; result == ncclSuccess && r < dc->comm->size; r++) {
        if (send_bytes[r] > 0) {
            result = nccl.Send(send, (size_t)send_bytes[r], ncclUint8, r, dc->nccl, stream);
        }
        if (recv_bytes[r] > 0 && (result == ncclSuccess || result == ncclInProgress)) {
            result = nccl.Recv(recv, (size_t)recv_bytes[r], ncclUint8, r, dc->nccl, stream);
        }
        if (result == ncclInProgress) result = ncclSuccess;
        send += send_bytes[r];
        recv += recv_bytes[r];
    }
    ncclResult_t end = nccl.GroupEnd();
    return result == ncclSuccess ? end : result;
}

extern "C" enum status device_comm_exchange(struct device_comm *dc, const char *label,
                                            const void *send, const int64_t *send_bytes, void *recv,
                                            const int64_t *recv_bytes, struct CUstream_st *stream)
{
    TRY(begin(dc, label, stream));
    ncclResult_t result =
        exchange_calls(dc, (const char *)send, send_bytes, (char *)recv, recv_bytes, stream);
    return end(dc, result, label, stream);
}

extern "C" enum status device_comm_gather_start(struct device_comm *dc, const char *label,
                                                float *data, const int64_t *counts)
{
    TRY(begin(dc, label, dc->stream));
    /* Slices differ by a line, which ncclAllGather cannot; broadcasts of a group run together. */
    ncclResult_t result = nccl.GroupStart();
    for (int r = 0; result == ncclSuccess && r < dc->comm->size; r++) {
        if (counts[r] > 0) {
            result =
                nccl.Broadcast(data, data, (size_t)counts[r], ncclFloat32, r, dc->nccl, dc->stream);
        }
        if (result == ncclInProgress) result = ncclSuccess;
        data += counts[r];
    }
    ncclResult_t grouped = nccl.GroupEnd();
    TRY(end(dc, result == ncclSuccess ? grouped : result, label, dc->stream));
    return device_comm_gather_extend(dc);
}

extern "C" enum status device_comm_gather_extend(struct device_comm *dc)
{
    CUDA_TRY(cudaEventRecord(dc->gathered, dc->stream));
    dc->has_gathered = true;
    return STATUS_OK;
}

extern "C" enum status device_comm_order(struct device_comm *dc, struct CUstream_st *stream)
{
    if (!dc->has_gathered) return STATUS_OK;
    CUDA_TRY(cudaStreamWaitEvent(stream, dc->gathered, 0));
    return STATUS_OK;
}

#endif
