/* The position of a run comes back as it was saved, also from a checkpoint of before it counted
 * skipped updates in a row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "launch/run_position.h"

static void comes_back(void **state)
{
    (void)state;
    const char *prints[] = {"00112233445566aa", "ff"};
    const struct run_position saved = {.updates = 7,
                                       .micro_batches = 14,
                                       .samples_per_micro_batch = 12,
                                       .seen = 168,
                                       .bad = 1,
                                       .applied = 4,
                                       .skipped = 3,
                                       .skipped_row = 2,
                                       .data = {prints, 2},
                                       .tokenizer = "0123"};
    struct strbuf text = {0};
    struct run_position read;
    struct config *config = NULL;
    assert_int_equal(config_print(&run_position_table, &saved, false, &text), STATUS_OK);
    assert_int_equal(config_read_text(&run_position_table, "file", text.text, text.length, NULL, 0,
                                      &read, &config),
                     STATUS_OK);
    assert_int_equal(read.updates, 7);
    assert_int_equal(read.micro_batches, 14);
    assert_int_equal(read.skipped, 3);
    assert_int_equal(read.skipped_row, 2);
    assert_int_equal(read.data.count, 2);
    assert_string_equal(read.data.items[0], "00112233445566aa");
    config_destroy(&config);
    strbuf_fini(&text);
}

static void old_text(void **state)
{
    (void)state;
    static const char text[] = "updates: 7\nmicro_batches: 14\nsamples_per_micro_batch: 12\n"
                               "seen: 168\nbad: 1\napplied: 4\nskipped: 3\n"
                               "data: [\"00112233445566aa\"]\ntokenizer: \"0123\"\n";
    struct run_position read = {.skipped_row = 99};
    struct config *config = NULL;
    assert_int_equal(
        config_read_text(&run_position_table, "file", text, strlen(text), NULL, 0, &read, &config),
        STATUS_OK);
    assert_int_equal(read.skipped, 3);
    assert_int_equal(read.skipped_row, 0);
    config_destroy(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(comes_back), cmocka_unit_test(old_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
