#include "runtime/backend/cpu/pack.h"

#include <stdlib.h>

#include "runtime/backend/cpu/dnnl_util.h"
#include "runtime/backend/cpu/memory.h"

struct pack {
    struct pack *next;
    int64_t tensor_id;
    dnnl_memory_desc_t plain_layout;
    dnnl_memory_desc_t layout;
    void *bytes; /* owned */
    size_t size;
    dnnl_memory_t plain;
    dnnl_memory_t packed;
    dnnl_primitive_t reorder;
    uint64_t version; /* of the parameters it was made from; 0: never */
};

struct pack_cache {
    struct pack *first;
    size_t bytes;
};

enum status pack_cache_create(struct pack_cache **cache)
{
    *cache = calloc(1, sizeof **cache);
    CHECK(*cache, STATUS_NO_MEMORY, "packed weights: out of memory");
    return STATUS_OK;
}

static void pack_free(struct pack *pack)
{
    if (pack->reorder) dnnl_primitive_destroy(pack->reorder);
    if (pack->plain) dnnl_memory_destroy(pack->plain);
    if (pack->packed) dnnl_memory_destroy(pack->packed);
    memory_unmap(&pack->bytes, pack->size);
    free(pack);
}

void pack_cache_destroy(struct pack_cache **cache)
{
    if (!*cache) return;
    struct pack *pack = (*cache)->first;
    while (pack) {
        struct pack *next = pack->next;
        pack_free(pack);
        pack = next;
    }
    free(*cache);
    *cache = NULL;
}

size_t pack_cache_bytes(const struct pack_cache *cache)
{
    return cache ? cache->bytes : 0;
}

static enum status pack_build(struct pack *pack, const dnnl_memory_desc_t *from,
                              const dnnl_memory_desc_t *to)
{
    dnnl_engine_t engine = cpu_engine();
    pack->plain_layout = *from;
    pack->layout = *to;
    pack->size = dnnl_memory_desc_get_size(to);
    TRY(memory_map(&pack->bytes, pack->size, "packed weights"));
    TRY_DNNL(dnnl_memory_create(&pack->plain, from, engine, DNNL_MEMORY_NONE));
    TRY_DNNL(dnnl_memory_create(&pack->packed, to, engine, pack->bytes));
    dnnl_primitive_desc_t desc;
    TRY_DNNL(dnnl_reorder_primitive_desc_create(&desc, from, engine, to, engine, NULL));
    dnnl_status_t created = dnnl_primitive_create(&pack->reorder, desc);
    dnnl_primitive_desc_destroy(desc);
    return dnnl_check(created, "dnnl_primitive_create (reorder)");
}

enum status pack_cache_get(struct pack_cache *cache, int64_t tensor_id,
                           const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                           struct pack **out)
{
    for (struct pack *p = cache->first; p; p = p->next) {
        /* A square weight and its transpose differ in the plain layout alone. */
        if (p->tensor_id == tensor_id && dnnl_memory_desc_equal(&p->plain_layout, from) &&
            dnnl_memory_desc_equal(&p->layout, to)) {
            *out = p;
            return STATUS_OK;
        }
    }
    struct pack *pack = calloc(1, sizeof *pack);
    CHECK(pack, STATUS_NO_MEMORY, "packed weights: out of memory");
    pack->tensor_id = tensor_id;
    enum status status = pack_build(pack, from, to);
    if (status != STATUS_OK) {
        pack_free(pack);
        return status;
    }
    pack->next = cache->first;
    cache->first = pack;
    cache->bytes += pack->size;
    *out = pack;
    return STATUS_OK;
}

enum status pack_refresh(struct pack *pack, void *plain, uint64_t version)
{
    if (pack->version == version) return STATUS_OK;
    TRY(dnnl_point(pack->plain, plain));
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, pack->plain}, {DNNL_ARG_TO, pack->packed}};
    TRY(dnnl_execute(pack->reorder, 2, arguments));
    pack->version = version;
    return STATUS_OK;
}

dnnl_memory_t pack_memory(const struct pack *pack)
{
    return pack->packed;
}
