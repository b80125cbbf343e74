/*
 * NCCL's functions, as nccl.AllReduce for ncclAllReduce. The library is opened when it is first
 * needed, so that one GPU does without it, also on machines that have none. C++; for
 * device_comm_impl.cuh.
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_NCCL_CALLS_CUH
#define WEFT_RUNTIME_BACKEND_CUDA_NCCL_CALLS_CUH

#include <nccl.h>

#include "runtime/base/status.h"

#define NCCL_CALLS(CALL)                                                                           \
    CALL(GetVersion)                                                                               \
    CALL(GetErrorString)                                                                           \
    CALL(GetLastError)                                                                             \
    CALL(GetUniqueId)                                                                              \
    CALL(CommInitRankConfig)                                                                       \
    CALL(CommGetAsyncError)                                                                        \
    CALL(CommFinalize)                                                                             \
    CALL(CommDestroy)                                                                              \
    CALL(CommAbort)                                                                                \
    CALL(AllReduce)                                                                                \
    CALL(Reduce)                                                                                   \
    CALL(ReduceScatter)                                                                            \
    CALL(AllGather)                                                                                \
    CALL(Broadcast)                                                                                \
    CALL(Send)                                                                                     \
    CALL(Recv)                                                                                     \
    CALL(GroupStart)                                                                               \
    CALL(GroupEnd)

struct nccl_calls {
#define CALL(name) decltype(&nccl##name) name;
    NCCL_CALLS(CALL)
#undef CALL
};

extern struct nccl_calls nccl; /* filled by nccl_load */

/* Before the first call. Errors: STATUS_UNSUPPORTED where there is no NCCL, or one that lacks a
 * function. */
enum status nccl_load(void);

#endif
