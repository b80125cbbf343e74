/*
 * NCCL's functions, as nccl.AllReduce for ncclAllReduce. The library is opened when it is first
 * needed, so that one GPU does without it, also on machines that have none. C++; for
 * device_comm.cu.
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_NCCL_CALLS_CUH
#define WEFT_RUNTIME_BACKEND_CUDA_NCCL_CALLS_CUH

#include <dlfcn.h>
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

static struct nccl_calls nccl;

/* Before the first call. Errors: STATUS_UNSUPPORTED where there is no NCCL, or one that lacks a
 * function. */
static enum status nccl_load(void)
{
    static bool is_loaded;
    if (is_loaded) return STATUS_OK;
#if defined(WEFT_CUDA_EMULATED)
#define CALL(name) nccl.name = nccl##name;
    NCCL_CALLS(CALL)
#undef CALL
#else
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    CHECK(library, STATUS_UNSUPPORTED,
          "several ranks on GPUs need NCCL: %s; install libnccl2, or name its folder in "
          "LD_LIBRARY_PATH",
          dlerror());
#define CALL(name)                                                                                 \
    nccl.name = reinterpret_cast<decltype(&nccl##name)>(dlsym(library, "nccl" #name));             \
    CHECK(nccl.name, STATUS_UNSUPPORTED,                                                           \
          "NCCL is too old, it has no nccl" #name "; use 2.18 or newer");
    NCCL_CALLS(CALL)
#undef CALL
#endif
    is_loaded = true;
    return STATUS_OK;
}

#endif
