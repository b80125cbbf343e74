/*
 * The queue of contrastive learning in `fiber` mode: features of earlier samples of all ranks, with
 * their sample numbers. No pixels are kept. It lives in the step's inputs, equal on all ranks, and
 * belongs to a run's state.
 */
#ifndef WEFT_LAUNCH_FEATURE_QUEUE_H
#define WEFT_LAUNCH_FEATURE_QUEUE_H

#include "objectives/objective.h"

struct comm;
struct executor;

struct feature_queue {
    int64_t capacity; /* Q; 0: there is none, and all functions do nothing */
    int64_t width;    /* D */
    int64_t total;    /* written since the start; the next goes to total % Q */
    float *image;     /* [Q,D] and so on: the step's inputs, borrowed */
    float *text;
    float *bias;
    float *empty;
    uint64_t *sample; /* [Q] numbers of the samples, marked where sound; owned */
    float *gathered;  /* [2, size * B, D] owned */
    uint64_t *numbers;
};

/* Prepares the queue of a step: noise that is masked out, or takes part as in the public code. */
enum status feature_queue_init(struct feature_queue *queue, const struct step *step,
                               struct executor *executor, const struct itc_config *config,
                               uint64_t seed);
void feature_queue_fini(struct feature_queue *queue);

/* Enters the features of the micro-batch that has run, save for rows that are not finite; `sample`
 * [B] are its numbers, `is_sound` says that none of this rank's rows was bad. Collective. */
enum status feature_queue_push(struct feature_queue *queue, const struct step *step,
                               struct executor *executor, const uint64_t *sample, bool is_sound,
                               struct comm *comm);

/* The number of the sample in column `column` of the queue. */
uint64_t feature_queue_sample(const struct feature_queue *queue, int64_t column);

/* Whether that sample is known to be sound, so that its text can be made without its picture. */
bool feature_queue_is_sound(const struct feature_queue *queue, int64_t column);

/* State for checkpoints: size in bytes, and to and from memory of that size. */
int64_t feature_queue_bytes(const struct feature_queue *queue);
void feature_queue_save(const struct feature_queue *queue, void *bytes);
enum status feature_queue_load(struct feature_queue *queue, const void *bytes, int64_t size);

#endif
