/*
 * Loader: training and evaluation batches out of packed sets, made ahead of the consumer.
 *
 * A row is a text with its picture (LOADER_TEXTS), or a picture alone (LOADER_IMAGES). A pool of
 * threads reads, decodes, transforms, tokenises and masks the rows of the next batches into a ring
 * of buffers; the consumer takes one batch after the other.
 *
 * Shuffled (training): micro-batch number k holds the samples of the sampler's global batch k, of
 * which rank r of `size` takes the contiguous part r (data/sampler/sampler.h). Everything random
 * about a sample (crop, flip, picture operations, mask, replacement of a bad row) is a function of
 * the seed and the sample's number, so a batch is the same bytes whatever the number of threads,
 * the number of ranks that share size * batch samples, and the micro-batch the loader was started
 * at. The position of a run is therefore one integer: the number of the next micro-batch.
 *
 * Sequential (evaluation): the rows of all sets in order, once; rank r takes the contiguous part
 * [r * rows / size, (r + 1) * rows / size) in batches of `batch`, the last one shorter. Every rank
 * gets the same number of batches (the last may be empty), so collectives after each batch match.
 *
 * Memory is constant: the buffers, and per thread the largest picture met (pictures above 64 MB
 * decoded are not kept). Not collective. One thread consumes; create any number of loaders, also on
 * the same stores and tokenizer.
 */
#ifndef WEFT_DATA_LOADER_LOADER_H
#define WEFT_DATA_LOADER_LOADER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/image/transform.h"
#include "data/sampler/sampler.h"
#include "data/store/store.h"
#include "data/tokenizer/mlm.h"
#include "data/tokenizer/tokenizer.h"
#include "runtime/base/status.h"

struct loader;

enum loader_order { LOADER_SHUFFLED, LOADER_SEQUENTIAL };
enum loader_rows { LOADER_TEXTS, LOADER_IMAGES };

/*
 * What to do about a bad row: one whose bytes are damaged or cut off, whose picture does not
 * decode, whose text is not UTF-8 or is not of a kind that was asked for, or that is a pair of
 * pictures. A shard that was replaced since it was opened always stops the loader, and so does a
 * lack of memory.
 */
enum loader_on_bad {
    LOADER_FAIL,   /* loader_next fails with file, row and reason */
    LOADER_SKIP,   /* the slot stays, with valid = 0 (see struct loader_batch) */
    LOADER_REPLACE /* another row of the same set, drawn from the sample's number */
};

struct loader_set {
    const struct store *store; /* borrowed */
    double weight;             /* share of the mixture; 0 in all sets: plain concatenation */
};

/* How buffers are allocated, so that a build with CUDA can give pinned memory. */
struct loader_memory {
    enum status (*allocate)(void *user, size_t size, void **memory); /* aligned to 64 bytes */
    void (*release)(void *user, void *memory);
    void *user;
};

/* Zero-initialise; what is not said to have a default must be set. */
struct loader_options {
    const struct loader_set *sets; /* [num_sets] copied */
    int num_sets;
    enum loader_order order;
    enum loader_rows rows;
    int rank; /* of `size` ranks */
    int size;
    int64_t batch; /* samples of one batch of this rank */
    int64_t start; /* number of the first batch */
    uint64_t seed; /* of the run */

    /* Shuffled: as in struct sampler_options. */
    enum sampler_tail tail;
    int64_t epoch_samples;
    int64_t chunk_rows;
    int64_t window_chunks;

    int64_t max_rows; /* sequential: only the first ones; 0: all */

    /* Pictures; NULL: none are read. Copied. A transform whose result varies in size (fine) is put
     * into the upper left of a square that holds every result, with sides divisible by 32. */
    const struct image_transform *transform;
    struct image_decode_options decode;

    /* Texts; NULL: none are tokenised. Borrowed. */
    const struct tokenizer *tokenizer;
    int64_t text_length;           /* L, tokens of a row with the special ones, at least 3 */
    const struct mlm_options *mlm; /* masking; NULL: none. Copied; its seed is not read */
    unsigned text_kinds;           /* or of 1 << enum text_kind that may come; 0: all */
    bool boxes;                    /* read boxes and move them with the pixels */

    enum loader_on_bad on_bad;
    double max_bad_rate; /* stop when more of the samples are bad, after LOADER_RATE_SAMPLES */
    int64_t seen;        /* samples and bad ones of the run so far, from loader_stats before */
    int64_t bad;

    int num_threads;                   /* 0: one per processor that this process may use */
    int prefetch;                      /* batches made ahead of the one in use; 0: 2 */
    struct loader_memory memory;       /* zero: 64-byte aligned memory of the host */
    const volatile sig_atomic_t *stop; /* non-zero: loader_next gives STATUS_CANCELLED; or NULL */
};

enum { LOADER_RATE_SAMPLES = 1000, LOADER_MAX_ATTEMPTS = 32 };

struct loader_span {
    int32_t begin; /* characters (code points) of the row's text: [begin, end) */
    int32_t end;
    int32_t first_token; /* tokens [first, last] of the row, -1 where the text was cut off */
    int32_t last_token;
};

struct loader_box {
    float xyxy[4];    /* pixels of the transformed picture, half-open */
    int32_t category; /* row of the set's category list, -1 for none */
    int32_t crowd;    /* 0 or 1 */
    int32_t of_text;  /* 1: belongs to the row's text; 0: to the picture */
    int32_t first_span;
    int32_t num_spans;
};

