/* Assertions on reading configs, with the recipe of config_fixture.h. */
#ifndef WEFT_TESTS_RUNTIME_BASE_CONFIG_ASSERT_H
#define WEFT_TESTS_RUNTIME_BASE_CONFIG_ASSERT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/runtime/base/config_fixture.h"

static inline void assert_ok(enum status status)
{
    if (status != STATUS_OK) fail_msg("%s", status_message());
}

/* Reads `text` under the name t.yaml with one override (NULL: none). */
static inline enum status try_text(const char *text, const char *override, struct recipe *recipe,
                                   struct config **config)
{
    return config_read_text(&recipe_table, "t.yaml", text, strlen(text), &override,
                            override != NULL, recipe, config);
}

static inline struct config *read_text(const char *text, struct recipe *recipe)
{
    struct config *config = NULL;
    assert_ok(try_text(text, NULL, recipe, &config));
    return config;
}

/* That `text` is refused with exactly `message`, leaving nothing behind. */
static inline void assert_refused_with(const char *text, const char *override, const char *message)
{
    static const struct recipe zero;
    struct recipe recipe;
    struct config *config = NULL;
    assert_int_equal(try_text(text, override, &recipe, &config), STATUS_INVALID);
    assert_string_equal(status_message(), message);
    assert_null(config);
    assert_memory_equal(&recipe, &zero, sizeof zero);
}

static inline void assert_refused(const char *text, const char *message)
{
    assert_refused_with(text, NULL, message);
}

/* A folder for the files of one test. */
struct folder {
    char path[64];
};

static inline struct folder folder_create(void)
{
    struct folder folder = {"/tmp/weft-test-config-XXXXXX"};
    assert_non_null(mkdtemp(folder.path));
    return folder;
}

static inline void folder_remove(const struct folder *folder)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder->path);
    assert_int_equal(system(command), 0);
}

/* Writes a file of the folder; its path is valid until the next call. */
static inline const char *folder_write(const struct folder *folder, const char *name,
                                       const char *text)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder->path, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
    return path;
}

/* That reading `name` of the folder fails with `format`, in which @ stands for the folder. */
static inline void assert_file_refused(const struct folder *folder, const char *name,
                                       enum status status, const char *format)
{
    char path[128];
    char message[1024] = "";
    struct recipe recipe;
    struct config *config = NULL;
    snprintf(path, sizeof path, "%s/%s", folder->path, name);
    assert_int_equal(config_read(&recipe_table, path, NULL, 0, &recipe, &config), status);
    char *out = message;
    for (const char *p = format; *p; p++) {
        if (*p == '@') {
            out += sprintf(out, "%s", folder->path);
        } else {
            *out++ = *p;
            *out = '\0';
        }
    }
    assert_string_equal(status_message(), message);
    assert_null(config);
}

#endif
