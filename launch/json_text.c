#include "launch/json_text.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/store/rules.h"

void json_append_number(struct strbuf *out, double value)
{
    if (isnan(value)) {
        strbuf_append(out, "\"nan\"");
    } else if (isinf(value)) {
        strbuf_append(out, value > 0 ? "\"inf\"" : "\"-inf\"");
    } else {
        char text[40];
        snprintf(text, sizeof text, "%.9g", value);
        if (strtod(text, NULL) != value) snprintf(text, sizeof text, "%.17g", value);
        strbuf_append(out, text);
    }
}

bool json_text_number(const char *text, double *value)
{
    if (strcmp(text, "nan") == 0) {
        *value = NAN;
    } else if (strcmp(text, "inf") == 0) {
        *value = INFINITY;
    } else if (strcmp(text, "-inf") == 0) {
        *value = -INFINITY;
    } else {
        return false;
    }
    return true;
}

void json_append_string(struct strbuf *out, const char *text)
{
    if (!text) {
        strbuf_append(out, "null");
        return;
    }
    struct strbuf clean = {0};
    int64_t length = (int64_t)strlen(text);
    for (;;) {
        int64_t characters = 0;
        int64_t bad = rule_utf8(text, length, &characters);
        strbuf_append_bytes(&clean, text, (size_t)(bad < 0 ? length : bad));
        if (bad < 0) break;
        strbuf_append(&clean, "\xEF\xBF\xBD");
        text += bad + 1;
        length -= bad + 1;
    }
    if (clean.failed) out->failed = true;
    strbuf_append_json(out, clean.text ? clean.text : "", clean.length);
    strbuf_fini(&clean);
}
