/*
 * Retrieval on held-out sets, during training and by `weft eval`.
 *
 * Protocol: every picture against every text of the sets (Karpathy and Fei-Fei, CVPR 2015, section
 * 4.2), first by the features of contrastive learning, then with the first `rerank` candidates of
 * each query put in the order of their matching scores. Equal scores keep the order of the sets, so
 * a model that finds everything alike has the recall of chance.
 */
#ifndef WEFT_LAUNCH_EVALUATE_H
#define WEFT_LAUNCH_EVALUATE_H

#include "data/loader/loader_config.h"
#include "launch/eval_pass.h"
#include "launch/eval_result.h"
#include "runtime/comm/comm.h"

/* What an evaluation needs; everything is borrowed. */
struct eval_input {
    struct eval_model model; /* its values: also the section `eval` and the names of the sets */
    struct comm *comm;
    const struct tokenizer *tokenizer;
    const struct data *data; /* its eval sets */
    int64_t step;            /* updates that the parameters had */
    const char *split;       /* name of what is evaluated on, for logs and reports */
    /* Asked on every rank between batches, with the user of `evaluate`: true at any rank ends the
     * evaluation on all of them. NULL: never. */
    bool (*stop)(void *user);
};

/* Receives the result on rank 0, which lives until the function returns. */
typedef enum status (*eval_report_fn)(void *user, const struct eval_result *result);

/*
 * Evaluates: recall of text and image retrieval by dual features, then after matching, and matching
 * accuracy. Collective. Errors: STATUS_INVALID without evaluation sets or without
 * contrastive learning; STATUS_CORRUPT for features that are not finite; STATUS_CANCELLED when
 * `stop` ended it; what data and `report` give. The same on all ranks, save for STATUS_COMM.
 */
enum status evaluate(const struct eval_input *input, eval_report_fn report, void *user);

#endif
