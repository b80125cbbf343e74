/* TensorBoard event files, read back by a parser of their own that knows nothing of the writer's.
 */
#include "tests/launch/run_fixture.h"

#include <glob.h>

#include "launch/run_output.h"

static void test_crc(void **state)
{
    (void)state;
    /* RFC 3720, B.4. */
    uint8_t bytes[32] = {0};
    assert_int_equal(crc32c(0, bytes, 32), 0x8A9136AAu);
    memset(bytes, 0xFF, 32);
    assert_int_equal(crc32c(0, bytes, 32), 0x62A8AB43u);
    for (int i = 0; i < 32; i++) {
        bytes[i] = (uint8_t)i;
    }
    assert_int_equal(crc32c(0, bytes, 32), 0x46DD794Eu);
    assert_int_equal(crc32c(crc32c(0, bytes, 11), bytes + 11, 21), 0x46DD794Eu);
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283u);
}

struct scalar {
    char tag[64];
    float value;
    int64_t step;
};

struct events {
    int num_records;
    int num_scalars;
    struct scalar scalars[64];
    char version[32];
    int64_t session_step;
    double wall_time;
};

struct bytes {
    const uint8_t *at;
    const uint8_t *end;
};

static uint64_t get_little_endian(struct bytes *from, int size)
{
    uint64_t value = 0;
    assert_true(from->end - from->at >= size);
    for (int i = size - 1; i >= 0; i--) {
        value = value << 8 | from->at[i];
    }
    from->at += size;
    return value;
}

static uint64_t get_varint(struct bytes *from)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        assert_true(from->at < from->end && shift < 64);
        value |= (uint64_t)(*from->at & 127) << shift;
        if (!(*from->at++ & 128)) return value;
    }
}

static struct bytes get_bytes(struct bytes *from)
{
    uint64_t length = get_varint(from);
    assert_true((uint64_t)(from->end - from->at) >= length);
    struct bytes inner = {from->at, from->at + length};
    from->at += length;
    return inner;
}

static void read_value(struct bytes from, struct events *events, int64_t step)
{
    struct scalar *scalar = &events->scalars[events->num_scalars++];
    assert_true(events->num_scalars <= 64);
    scalar->step = step;
    assert_int_equal(get_varint(&from), 1 << 3 | 2);
    struct bytes tag = get_bytes(&from);
    snprintf(scalar->tag, sizeof scalar->tag, "%.*s", (int)(tag.end - tag.at),
             (const char *)tag.at);
    assert_int_equal(get_varint(&from), 2 << 3 | 5);
    uint32_t bits = (uint32_t)get_little_endian(&from, 4);
    memcpy(&scalar->value, &bits, 4);
    assert_true(from.at == from.end);
}

static void read_event(struct bytes from, struct events *events)
{
    int64_t step = 0;
    while (from.at < from.end) {
        uint64_t key = get_varint(&from);
        if (key == (1 << 3 | 1)) {
            uint64_t bits = get_little_endian(&from, 8);
            memcpy(&events->wall_time, &bits, 8);
        } else if (key == (2 << 3 | 0)) {
            step = (int64_t)get_varint(&from);
        } else if (key == (3 << 3 | 2)) {
            struct bytes version = get_bytes(&from);
            memcpy(events->version, version.at, (size_t)(version.end - version.at));
        } else if (key == (5 << 3 | 2)) {
            struct bytes summary = get_bytes(&from);
            while (summary.at < summary.end) {
                assert_int_equal(get_varint(&summary), 1 << 3 | 2);
                read_value(get_bytes(&summary), events, step);
            }
        } else {
            assert_int_equal(key, 7 << 3 | 2);
            get_bytes(&from);
            events->session_step = step;
        }
    }
}

static void read_events(const char *folder, struct events *events)
{
    char pattern[PATH_MAX + 32];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/events.out.tfevents.*", folder);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    size_t size = 0;
    char *text = file_text(found.gl_pathv[0], &size);
    struct bytes from = {(const uint8_t *)text, (const uint8_t *)text + size};
    *events = (struct events){.session_step = -1};
    while (from.at < from.end) {
        const uint8_t *length_at = from.at;
        uint64_t length = get_little_endian(&from, 8);
        assert_int_equal(get_little_endian(&from, 4), crc32c_masked(crc32c(0, length_at, 8)));
        assert_true((uint64_t)(from.end - from.at) >= length);
        struct bytes event = {from.at, from.at + length};
        from.at += length;
        assert_int_equal(get_little_endian(&from, 4), crc32c_masked(crc32c(0, event.at, length)));
        read_event(event, events);
        events->num_records++;
    }
    free(text);
    globfree(&found);
}

static float scalar_of(const struct events *events, const char *tag, int64_t step)
{
    for (int i = 0; i < events->num_scalars; i++) {
        const struct scalar *scalar = &events->scalars[i];
        if (scalar->step == step && strcmp(scalar->tag, tag) == 0) return scalar->value;
    }
    fail_msg("no %s at step %lld", tag, (long long)step);
    return 0;
}

static void test_a_run(void **state)
{
    (void)state;
    char folder[PATH_MAX];
    struct events events;
    struct run_output output;
    const char *keep = getenv("WEFT_KEEP");
    if (keep) {
        snprintf(folder, sizeof folder, "%s", keep);
    } else {
        folder_make(folder);
    }
    struct run_output_options options = {
        .folder = folder, .step = 200, .total_steps = 1000, .quiet = true};
    ASSERT_OK(run_output_open(&output, &options));
    struct run_log_step step = fixture_step(201);
    struct run_log_eval eval = {.step = 300, .split = "val", .metrics = {fixture_metrics, 1}};
    ASSERT_OK(run_output_step(&output, &step));
    ASSERT_OK(run_output_eval(&output, &eval));
    ASSERT_OK(run_output_close(&output));
    read_events(folder, &events);
    assert_int_equal(events.num_records, 4);
    assert_string_equal(events.version, "brain.Event:2");
    assert_int_equal(events.session_step, 201);
    assert_true(events.wall_time > 1.7e9);
    assert_int_equal(events.num_scalars, 4 + 1 + 2 + 10 + 3 + 1);
    assert_true(scalar_of(&events, "loss/mlm", 201) == 0.1f);
    assert_true(scalar_of(&events, "lr/heads", 201) == 5e-5f);
    assert_true(scalar_of(&events, "time/compute", 201) == 0.08f);
    assert_true(scalar_of(&events, "run/rss_mb", 201) == 512);
    assert_true(scalar_of(&events, "eval-val/itm_accuracy", 300) == 0.75f);
    if (!keep) folder_remove(folder);
}

static void test_other_ranks_write_nothing(void **state)
{
    (void)state;
    struct run_output output;
    struct run_output_options options = {.folder = "/nowhere", .rank = 3, .total_steps = 10};
    struct run_log_step step = fixture_step(1);
    struct run_log_end end = {.step = 1, .reason = "finished"};
    ASSERT_OK(run_output_open(&output, &options));
    ASSERT_OK(run_output_step(&output, &step));
    ASSERT_OK(run_output_warning(&output, 1, "not shown"));
    ASSERT_OK(run_output_end(&output, &end));
    ASSERT_OK(run_output_close(&output));
    options.rank = 0;
    ASSERT_FAILS(run_output_open(&output, &options), STATUS_IO, "/nowhere/log.jsonl");
    ASSERT_OK(run_output_close(&output));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        cmocka_unit_test(test_a_run),
        cmocka_unit_test(test_other_ranks_write_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
