/*
 * Arbitrary bytes as a config. Lines after a line "%%" are overrides. What is accepted must print,
 * read back and print to the same bytes; what is refused must say why, in one line.
 * runs=300000
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/runtime/base/config_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_OVERRIDES = 8 };

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s; last message: %s\n", __FILE__, __LINE__, #condition,       \
                    status_message());                                                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void check_refusal(const struct recipe *recipe, const struct config *config)
{
    static const struct recipe zero;
    REQUIRE(!config);
    REQUIRE(memcmp(recipe, &zero, sizeof zero) == 0);
    REQUIRE(status_message()[0] && !strchr(status_message(), '\n'));
    REQUIRE(strncmp(status_message(), "fuzz.yaml", 9) == 0 ||
            strncmp(status_message(), "--set ", 6) == 0);
}

static void check_round_trip(const struct recipe *recipe, bool with_help)
{
    struct strbuf once = {0};
    struct strbuf twice = {0};
    struct recipe copy;
    struct config *config = NULL;
    REQUIRE(config_print(&recipe_table, recipe, with_help, &once) == STATUS_OK);
    REQUIRE(config_read_text(&recipe_table, "printed.yaml", once.text, once.length, NULL, 0, &copy,
                             &config) == STATUS_OK);
    REQUIRE(config_print(&recipe_table, &copy, with_help, &twice) == STATUS_OK);
    REQUIRE(once.length == twice.length && memcmp(once.text, twice.text, once.length) == 0);
    config_destroy(&config);
    strbuf_fini(&once);
    strbuf_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    const char *overrides[MAX_OVERRIDES];
    int num_overrides = 0;
    size_t length = size;
    char *rest = memmem(text, size, "\n%%\n", 4);
    if (rest) {
        length = (size_t)(rest - text) + 1;
        rest += 4;
        for (char *line = strsep(&rest, "\n"); line && num_overrides < MAX_OVERRIDES;
             line = strsep(&rest, "\n")) {
            overrides[num_overrides++] = line;
        }
    }
    struct recipe recipe;
    struct config *config = NULL;
    enum status status = config_read_text(&recipe_table, "fuzz.yaml", text, length, overrides,
                                          num_overrides, &recipe, &config);
    if (status == STATUS_OK) {
        check_round_trip(&recipe, size % 2 == 0);
        REQUIRE(strncmp(config_where(config, "data.0.path"), "fuzz.yaml", 9) == 0 ||
                strncmp(config_where(config, "data.0.path"), "--set ", 6) == 0);
    } else {
        check_refusal(&recipe, config);
    }
    config_destroy(&config);
    free(text);
    return 0;
}
