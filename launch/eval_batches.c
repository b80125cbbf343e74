/*
 * Batches of an evaluation. Ranks have different numbers of them, and a signal reaches one rank, or
 * each at another moment; so that all end at the same place, they tell each other after every
 * batch, with what costs next to nothing beside a batch. Who has no more waits for the others
 * there.
 */
#include "launch/eval_impl.h"

enum status eval_batches(struct evaluation *e, const char *label, enum status begun,
                         eval_batch_fn batch, void *user)
{
    enum { FAILED, STOPPED, GOING_ON, COUNT };
    enum status status = begun;
    bool more = true;
    for (;;) {
        if (status == STATUS_OK && more) status = batch(user, &more);
        int64_t ranks[COUNT] = {[FAILED] = status != STATUS_OK,
                                [STOPPED] = e->in->stop && e->in->stop(e->user),
                                [GOING_ON] = more};
        TRY(comm_allreduce(e->in->comm, label, ranks, COUNT, COMM_I64, COMM_SUM));
        if (ranks[FAILED] > 0) return comm_agree_status(e->in->comm, label, status);
        CHECK(ranks[STOPPED] == 0, STATUS_CANCELLED, "the evaluation was stopped by a signal");
        if (ranks[GOING_ON] == 0) return STATUS_OK;
    }
}
