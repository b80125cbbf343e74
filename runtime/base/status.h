/*
 * Status codes and error messages.
 *
 * Every function that can fail returns `enum status`; STATUS_OK is 0. The message of the last
 * failure is kept per thread, so a caller adds context while the error travels up and only `main`
 * prints it. A good message names the file or value, the place, and what the user can do about it.
 */
#ifndef WEFT_RUNTIME_BASE_STATUS_H
#define WEFT_RUNTIME_BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

enum status {
    STATUS_OK = 0,
    STATUS_INVALID,     /* bad input of the user: config, arguments, shapes */
    STATUS_NOT_FOUND,   /* a file, key or name that does not exist */
    STATUS_IO,          /* the operating system refused a read or a write */
    STATUS_CORRUPT,     /* a file exists but its contents are damaged */
    STATUS_NO_MEMORY,   /* an allocation failed */
    STATUS_UNSUPPORTED, /* valid input that this build or machine cannot handle */
    STATUS_COMM,        /* a collective failed or a peer is gone */
    STATUS_CANCELLED,   /* stopped by a signal */
    STATUS_INTERNAL,    /* one of our own invariants does not hold */
    STATUS_COUNT
};

#if defined(__GNUC__)
#define STATUS_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define STATUS_PRINTF(fmt, first)
#endif

/* Records a formatted message for this thread and returns `code`. Replaces an earlier message. */
enum status status_fail(enum status code, const char *format, ...) STATUS_PRINTF(2, 3);

/* Puts "formatted: " in front of this thread's message and returns `code`. For context on the way
 * up. */
enum status status_prefix(enum status code, const char *format, ...) STATUS_PRINTF(2, 3);

/* The message of this thread's last failure, "" if there was none. Valid until the next failure
 * here. */
const char *status_message(void);

/* A short name of the code: "invalid", "not found", ... */
const char *status_name(enum status code);

/* The process exit code for a status: 0 for OK, otherwise 2 for user errors and 1 for the rest. */
int status_exit_code(enum status code);

/* Returns from the calling function when `expression` fails. */
#define TRY(expression)                                                                            \
    do {                                                                                           \
        enum status try_status = (expression);                                                     \
        if (try_status != STATUS_OK) return try_status;                                            \
    } while (0)

/* Stores the status of `expression` in `variable` and jumps to `label` when it fails. */
#define TRY_GOTO(variable, expression, label)                                                      \
    do {                                                                                           \
        (variable) = (expression);                                                                 \
        if ((variable) != STATUS_OK) goto label;                                                   \
    } while (0)

/* Returns `code` with a formatted message when `condition` is false. */
#define CHECK(condition, code, ...)                                                                \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            status_fail(code, __VA_ARGS__);                                                        \
            return code;                                                                           \
        }                                                                                          \
    } while (0)

/* The goto variant of CHECK. */
#define CHECK_GOTO(condition, variable, label, code, ...)                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            status_fail(code, __VA_ARGS__);                                                        \
            (variable) = code;                                                                     \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
