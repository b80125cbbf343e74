#include "runtime/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_SIZE 2048

static _Thread_local char message[MESSAGE_SIZE];

enum status status_fail(enum status code, const char *format, ...)
{
    /* Formatted aside first: an argument may be the old message itself. */
    char text[MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(message, text, strlen(text) + 1);
    return code;
}

enum status status_prefix(enum status code, const char *format, ...)
{
    char text[MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0) return code;
    size_t used = (size_t)length < sizeof text - 3 ? (size_t)length : sizeof text - 3;
    size_t tail = strnlen(message, sizeof message - 1);
    if (used + 2 + tail >= sizeof message)
        tail = used + 3 < sizeof message ? sizeof message - used - 3 : 0;
    memmove(message + used + 2, message, tail);
    memcpy(message, text, used);
    memcpy(message + used, ": ", 2);
    message[used + 2 + tail] = '\0';
    return code;
}

const char *status_message(void)
{
    return message;
}

const char *status_name(enum status code)
{
    static const char *const names[STATUS_COUNT] = {
        [STATUS_OK] = "ok",
        [STATUS_INVALID] = "invalid",
        [STATUS_NOT_FOUND] = "not found",
        [STATUS_IO] = "input/output error",
        [STATUS_CORRUPT] = "corrupt",
        [STATUS_NO_MEMORY] = "out of memory",
        [STATUS_UNSUPPORTED] = "unsupported",
        [STATUS_COMM] = "communication error",
        [STATUS_CANCELLED] = "cancelled",
        [STATUS_INTERNAL] = "internal error",
    };
    return (unsigned)code < STATUS_COUNT ? names[code] : "unknown";
}

int status_exit_code(enum status code)
{
    if (code == STATUS_OK) return 0;
    return code == STATUS_INVALID || code == STATUS_NOT_FOUND ? 2 : 1;
}