/* The boxes of a sample that the transform left something of. */
struct loader_boxes {
    struct loader_box *boxes;  /* [num_boxes] */
    struct loader_span *spans; /* [num_spans] */
    int32_t num_boxes;
    int32_t num_spans;
    int32_t box_capacity;
    int32_t span_capacity;
};

/*
 * A batch of n = loader_options.batch slots, of which `count` are used. Arrays begin at multiples
 * of 64 bytes in one allocation; those that were not asked for are NULL. In a slot with valid = 0
 * (LOADER_SKIP) pixels are 0, the text is only its special tokens, labels are MLM_IGNORE, and there
 * are no boxes; set, row and image tell what was bad.
 */
struct loader_batch {
    int64_t number;      /* of the batch, from 0 */
    int64_t epoch;       /* of the first sample of the global batch; 0 when sequential */
    int64_t index;       /* and its index in the epoch; when sequential, this batch's first row */
    int64_t count;       /* slots used; n except at the end of LOADER_SEQUENTIAL, then 0 */
    int64_t side;        /* S */
    int64_t text_length; /* L */
    int64_t num_bad;     /* bad rows met in making it */
    uint8_t *pixels;     /* [n,S,S,3] RGB */
    int32_t *extent;     /* [n,2] height and width of the picture within S x S */
    int32_t *ids;        /* [n,L] tokens, padded */
    int32_t *mask;       /* [n,L] 1 for tokens, 0 for padding */
    int32_t *mlm_ids;    /* [n,L] tokens with some hidden */
    int32_t *mlm_labels; /* [n,L] what they were, MLM_IGNORE elsewhere */
    uint64_t *sample;    /* [n] the sample's number in the run; sequential: its row of all rows */
    int64_t *row;        /* [n] text (or image) of its set that is in the slot */
    int64_t *image;      /* [n] image of its set, -1 where it is not known */
    int32_t *set;        /* [n] */
    uint8_t *valid;      /* [n] */
    int8_t *kind;        /* [n] enum text_kind, -1 for image rows */
    int8_t *label;       /* [n] TEXT_LABEL_* */
    const struct loader_boxes *boxes; /* [n] */
};

/*
 * Checks the options and starts the threads. The stores and the tokenizer must outlive the loader.
 * Errors: STATUS_INVALID for options that make no sense, or that the sets cannot give (no texts, a
 * global batch larger than the epoch with SAMPLER_TAIL_DROP), STATUS_NO_MEMORY, STATUS_NOT_FOUND
 * for a special token that the vocabulary lacks.
 */
enum status loader_create(struct loader **loader, const struct loader_options *options);

/* Stops the threads, at most one picture later, and frees everything. NULL-safe. */
void loader_destroy(struct loader **loader);

/*
 * Gives the next batch, borrowed until the next call; waits for it when it is not ready yet. At the
 * end of LOADER_SEQUENTIAL the batch has count 0. Errors: what a thread met in this batch (of
 * several, that of the first slot); the rate of bad rows; STATUS_CANCELLED. After an error every
 * call gives it again.
 */
enum status loader_next(struct loader *loader, const struct loader_batch **batch);

/* The number of the batch that the next loader_next gives: what a checkpoint saves. */
int64_t loader_position(const struct loader *loader);

/* Batches of an epoch (of all ranks alike; rounded down with SAMPLER_TAIL_WRAP), or of the whole
 * evaluation when sequential. */
int64_t loader_num_batches(const struct loader *loader);

/* Rows of all sets (sequential: at most max_rows), and the samples of an epoch. */
int64_t loader_num_rows(const struct loader *loader);
int64_t loader_epoch_samples(const struct loader *loader);

/* Bytes of all buffers together. */
size_t loader_buffer_bytes(const struct loader *loader);

/* The same for a loader to be, of square pictures and texts, as data.prefetch says (0: the
 * default). */
int64_t loader_bytes_of(int64_t batch, int64_t side, int64_t text_length, bool mlm, int prefetch);

struct loader_stats {
    double wait; /* seconds that loader_next waited; the sum of the next four: */
    double wait_read;
    double wait_decode; /* decoding and transforming */
    double wait_tokenise;
    double wait_other; /* no thread was at work: they were not scheduled */
    double busy_read;  /* seconds of work, over all threads */
    double busy_decode;
    double busy_tokenise;
    int64_t batches; /* given out */
    int64_t seen;    /* samples given out, with those of options.seen */
    int64_t bad;     /* bad rows among them, with options.bad */
};

/* Totals since loader_create. A wait is divided by what the threads spent their time on meanwhile.
 */
struct loader_stats loader_stats(struct loader *loader);

/*
 * Makes `count` (at most n) samples by their numbers, in the calling thread, the consumer's, and
 * with the same bytes as in their batches. Borrowed until the next call of this function. Bad rows
 * are treated as options.on_bad says, but neither logged nor counted.
 */
enum status loader_samples_at(struct loader *loader, const uint64_t *samples, int64_t count,
                              const struct loader_batch **batch);

/* The same, but the texts alone, without reading or decoding a picture: for samples that are known
 * to be sound (their batch had num_bad 0), as a bad picture would have had its row replaced. Pixels
 * and boxes of the batch are undefined. */
enum status loader_texts_at(struct loader *loader, const uint64_t *samples, int64_t count,
                            const struct loader_batch **batch);

/* A hash of everything a slot holds: pixels, tokens, masks, labels, boxes, spans, validity. */
uint64_t loader_slot_hash(const struct loader_batch *batch, int64_t slot);

#endif
