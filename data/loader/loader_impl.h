/* Inside of the loader, shared by its files. */
#ifndef WEFT_DATA_LOADER_LOADER_IMPL_H
#define WEFT_DATA_LOADER_LOADER_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "data/loader/loader.h"

enum { MESSAGE_SIZE = 1024 };

/* What a thread spends its time on. */
enum loader_stage { STAGE_IDLE, STAGE_READ, STAGE_DECODE, STAGE_TOKENISE, NUM_STAGES };

/* The place and kind of a row. */
struct loader_draw {
    int set;
    int64_t row;
    uint64_t sample;
};

/* A batch in the making. Fields below `memory` are guarded by the loader's lock. */
struct loader_buffer {
    struct loader_batch batch;
    struct loader_boxes *boxes; /* [n], NULL without boxes */
    void *memory;
    int64_t turn;        /* batches since the start; -1: never used */
    int64_t remaining;   /* slots that are not done */
    enum status status;  /* of the first slot that failed */
    int64_t failed_slot; /* and its number */
    char message[MESSAGE_SIZE];
};

/* A thread and what it works with. */
struct loader_worker {
    struct loader *loader;
    pthread_t thread;
    bool started;
    bool quiet; /* do not log or count bad rows */
    bool texts; /* rows without their pictures */
    bool fatal; /* the last failure concerns more than its row */
    struct store_image image;
    struct store_text text;
    struct store_boxes boxes;
    struct image decoded;
    struct image moved;
    struct image_workspace workspace;
    struct tokenizer_scratch *scratch;
    struct encoding encoding;
    float (*corners)[4]; /* [corner_capacity] */
    bool *gone;          /* [corner_capacity] */
    int64_t corner_capacity;
    pthread_mutex_t lock; /* of the clock below; nothing is locked under it */
    enum loader_stage stage;
    double since;
    double seconds[NUM_STAGES];
};

/* Bad rows that were named already: a set of fixed size. */
enum { KNOWN_BAD_SIZE = 16384 };
struct known_bad {
    uint64_t rows[KNOWN_BAD_SIZE]; /* 0: free */
    int64_t count;
};

struct loader {
    struct loader_options options;
    struct loader_set sets[SAMPLER_MAX_SETS];
    int64_t row_begin[SAMPLER_MAX_SETS + 1]; /* first row of each set among all */
    struct sampler sampler;                  /* shuffled */
    struct image_transform transform;
    struct mlm_options mlm_options;
    struct mlm mlm;
    int64_t side;      /* 0: no pictures */
    size_t bytes;      /* of a buffer */
    int64_t rank_from; /* sequential: this rank's rows */
    int64_t rank_to;
    int64_t num_turns; /* sequential: batches from start on; otherwise INT64_MAX */

    struct loader_worker *workers; /* [num_workers] */
    int num_workers;
    struct loader_buffer *buffers; /* [num_buffers] */
    int num_buffers;
    struct loader_worker single; /* of loader_samples_at */
    struct loader_buffer single_buffer;

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t work;  /* a buffer became free, or the end */
    pthread_cond_t done;  /* a batch is ready */
    atomic_bool stopping;
    int64_t claim_turn; /* the next slot to be made */
    int64_t claim_slot;
    int64_t last_turn; /* none after this one is wanted: a slot of it failed */
    int64_t held;      /* turn of the batch that the consumer has or waits for */
    bool has_batch;
    enum status status; /* what loader_next failed with */
    char message[MESSAGE_SIZE];
    char last_bad[MESSAGE_SIZE];
    struct known_bad known;
    struct loader_stats stats;
};

/* buffer.c: layout, memory and hashes of batches. */
size_t buffer_size(const struct loader *loader);
enum status buffer_init(const struct loader *loader, struct loader_buffer *buffer);
void buffer_fini(const struct loader *loader, struct loader_buffer *buffer);
int64_t transform_side(const struct image_transform *transform);

/* order.c: what the slots of a batch are. A turn counts batches from the start. */
enum status order_init(struct loader *loader);
struct loader_draw order_sample(const struct loader *loader, uint64_t sample);
struct loader_draw order_slot(const struct loader *loader, int64_t turn, int64_t slot);
/* Fills in number, count and place of the batch. */
void order_describe(const struct loader *loader, int64_t turn, struct loader_batch *batch);

/* row.c: makes one row into slot `slot` of `batch`; with a failure the slot's contents are
 * undefined and worker->fatal says whether it is more than a bad row. */
enum status row_make(struct loader_worker *worker, struct loader_draw draw,
                     struct loader_buffer *buffer, int64_t slot);

/* row.c: leaves slot `slot` without a sample; its place in the data stays. */
enum status row_blank(struct loader_worker *worker, struct loader_buffer *buffer, int64_t slot);

/* bad.c: row_make with the policy for bad rows. `num_bad` counts the bad ones met. */
enum status slot_make(struct loader_worker *worker, struct loader_draw draw,
                      struct loader_buffer *buffer, int64_t slot, int64_t *num_bad);
/* Whether the rate of bad rows is above its limit; the loader's lock is held. */
enum status bad_rate_check(struct loader *loader);

/* worker.c: clocks and processors. */
enum status worker_init(struct loader_worker *worker, struct loader *loader);
void worker_fini(struct loader_worker *worker);
void worker_stage(struct loader_worker *worker, enum loader_stage stage);
/* Adds the seconds of every stage so far, the running one included. */
void worker_seconds(struct loader_worker *worker, double seconds[NUM_STAGES]);
/* Starts `run` in a thread without signals, on the processors of this rank. */
enum status worker_start(struct loader_worker *worker, void *(*run)(void *));
int worker_processors(void);
double worker_now(void);

#endif
