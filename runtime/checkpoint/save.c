/*
 * A save goes through three states, moved on by the ranks together:
 *
 *   idle --begin--> writing --all ranks' bytes on the disk--> finishing --renamed--> idle
 *
 * In `writing` every rank's thread writes its pieces; in `finishing` a thread of rank 0 writes the
 * table of hashes and the seal and gives the file its name. Both need neither MPI nor libhdf5, so
 * the training's own use of them is never waited for. The ranks learn of each other's progress and
 * failures by one small agreement at step boundaries.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/strbuf.h"
#include "runtime/checkpoint/background.h"
#include "runtime/checkpoint/piece_writer.h"
#include "runtime/checkpoint/save_impl.h"
#include "runtime/comm/comm.h"
#include "runtime/graph/graph.h"

enum phase { IDLE, WRITING, FINISHING };

struct checkpoint_saver {
    char folder[CHECKPOINT_FOLDER_MAX];
    struct comm *comm;
    struct checkpoint_saver_options options;
    enum phase phase;
    int64_t step;
    char temporary[PATH_MAX];
    double begun;
    double stall;
    struct save_layout layout;
    struct save_plan plan;
    struct piece_writer writer;
    struct background background; /* rank 0's finish */
    struct save_finish finish;
    struct checkpoint_report report;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool is_first(const struct checkpoint_saver *saver)
{
    return !saver->comm || saver->comm->rank == 0;
}

static enum status agree(const struct checkpoint_saver *saver, const char *label,
                         enum status status)
{
    return saver->comm ? comm_agree_status(saver->comm, label, status) : status;
}

enum status checkpoint_saver_create(struct checkpoint_saver **created, const char *folder,
                                    const struct checkpoint_saver_options *options,
                                    struct comm *comm)
{
    *created = NULL;
    struct checkpoint_saver *saver = calloc(1, sizeof *saver);
    enum status status = STATUS_OK;
    if (!saver) {
        status = status_fail(STATUS_NO_MEMORY, "no memory to save checkpoints");
    } else if (strlen(folder) == 0 || strlen(folder) >= sizeof saver->folder) {
        status = status_fail(STATUS_INVALID, "'%s': not a usable name of a folder", folder);
    } else {
        status = piece_writer_init(&saver->writer);
    }
    if (comm) status = comm_agree_status(comm, "checkpoint: start", status);
    if (status != STATUS_OK || !saver) {
        free(saver);
        return status;
    }
    signal(SIGXFSZ, SIG_IGN);
    snprintf(saver->folder, sizeof saver->folder, "%s", folder);
    saver->comm = comm;
    saver->options = *options;
    saver->report.step = -1;
    status =
        agree(saver, "checkpoint: folder",
              is_first(saver) ? save_folder_prepare(folder, options->resumed_step) : STATUS_OK);
    if (status != STATUS_OK) {
        checkpoint_saver_destroy(&saver);
        return status;
    }
    *created = saver;
    return STATUS_OK;
}

/* Back to idle; what was written is removed unless it has its name already. */
static void end_save(struct checkpoint_saver *saver, bool is_complete)
{
    if (!is_complete && is_first(saver)) (void)unlink(saver->temporary);
    save_plan_fini(&saver->plan);
    save_layout_fini(&saver->layout);
    saver->phase = IDLE;
}

void checkpoint_saver_destroy(struct checkpoint_saver **saver)
{
    if (!*saver) return;
    piece_writer_cancel(&(*saver)->writer);
    (void)piece_writer_join(&(*saver)->writer);
    bool is_complete = false;
    if ((*saver)->background.running) {
        is_complete = background_join(&(*saver)->background) == STATUS_OK;
    }
    if ((*saver)->phase != IDLE) end_save(*saver, is_complete);
    piece_writer_fini(&(*saver)->writer);
    free(*saver);
    *saver = NULL;
}

/* ---- begin ---- */

static bool is_good_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t length = name ? strlen(name) : 0;
    return length > 0 && length <= CHECKPOINT_NAME_MAX && strspn(name, allowed) == length &&
           name[0] != '.';
}

static enum status check_state(const struct checkpoint_state *state)
{
    CHECK(state->step >= 0, STATUS_INVALID, "a checkpoint of step %" PRId64, state->step);
    for (int v = 0; v < state->num_vectors; v++) {
        const struct checkpoint_vector *vector = &state->vectors[v];
        CHECK(is_good_name(vector->name), STATUS_INVALID, "'%s': not a name for a vector",
              vector->name);
        CHECK(vector->elements >= 0 && vector->begin >= 0 && vector->count >= 0 &&
                  vector->count <= vector->elements - vector->begin,
              STATUS_INVALID,
              "vector '%s': %" PRId64 " elements from %" PRId64 " on do not lie in its %" PRId64,
              vector->name, vector->count, vector->begin, vector->elements);
    }
    for (int b = 0; b < state->num_blobs; b++) {
        CHECK(is_good_name(state->blobs[b].name) && state->blobs[b].size >= 0, STATUS_INVALID,
              "'%s': not a name for a blob", state->blobs[b].name);
    }
    return STATUS_OK;
}

