/*
 * Collectives between the GPUs of all ranks, over NCCL: what `struct comm` is to host memory.
 *
 * A call enqueues work on a stream and returns; it may be recorded into a CUDA graph. All ranks
 * make the same calls in the same order, on whatever streams: one communicator runs them one after
 * another, so that two can never wait for each other. Counts are elements.
 *
 * Sums: NCCL has an order of its own, which depends on ranks, hosts and sizes. What stays true: all
 * ranks get the same bits, and the same layout gives the same bits again (as long as NCCL chooses
 * the same algorithm; NCCL_ALGO and NCCL_PROTO fix it). What is not: bits equal to those of the
 * CPU's, or of other bucket sizes. Sums of bf16 round at every addition.
 *
 * Failures end a wait within a second: waits poll NCCL's asynchronous errors and the watchdog of
 * `comm`. The message names rank, host and collective; the communicator is aborted, and every later
 * call fails.
 *
 * Without nccl.h at build time there is no such communicator: device_comm_open says so.
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_DEVICE_COMM_H
#define WEFT_RUNTIME_BACKEND_CUDA_DEVICE_COMM_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/comm/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;
struct CUevent_st;
struct device_comm;

/*
 * The communicator of this process for `comm` (borrowed), made when it is first asked for: each
 * open needs a close, the last of which ends it. Collective. Errors, on all ranks together:
 * STATUS_UNSUPPORTED for other versions of NCCL on other ranks (named) or a build without it;
 * STATUS_COMM from NCCL, or when ranks do not come.
 */
enum status device_comm_open(struct device_comm **opened, struct comm *comm);
void device_comm_close(struct device_comm **closed);

/* The stream, of high priority, for what runs beside the kernels. */
struct CUstream_st *device_comm_stream(struct device_comm *dc);

/* ---- calls; `label` names them in messages, the same on all ranks ---- */

enum status device_comm_all_reduce(struct device_comm *dc, const char *label, const void *send,
                                   void *recv, int64_t count, enum comm_dtype dtype,
                                   struct CUstream_st *stream);

/* The sum goes to rank `root` alone; what the others have in `data` is lost. */
enum status device_comm_reduce(struct device_comm *dc, const char *label, float *data,
                               int64_t count, int root, struct CUstream_st *stream);

/* `count` elements of each rank's equal slice. */
enum status device_comm_reduce_scatter(struct device_comm *dc, const char *label, const void *send,
                                       void *recv, int64_t count, enum comm_dtype dtype,
                                       struct CUstream_st *stream);
enum status device_comm_all_gather(struct device_comm *dc, const char *label, const void *send,
                                   void *recv, int64_t count, enum comm_dtype dtype,
                                   struct CUstream_st *stream);

/* Bytes between all pairs of ranks, one after another in both buffers; [size] counts, which must
 * fit on both sides. */
enum status device_comm_exchange(struct device_comm *dc, const char *label, const void *send,
                                 const int64_t *send_bytes, void *recv, const int64_t *recv_bytes,
                                 struct CUstream_st *stream);

/*
 * Gathers the slices of all ranks [counts: size] in place, on the communicator's own stream.
 * Whoever uses `data` next calls device_comm_order for its stream first.
 */
enum status device_comm_gather_start(struct device_comm *dc, const char *label, float *data,
                                     const int64_t *counts);

/* What was put on the communicator's stream behind a gather belongs to it, for device_comm_order.
 */
enum status device_comm_gather_extend(struct device_comm *dc);

/* What is enqueued on `stream` from now on comes after the gathers that were started. */
enum status device_comm_order(struct device_comm *dc, struct CUstream_st *stream);

/* ---- waiting ---- */

/*
 * Waits until all work before this call on `stream` is done; `call` is the number that
 * comm_outside_started gave for it. Errors: STATUS_COMM as above, STATUS_INTERNAL when the GPU
 * failed; `what` says what was waited for.
 */
enum status device_comm_wait(struct device_comm *dc, struct CUstream_st *stream, uint32_t call,
                             const char *what);

/* The same until an event is reached that was recorded on a stream. */
enum status device_comm_wait_event(struct device_comm *dc, struct CUevent_st *event, uint32_t call,
                                   const char *what);

#ifdef __cplusplus
}
#endif
#endif
