#include "launch/feature_queue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/backend/executor.h"
#include "runtime/base/rng.h"
#include "runtime/comm/comm.h"

static const float masked = -10000.0f;

/* Set in the number of a sample whose batch had no bad row. Queues saved before there was this mark
 * do not have it, and their samples count as unknown. */
static const uint64_t sound_mark = (uint64_t)1 << 63;

enum status feature_queue_init(struct feature_queue *queue, const struct step *step,
                               struct executor *executor, const struct itc_config *config,
                               uint64_t seed)
{
    *queue = (struct feature_queue){0};
    if (!step->queue_bias) return STATUS_OK;
    queue->capacity = step->image_queue->shape.dim[0];
    queue->width = step->image_queue->shape.dim[1];
    queue->image = executor_data(executor, step->image_queue);
    queue->text = executor_data(executor, step->text_queue);
    queue->bias = executor_data(executor, step->queue_bias);
    queue->empty = executor_data(executor, step->queue_empty);
    int64_t rows = step->batch * step->world_size;
    queue->sample = calloc((size_t)queue->capacity, sizeof *queue->sample);
    queue->numbers = calloc((size_t)rows, sizeof *queue->numbers);
    queue->gathered = calloc((size_t)(2 * rows * queue->width), sizeof *queue->gathered);
    CHECK(queue->sample && queue->numbers && queue->gathered, STATUS_NO_MEMORY,
          "out of memory for the queue of contrastive learning");
    int64_t count = queue->capacity * queue->width;
    rng_fill_normal(rng_key(seed, RNG_INIT, rng_site("image_queue")), 0, 0, queue->image, count);
    rng_fill_normal(rng_key(seed, RNG_INIT, rng_site("text_queue")), 0, 0, queue->text, count);
    for (int64_t q = 0; q < queue->capacity; q++) {
        queue->bias[q] = config->mask_unfilled ? masked : 0.0f;
        queue->empty[q] = masked;
    }
    return STATUS_OK;
}

void feature_queue_fini(struct feature_queue *queue)
{
    free(queue->sample);
    free(queue->numbers);
    free(queue->gathered);
    *queue = (struct feature_queue){0};
}

static bool is_finite(const float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) return false;
    }
    return true;
}

enum status feature_queue_push(struct feature_queue *queue, const struct step *step,
                               struct executor *executor, const uint64_t *sample, bool is_sound,
                               struct comm *comm)
{
    if (!queue->capacity) return STATUS_OK;
    int64_t rows = step->batch * step->world_size;
    int64_t width = queue->width;
    int64_t count = step->batch * width;
    float *text = queue->gathered + rows * width;
    TRY(comm_allgather(comm, "queue images", executor_data(executor, step->image_feature),
                       queue->gathered, count, NULL, COMM_F32));
    TRY(comm_allgather(comm, "queue texts", executor_data(executor, step->text_feature), text,
                       count, NULL, COMM_F32));
    uint64_t *own = queue->numbers + comm->rank * step->batch;
    for (int64_t i = 0; i < step->batch; i++) {
        own[i] = sample[i] | (is_sound ? sound_mark : 0);
    }
    TRY(comm_allgather(comm, "queue samples", own, queue->numbers, step->batch, NULL, COMM_I64));
    for (int64_t r = 0; r < rows; r++) {
        /* What is not finite must not stay and spoil the updates to come. */
        if (!is_finite(queue->gathered + r * width, width) || !is_finite(text + r * width, width)) {
            continue;
        }
        int64_t q = queue->total++ % queue->capacity;
        memcpy(queue->image + q * width, queue->gathered + r * width,
               (size_t)width * sizeof(float));
        memcpy(queue->text + q * width, text + r * width, (size_t)width * sizeof(float));
        queue->bias[q] = 0.0f;
        queue->empty[q] = 0.0f;
        queue->sample[q] = queue->numbers[r];
    }
    return STATUS_OK;
}

uint64_t feature_queue_sample(const struct feature_queue *queue, int64_t column)
{
    return queue->sample[column] & ~sound_mark;
}

bool feature_queue_is_sound(const struct feature_queue *queue, int64_t column)
{
    return (queue->sample[column] & sound_mark) != 0;
}

/* The parts of the state one after another, as (memory, bytes). */
enum { PARTS = 6 };
struct part {
    void *memory;
    size_t size;
};

static void list_parts(const struct feature_queue *queue, struct part parts[PARTS])
{
    size_t rows = (size_t)queue->capacity;
    size_t features = rows * (size_t)queue->width * sizeof(float);
    parts[0] = (struct part){(void *)(uintptr_t)&queue->total, sizeof queue->total};
    parts[1] = (struct part){queue->image, features};
    parts[2] = (struct part){queue->text, features};
    parts[3] = (struct part){queue->bias, rows * sizeof(float)};
    parts[4] = (struct part){queue->empty, rows * sizeof(float)};
    parts[5] = (struct part){queue->sample, rows * sizeof *queue->sample};
}

int64_t feature_queue_bytes(const struct feature_queue *queue)
{
    struct part parts[PARTS];
    int64_t sum = 0;
    list_parts(queue, parts);
    for (int i = 0; i < PARTS; i++) {
        sum += (int64_t)parts[i].size;
    }
    return queue->capacity ? sum : 0;
}

void feature_queue_save(const struct feature_queue *queue, void *bytes)
{
    struct part parts[PARTS];
    char *at = bytes;
    list_parts(queue, parts);
    for (int i = 0; i < PARTS; i++) {
        memcpy(at, parts[i].memory, parts[i].size);
        at += parts[i].size;
    }
}

enum status feature_queue_load(struct feature_queue *queue, const void *bytes, int64_t size)
{
    CHECK(size == feature_queue_bytes(queue), STATUS_INVALID,
          "the saved queue of contrastive learning has %lld bytes, this recipe's %lld; resume with "
          "the queue length it was saved with",
          (long long)size, (long long)feature_queue_bytes(queue));
    struct part parts[PARTS];
    const char *at = bytes;
    list_parts(queue, parts);
    for (int i = 0; i < PARTS; i++) {
        memcpy(parts[i].memory, at, parts[i].size);
        at += parts[i].size;
    }
    return STATUS_OK;
}
