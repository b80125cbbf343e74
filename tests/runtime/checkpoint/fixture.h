/* A small state whose every element is a function of its vector, place and step, on any number of
 * ranks. */
#ifndef WEFT_TESTS_CHECKPOINT_FIXTURE_H
#define WEFT_TESTS_CHECKPOINT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/comm/comm.h"

#define ASSERT_OK(expression)                                                                      \
    do {                                                                                           \
        enum status assert_status = (expression);                                                  \
        if (assert_status != STATUS_OK)                                                            \
            fail_msg("%s: %s", status_name(assert_status), status_message());                      \
    } while (0)

#define ASSERT_FAILS(expression, code, part)                                                       \
    do {                                                                                           \
        assert_int_equal(expression, code);                                                        \
        if (!strstr(status_message(), part)) fail_msg("'%s' lacks '%s'", status_message(), part);  \
    } while (0)

enum { FIXTURE_VECTORS = 3 };

struct fixture {
    struct checkpoint_vector vectors[FIXTURE_VECTORS];
    float *data[FIXTURE_VECTORS]; /* owned */
    struct checkpoint_blob blobs[2];
    struct checkpoint_parameter parameters[3];
    struct checkpoint_state state;
    char config[64];
};

static inline float fixture_value(int vector, int64_t element, int64_t step)
{
    return (float)(vector * 1000003 + element % 65521) + (float)step * 0.25f;
}

/* Shares elements as ZeRO-1 does: equal parts, the last ones shorter. */
static inline void fixture_slice(int64_t elements, int rank, int size, int64_t *begin,
                                 int64_t *count)
{
    int64_t part = (elements + size - 1) / size;
    *begin = part * rank < elements ? part * rank : elements;
    *count = part < elements - *begin ? part : elements - *begin;
}

static inline void fixture_fill(struct fixture *fixture, int64_t step)
{
    fixture->state.step = step;
    for (int v = 0; v < FIXTURE_VECTORS; v++) {
        for (int64_t i = 0; i < fixture->vectors[v].count; i++) {
            fixture->data[v][i] = fixture_value(v, fixture->vectors[v].begin + i, step);
        }
    }
    snprintf(fixture->config, sizeof fixture->config, "name: fixture\nstep: %06lld\n",
             (long long)step);
}

/* "parameters" is whole on every rank, the moments are shared out when `sharded`. */
static inline void fixture_create(struct fixture *fixture, int64_t elements, bool sharded, int rank,
                                  int size)
{
    static const char *const names[FIXTURE_VECTORS] = {"parameters", "moment1", "moment2"};
    memset(fixture, 0, sizeof *fixture);
    for (int v = 0; v < FIXTURE_VECTORS; v++) {
        struct checkpoint_vector *vector = &fixture->vectors[v];
        *vector =
            (struct checkpoint_vector){.name = names[v], .elements = elements, .count = elements};
        if (sharded && v > 0) {
            fixture_slice(elements, rank, size, &vector->begin, &vector->count);
        }
        fixture->data[v] = malloc((size_t)(vector->count + 1) * sizeof(float));
        assert_non_null(fixture->data[v]);
        vector->data = fixture->data[v];
    }
    fixture->parameters[0] = (struct checkpoint_parameter){"a.weight", SHAPE(5, 7), 0, 35};
    fixture->parameters[1] = (struct checkpoint_parameter){"a.bias", SHAPE(5), 48, 5};
    fixture->parameters[2] = (struct checkpoint_parameter){"scale", SHAPE_SCALAR, 64, 1};
    fixture->blobs[0] = (struct checkpoint_blob){"config.yaml", fixture->config, 27};
    fixture->blobs[1] = (struct checkpoint_blob){"nothing", NULL, 0};
    fixture->state = (struct checkpoint_state){.vectors = fixture->vectors,
                                               .num_vectors = FIXTURE_VECTORS,
                                               .blobs = fixture->blobs,
                                               .num_blobs = 2,
                                               .parameters = fixture->parameters,
                                               .num_parameters = 3};
    fixture_fill(fixture, 0);
}

static inline void fixture_destroy(struct fixture *fixture)
{
    for (int v = 0; v < FIXTURE_VECTORS; v++) {
        free(fixture->data[v]);
    }
}

/* Reads `rank`'s part of everything and compares every bit. */
static inline void fixture_expect(const struct checkpoint *checkpoint, int64_t elements,
                                  int64_t step, int rank, int size)
{
    static const char *const names[FIXTURE_VECTORS] = {"parameters", "moment1", "moment2"};
    assert_int_equal(checkpoint_step(checkpoint), step);
    for (int v = 0; v < FIXTURE_VECTORS; v++) {
        int64_t begin;
        int64_t count;
        fixture_slice(elements, rank, size, &begin, &count);
        assert_int_equal(checkpoint_elements(checkpoint, names[v]), elements);
        float *values = malloc((size_t)(count + 1) * sizeof *values);
        assert_non_null(values);
        ASSERT_OK(checkpoint_read_flat(checkpoint, names[v], begin, count, values));
        for (int64_t i = 0; i < count; i++) {
            float expected = fixture_value(v, begin + i, step);
            if (memcmp(&values[i], &expected, sizeof expected) != 0) {
                fail_msg("%s[%lld] is %g and not %g", names[v], (long long)(begin + i),
                         (double)values[i], (double)expected);
            }
        }
        free(values);
    }
    char config[64];
    snprintf(config, sizeof config, "name: fixture\nstep: %06lld\n", (long long)step);
    void *bytes;
    int64_t size_of_config;
    ASSERT_OK(checkpoint_blob_read(checkpoint, "config.yaml", &bytes, &size_of_config));
    assert_string_equal(bytes, config);
    free(bytes);
    assert_int_equal(checkpoint_blob_size(checkpoint, "nothing"), 0);
}

/* A fresh folder that all ranks know; `path` has room for 256 bytes. */
static inline void fixture_folder(char *path, struct comm *comm)
{
    if (!comm || comm->rank == 0) {
        const char *base = getenv("TMPDIR");
        snprintf(path, 256, "%s/weft-checkpoint-XXXXXX", base ? base : "/tmp");
        assert_non_null(mkdtemp(path));
    }
    if (comm) ASSERT_OK(comm_broadcast(comm, "folder", path, 256, COMM_U8, 0));
}

static inline void fixture_remove(const char *path, struct comm *comm)
{
    char command[320];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (comm) ASSERT_OK(comm_barrier(comm, "remove"));
    if (!comm || comm->rank == 0) assert_int_equal(system(command), 0);
}

#endif
