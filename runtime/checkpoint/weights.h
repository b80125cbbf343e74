/*
 * Weights by name: from safetensors files and checkpoints into a model's flat vector.
 *
 * A set of weights is filled from files, its names may be changed to the model's, and then it is
 * loaded: exact names, exact shapes. The one thing that is adapted is Swin's tables of relative
 * positions, which depend on the window's size: they are resized as the public code does. What is
 * missing in the files or left over must be allowed by name; nothing happens in silence. Not
 * collective.
 */
#ifndef WEFT_RUNTIME_CHECKPOINT_WEIGHTS_H
#define WEFT_RUNTIME_CHECKPOINT_WEIGHTS_H

#include <stdint.h>

#include "runtime/base/strbuf.h"
#include "runtime/checkpoint/checkpoint.h"

struct weights;

enum status weights_create(struct weights **weights);
void weights_destroy(struct weights **weights); /* NULL-safe, sets NULL */

/*
 * Adds the tensors of a safetensors file, or those of a checkpoint (a file, a folder of them or a
 * run), of its vector `vector` ("parameters", "ema"). Keeps the file open. Errors: those of
 * safetensors_open and checkpoint_open; STATUS_NOT_FOUND for a vector that is not there.
 */
enum status weights_add(struct weights *weights, const char *path, const char *vector);

struct weights_tensor {
    const char *name; /* as it will be looked for; NULL: dropped */
    const char *original;
    const char *path; /* of its file */
    bool is_float;    /* others (indices) can only be dropped or left over */
    struct shape shape;
};

int64_t weights_count(const struct weights *weights);
const struct weights_tensor *weights_at(const struct weights *weights, int64_t index);

/* Gives a tensor another name (copied), or NULL to drop it: it is then counted, not told. Errors:
 * STATUS_NO_MEMORY. */
enum status weights_rename(struct weights *weights, int64_t index, const char *name);

/* What became of a parameter of the model. */
enum weights_fate { WEIGHTS_MISSING, WEIGHTS_LOADED, WEIGHTS_RESIZED };

struct weights_report {
    enum weights_fate *fates; /* [num_parameters], owned */
    int64_t loaded;
    int64_t resized;
    int64_t missing;
    int64_t unused;
    int64_t dropped;
    struct strbuf text; /* lines for people: the counts, then what was resized, missing, unused */
};

void weights_report_fini(struct weights_report *report);

/*
 * Loads into `vector`, laid out as `parameters` say; missing parameters keep their values. `allow`
 * [num_allow] are patterns (string_matches) of names that may be missing or unused. The report is
 * filled in also on failure, as far as it came; the caller frees it. Errors: STATUS_INVALID for a
 * shape that does not fit, a name that comes from two files, or names that are missing or unused
 * and not allowed (the first ones named).
 */
enum status weights_load(const struct weights *weights,
                         const struct checkpoint_parameter *parameters, int64_t num_parameters,
                         const char *const *allow, int64_t num_allow, float *vector,
                         struct weights_report *report);

/*
 * Resizes a table of relative positions [from*from, heads] to [to*to, heads]: bicubic with
 * a = -0.75, pixel centres, edges repeated, as torch's interpolate without align_corners (models of
 * another resolution; Keys, IEEE ASSP 1981). from = 2 * window - 1.
 */
void weights_resize_table(const float *in, int64_t from, float *out, int64_t to, int64_t heads);

#endif
