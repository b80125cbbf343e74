/* device_comm.h in a build without NCCL. */
#include <stddef.h>

#include "runtime/backend/cuda/device_comm.h"

#if !defined(WEFT_NCCL)

extern "C" enum status device_comm_open(struct device_comm **opened, struct comm *comm)
{
    (void)comm;
    *opened = NULL;
    return status_fail(STATUS_UNSUPPORTED,
                       "several ranks on GPUs need NCCL, which this build lacks: build it where "
                       "nccl.h is found (NCCL_HOME), start one rank, or run on the CPU");
}

extern "C" void device_comm_close(struct device_comm **closed)
{
    *closed = NULL;
}

static enum status no_nccl(void)
{
    return status_fail(STATUS_INTERNAL, "no NCCL");
}

extern "C" struct CUstream_st *device_comm_stream(struct device_comm *)
{
    return NULL;
}

extern "C" enum status device_comm_all_reduce(struct device_comm *, const char *, const void *,
                                              void *, int64_t, enum comm_dtype,
                                              struct CUstream_st *)
{
    return no_nccl();
}

extern "C" enum status device_comm_reduce(struct device_comm *, const char *, float *, int64_t, int,
                                          struct CUstream_st *)
{
    return no_nccl();
}

extern "C" enum status device_comm_reduce_scatter(struct device_comm *, const char *, const void *,
                                                  void *, int64_t, enum comm_dtype,
                                                  struct CUstream_st *)
{
    return no_nccl();
}

extern "C" enum status device_comm_all_gather(struct device_comm *, const char *, const void *,
                                              void *, int64_t, enum comm_dtype,
                                              struct CUstream_st *)
{
    return no_nccl();
}

extern "C" enum status device_comm_exchange(struct device_comm *, const char *, const void *,
                                            const int64_t *, void *, const int64_t *,
                                            struct CUstream_st *)
{
    return no_nccl();
}

extern "C" enum status device_comm_gather_start(struct device_comm *, const char *, float *,
                                                const int64_t *)
{
    return no_nccl();
}

extern "C" enum status device_comm_gather_extend(struct device_comm *)
{
    return no_nccl();
}

extern "C" enum status device_comm_order(struct device_comm *, struct CUstream_st *)
{
    return STATUS_OK;
}

extern "C" enum status device_comm_wait(struct device_comm *, struct CUstream_st *, uint32_t,
                                        const char *)
{
    return no_nccl();
}

extern "C" enum status device_comm_wait_event(struct device_comm *, struct CUevent_st *, uint32_t,
                                              const char *)
{
    return no_nccl();
}

#endif