/* All ranks must be about to write the same file. */
static enum status agree_state(const struct checkpoint_saver *saver,
                               const struct checkpoint_state *state)
{
    TRY(agree(saver, "checkpoint: state", check_state(state)));
    if (!saver->comm) return STATUS_OK;
    struct strbuf text = {0};
    strbuf_printf(&text, "%" PRId64 "\n", state->step);
    for (int v = 0; v < state->num_vectors; v++) {
        strbuf_printf(&text, "%s %" PRId64 "\n", state->vectors[v].name,
                      state->vectors[v].elements);
    }
    for (int b = 0; b < state->num_blobs; b++) {
        strbuf_printf(&text, "%s %" PRId64 "\n", state->blobs[b].name, state->blobs[b].size);
    }
    for (int64_t i = 0; i < state->num_parameters; i++) {
        const struct checkpoint_parameter *parameter = &state->parameters[i];
        char shape[SHAPE_TEXT];
        strbuf_printf(&text, "%s %s %" PRId64 "\n", parameter->name,
                      shape_format(&parameter->shape, shape), parameter->offset);
    }
    enum status status = STATUS_OK;
    if (text.failed) status = status_fail(STATUS_NO_MEMORY, "no memory to compare a state");
    status = agree(saver, "checkpoint: state", status);
    if (status == STATUS_OK) {
        status = comm_agree_bytes(saver->comm, "names and sizes of a checkpoint", text.text,
                                  (int64_t)text.length);
    }
    strbuf_fini(&text);
    return status;
}

static void set_phase(const struct checkpoint_saver *saver)
{
    if (saver->comm) comm_phase_set(saver->comm, COMM_PHASE_CHECKPOINT, "checkpoint");
}

static enum status begin_save(struct checkpoint_saver *saver, const struct checkpoint_state *state)
{
    char name[CHECKPOINT_FOLDER_NAME_MAX];
    TRY(agree_state(saver, state));
    saver->step = state->step;
    checkpoint_file_name(state->step, name);
    snprintf(saver->temporary, sizeof saver->temporary, "%s/%s.tmp", saver->folder, name);
    enum status status = save_plan_create(&saver->plan, state, saver->comm);
    if (status == STATUS_OK) {
        status = save_file_create(saver->temporary, state, saver->plan.num_rows, saver->comm,
                                  &saver->layout);
    }
    if (status != STATUS_OK) {
        save_plan_fini(&saver->plan);
        return status;
    }
    status = save_plan_place(&saver->plan, state, &saver->layout, saver->comm);
    if (status == STATUS_OK) {
        status = piece_writer_start(&saver->writer, saver->temporary, saver->plan.pieces,
                                    saver->plan.num_pieces);
    }
    status = agree(saver, "checkpoint: start writing", status);
    if (status != STATUS_OK) {
        (void)piece_writer_join(&saver->writer);
        end_save(saver, false);
        return status;
    }
    saver->phase = WRITING;
    return STATUS_OK;
}

enum status checkpoint_begin(struct checkpoint_saver *saver, const struct checkpoint_state *state)
{
    bool finished;
    TRY(checkpoint_wait(saver, &finished));
    set_phase(saver);
    saver->begun = now();
    enum status status = begin_save(saver, state);
    saver->stall = now() - saver->begun;
    return status;
}

enum status checkpoint_settle(struct checkpoint_saver *saver)
{
    if (saver->phase != WRITING) return STATUS_OK;
    double begin = now();
    enum status status = piece_writer_settle(&saver->writer);
    saver->stall += now() - begin;
    return status;
}

/* ---- on to the end ---- */

/* Brings the hashes of all ranks' pieces into rank 0's table. */
static enum status gather_hashes(struct checkpoint_saver *saver)
{
    struct comm *comm = saver->comm;
    struct save_plan *plan = &saver->plan;
    if (!comm || comm->size == 1) {
        for (int64_t i = 0; i < plan->num_pieces; i++) {
            plan->rows[plan->pieces[i].row].hash = plan->pieces[i].hash;
        }
        return STATUS_OK;
    }
    /* Every row that is used belongs to one rank: the others have zero there. */
    uint64_t *hashes = calloc((size_t)plan->num_used + 1, sizeof *hashes);
    enum status status = STATUS_OK;
    if (!hashes) status = status_fail(STATUS_NO_MEMORY, "no memory for a checkpoint's hashes");
    status = agree(saver, "checkpoint: hashes", status);
    if (status == STATUS_OK && hashes) {
        for (int64_t i = 0; i < plan->num_pieces; i++) {
            hashes[plan->pieces[i].row] = plan->pieces[i].hash;
        }
        status =
            comm_allreduce(comm, "checkpoint: hashes", hashes, plan->num_used, COMM_I64, COMM_SUM);
    }
    for (int64_t i = 0; status == STATUS_OK && hashes && i < plan->num_used; i++) {
        plan->rows[i].hash = hashes[i];
    }
    free(hashes);
    return status;
}

