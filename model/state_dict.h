/*
 * What the public code's state dict holds besides the parameters: buffers that are computed from
 * the sizes, and `rank_output`, which is meant to be the row of the matching head that says "they
 * belong together".
 *
 * The queues are not part of it: their contents belong to a run, and the queue of pictures would be
 * gigabytes. The public code loads without them.
 */
#ifndef WEFT_MODEL_STATE_DICT_H
#define WEFT_MODEL_STATE_DICT_H

#include "model/model.h"
#include "runtime/base/arena.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/safetensors.h"

struct state_dict {
    struct safetensors_tensor *tensors; /* owned */
    int64_t count;
    struct arena arena; /* of names and data */
};

/*
 * Lists everything of a state dict for the model of the chosen family: the parameters, whose data
 * are borrowed from `vector`, and what belongs to them. Errors: STATUS_NO_MEMORY.
 */
enum status state_dict_init(struct state_dict *dict, const struct config_variant *choice,
                            const struct checkpoint_parameter *parameters, int64_t num_parameters,
                            const float *vector);
void state_dict_fini(struct state_dict *dict);

#endif
