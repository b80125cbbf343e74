/*
 * Weights in the layout that the matrix primitive likes best, kept beside the weights themselves.
 *
 * A weight that is read several times between two updates is reordered once per update;
 * `run_context.version` tells when. Kernels that want the same weight in the same layout share one
 * copy.
 */
#ifndef WEFT_RUNTIME_BACKEND_CPU_PACK_H
#define WEFT_RUNTIME_BACKEND_CPU_PACK_H

#include <stddef.h>
#include <stdint.h>

#include <dnnl.h>

#include "runtime/base/status.h"

struct pack_cache;
struct pack;

enum status pack_cache_create(struct pack_cache **cache);
void pack_cache_destroy(struct pack_cache **cache);

/* Bytes of all packed copies. */
size_t pack_cache_bytes(const struct pack_cache *cache);

/*
 * The packed copy, in layout `to`, of the weight identified by `tensor_id`, whose plain layout is
 * `from`. Owned by the cache; the same for equal arguments. Errors: STATUS_NO_MEMORY,
 * STATUS_INTERNAL from the library.
 */
enum status pack_cache_get(struct pack_cache *cache, int64_t tensor_id,
                           const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                           struct pack **out);

/* The packed memory, reordered from `plain` first when the parameters changed since. */
enum status pack_refresh(struct pack *pack, void *plain, uint64_t version);
dnnl_memory_t pack_memory(const struct pack *pack);

#endif