static enum status start_finish(struct checkpoint_saver *saver)
{
    enum status status = agree(saver, "checkpoint: written", piece_writer_join(&saver->writer));
    if (status == STATUS_OK) status = gather_hashes(saver);
    if (status == STATUS_OK && is_first(saver)) {
        saver->finish = (struct save_finish){.folder = saver->folder,
                                             .temporary = saver->temporary,
                                             .step = saver->step,
                                             .keep = saver->options.keep,
                                             .keep_every = saver->options.keep_every,
                                             .layout = &saver->layout,
                                             .plan = &saver->plan};
        status = background_start(&saver->background, save_finish, &saver->finish);
    }
    if (status == STATUS_COMM) return status; /* no more agreement is possible */
    return agree(saver, "checkpoint: finish", status);
}

static void complete(struct checkpoint_saver *saver)
{
    struct checkpoint_report *report = &saver->report;
    char name[CHECKPOINT_FOLDER_NAME_MAX];
    checkpoint_file_name(saver->step, name);
    snprintf(report->path, sizeof report->path, "%s/%s", saver->folder, name);
    report->step = saver->step;
    report->bytes = saver->layout.file_bytes + CHECKPOINT_SEAL_BYTES;
    report->seconds = now() - saver->begun;
    end_save(saver, true);
}

/* One move; `wait` waits for this rank's own thread first. */
static enum status move_on(struct checkpoint_saver *saver, bool wait, bool *finished)
{
    bool writing = saver->phase == WRITING;
    bool done = wait || (writing ? piece_writer_is_done(&saver->writer)
                                 : background_is_done(&saver->background));
    if (saver->comm) {
        struct comm_agreed agreed;
        TRY(comm_agree(saver->comm, "checkpoint: progress", done ? 1 : 0, &agreed));
        done = agreed.min == 1;
    }
    if (!done) return STATUS_OK;
    enum status status;
    if (writing) {
        status = start_finish(saver);
        if (status == STATUS_OK) saver->phase = FINISHING;
    } else {
        status = agree(saver, "checkpoint: complete", background_join(&saver->background));
        if (status == STATUS_OK) {
            if (saver->comm) {
                int64_t bytes = saver->layout.file_bytes;
                TRY(comm_broadcast(saver->comm, "checkpoint: bytes", &bytes, 1, COMM_I64, 0));
                saver->layout.file_bytes = bytes;
            }
            complete(saver);
            *finished = true;
        }
    }
    if (status != STATUS_OK) {
        (void)background_join(&saver->background);
        end_save(saver, false);
    }
    return status;
}

enum status checkpoint_progress(struct checkpoint_saver *saver, bool *finished)
{
    *finished = false;
    if (saver->phase == IDLE) return STATUS_OK;
    double begin = now();
    enum status status = move_on(saver, false, finished);
    saver->stall += now() - begin;
    saver->report.stall = saver->stall;
    return status;
}

enum status checkpoint_wait(struct checkpoint_saver *saver, bool *finished)
{
    *finished = false;
    if (saver->phase == IDLE) return STATUS_OK;
    double begin = now();
    enum status status = STATUS_OK;
    set_phase(saver);
    while (saver->phase != IDLE && status == STATUS_OK) {
        status = move_on(saver, true, finished);
    }
    saver->stall += now() - begin;
    saver->report.stall = saver->stall;
    return status;
}

enum status checkpoint_save(struct checkpoint_saver *saver, const struct checkpoint_state *state)
{
    bool finished;
    TRY(checkpoint_begin(saver, state));
    return checkpoint_wait(saver, &finished);
}

struct checkpoint_report checkpoint_report(const struct checkpoint_saver *saver)
{
    return saver->report;
}

enum status checkpoint_parameters(const struct graph *graph,
                                  struct checkpoint_parameter **parameters, int64_t *count)
{
    *count = graph_num_parameters(graph);
    *parameters = calloc((size_t)*count + 1, sizeof **parameters);
    CHECK(*parameters, STATUS_NO_MEMORY, "no memory for %" PRId64 " parameters", *count);
    for (int64_t i = 0; i < *count; i++) {
        const struct parameter *parameter = graph_parameter_at(graph, i);
        (*parameters)[i] = (struct checkpoint_parameter){parameter->name, parameter->tensor->shape,
                                                         parameter->offset, parameter->count};
    }
    return STATUS_OK;
}
