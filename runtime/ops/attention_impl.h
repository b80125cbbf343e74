/* Shared between the attention files and their tests; not for callers of the kernels. */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_IMPL_H
#define WEFT_RUNTIME_OPS_ATTENTION_IMPL_H

#include "runtime/backend/cpu/isa.h"
#include "runtime/ops/attention_kernel.h"

/* Packed operands are padded to at most this, so that no kernel needs masks. */
enum { ATTENTION_PAD = 32 };

/* Query rows whose scores are computed, turned into probabilities and used before the next ones,
 * and rows of the backward that are summed over at once (a multiple of ATTENTION_ROWS). */
enum { ATTENTION_ROWS = 32, ATTENTION_BLOCK = 96 };

/* Rows for which summands and dropout may be made at the same time, and the spare elements of a row
 * of dropout factors. */
enum { ATTENTION_SLOTS = 4, ATTENTION_KEEP_PAD = 40 };

/* A call: its arguments and what follows from them. */
struct attention_job {
    const struct attention_shape *shape;
    const struct attention_tensors *tensors;
    bool want_dbias;     /* a backward that computes dbias_table */
    int64_t nq, nk;      /* queries and keys of an item */
    int64_t keys;        /* nk padded to 16 */
    int64_t deep_keys;   /* nk padded to what the kernel sums over at once */
    int64_t dim;         /* head_dim padded */
    int64_t windows;     /* per batch row; 1 without windows */
    int64_t table;       /* rows of the bias table, 0 without */
    float scale2;        /* scale * log2(e): scores are kept in units of 2^x */
    float mask2;         /* mask_value * log2(e) */
    uint32_t drop_below; /* dropout: a word below this drops */
    float keep_scale;    /* 1 / (1 - dropout) */
    int32_t *token;   /* [windows, tokens] token of a window position; identity without windows */
    int64_t tokens;   /* the larger of nq and nk */
    float *region;    /* [windows, keys] shift mask region of a window position */
    uint8_t *divided; /* [windows] the regions of a window differ */
};

/* The unit of work: one head of one window of one batch row. */
struct attention_item {
    int64_t head, b, window;
};

/*
 * Scratch of one thread. Matrices are row-major f32, or 32-bit units of two bf16 along the summed
 * dimension in kernels that multiply bf16; sizes are those of f32.
 */
struct attention_thread {
    /* Of the window the thread is in; the arrays are the job's. */
    const int32_t *token; /* [tokens] */
    const float *region;  /* [keys] */
    bool has_regions;     /* they differ */
    int64_t batch;        /* the batch row that `mask` is of, -1 at first */
    int64_t first_kept;   /* first key that the key mask keeps, nk when none */
    float *plain;         /* [keys] 0, -infinity in the padding */
    float *mask;          /* [keys] 0 or mask2, -infinity in the padding */
    float *add;           /* [ATTENTION_SLOTS, keys] rows of summands made for one query */
    float *keep;          /* [ATTENTION_SLOTS, keys + ATTENTION_KEEP_PAD] dropout: 0 or 1 */

    /* Of the head the thread is in. */
    int64_t head; /* which, -1 at first */
    float *bias;  /* [nq, keys] bias * log2(e), -infinity in the padding */
    float *dbias; /* [nq, keys] its gradient, summed over the windows of the head */
    float *table; /* [heads, table] the same, by table row; what is reduced over threads */

    /* Of an item. */
    float *k, *v; /* [keys, dim] rows, and for bf16 [keys / 2, dim] pairs of rows */
    float *k_pairs, *v_pairs;
    float *kt, *vt; /* [dim, keys] columns, for bf16 [dim / 2, keys] */
    float *dk, *dv; /* [keys, dim] */

    /* Of a block of query rows. */
    float *q, *dout;             /* [ATTENTION_BLOCK, dim] */
    float *q_pairs, *dout_pairs; /* [ATTENTION_BLOCK / 2, dim] */
    float *q_t, *dout_t;         /* [dim, ATTENTION_BLOCK / 2] */
    float *s, *dp;               /* [ATTENTION_BLOCK, keys]; bf16: [ATTENTION_ROWS, keys] */
    float *p_pairs, *ds_pairs;   /* [ATTENTION_BLOCK / 2, keys] */
    float *rows16;               /* [ATTENTION_ROWS, deep_keys / 2] p or ds as bf16, padding 0 */
    float *out;                  /* [ATTENTION_ROWS, dim] */
    float *row_a, *row_b;        /* [ATTENTION_ROWS] */

    /* The item after this one, whose rows are brought into the cache meanwhile. */
    struct attention_item next;
    bool has_next;
    int64_t next_key; /* first key row that is still to come */
};

struct attention_kernels {
    void (*forward)(const struct attention_job *job, struct attention_thread *thread,
                    struct attention_item item);
    void (*backward)(const struct attention_job *job, struct attention_thread *thread,
                     struct attention_item item);
    int deep_key_pad, dim_pad; /* what attention_job's deep_keys and dim are multiples of */
};

extern const struct attention_kernels attention_portable;
extern const struct attention_kernels attention_avx2;
extern const struct attention_kernels attention_avx512;
extern const struct attention_kernels attention_avx512bf16;
extern const struct attention_kernels attention_amx;

/* Lays out and fills what all threads share at `base`, or only counts when it is NULL. Returns the
 * bytes. */
size_t attention_job_init(struct attention_job *job, void *base);

/* Lays out the scratch of a thread from `base` (64-byte aligned), or only counts when it is NULL.
 * Returns the bytes. */
size_t attention_thread_init(const struct attention_job *job, struct attention_thread *thread,
                             void *base);

/* Makes token, region, mask and bias of the thread right for the item. */
void attention_enter_item(const struct attention_job *job, struct attention_thread *thread,
                          struct attention_item item);

/* Adds the bias gradient of the thread's head to thread->table; after its last item. */
void attention_leave_head(const struct attention_job *job, struct attention_thread *thread);

/* Position of channel 0 of (item, token) in a tensor, in elements. */
static inline int64_t attention_place(const struct attention_job *job,
                                      struct attention_stride stride, struct attention_item item,
                                      int64_t token)
{
    return item.b * stride.batch + token * stride.token + item.head * job->shape->head_dim;
}

/* The forward or backward with the instructions of `isa`, which the machine must have. */
void attention_run(const struct attention_shape *shape, const struct attention_tensors *tensors,
                   int num_threads, enum cpu_isa isa, bool backward);

#endif
