/*
 * TensorBoard event files: scalar curves for `tensorboard --logdir RUN`.
 *
 * A file is a sequence of TFRecords (length, masked CRC-32C of it, bytes, masked CRC-32C of them),
 * each an Event message of TensorFlow's event.proto. Only scalars are written. A resumed run writes
 * a new file that begins with a session start at its step, upon which TensorBoard drops what older
 * files hold beyond it. Values are f32 there; log.jsonl has them in full.
 *
 * Not collective; rank 0 writes. One thread at a time.
 */
#ifndef WEFT_LAUNCH_TENSORBOARD_H
#define WEFT_LAUNCH_TENSORBOARD_H

#include <stddef.h>
#include <stdint.h>

#include "launch/run_log.h"

/* Zero-initialise. */
struct tensorboard {
    int fd;
    char *path;          /* NULL: closed */
    struct strbuf event; /* the message being made */
    struct strbuf record;
};

/* Creates FOLDER/events.out.tfevents.TIME.HOST.PROCESS. `step` is the number of updates done
 * before. Close with tensorboard_close. Errors: STATUS_IO, STATUS_NO_MEMORY. */
enum status tensorboard_open(struct tensorboard *board, const char *folder, int64_t step);

/* Writes `values` at `step` under the tags PREFIX/NAME. Errors: STATUS_IO, STATUS_NO_MEMORY. */
enum status tensorboard_values(struct tensorboard *board, int64_t step, const char *prefix,
                               const struct run_values *values);

/* Writes all of a step: loss/, metric/, lr/, time/ (seconds) and run/ (gradient_norm, ...). Errors
 * as above. */
enum status tensorboard_step(struct tensorboard *board, const struct run_log_step *step);

/* NULL-safe, and nothing on one that is not open. Errors: STATUS_IO. */
enum status tensorboard_close(struct tensorboard *board);

/* CRC-32C (Castagnoli) of `size` bytes, continuing from `crc` (0 at first). */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

/* What TFRecords store of it: rotated right by 15 bits, plus a constant. */
uint32_t crc32c_masked(uint32_t crc);

#endif
