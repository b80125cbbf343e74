#include "data/store/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void findings_init(struct findings *findings)
{
    memset(findings, 0, sizeof *findings);
    pthread_mutex_init(&findings->mutex, NULL);
}

void findings_fini(struct findings *findings)
{
    pthread_mutex_destroy(&findings->mutex);
}

static struct finding *find(struct findings *findings, const char *kind)
{
    for (int i = 0; i < findings->count; i++) {
        if (strcmp(findings->list[i].kind, kind) == 0) return &findings->list[i];
    }
    return NULL;
}

void findings_add(struct findings *findings, bool is_error, const char *kind, int64_t place,
                  const char *format, ...)
{
    char text[sizeof findings->list[0].first];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&findings->mutex);
    struct finding *finding = find(findings, kind);
    if (!finding && findings->count < FINDINGS_MAX) {
        finding = &findings->list[findings->count++];
        *finding = (struct finding){.kind = kind, .is_error = is_error, .place = INT64_MAX};
    }
    if (finding) {
        finding->count++;
        if (place < finding->place) {
            finding->place = place;
            memcpy(finding->first, text, strlen(text) + 1);
        }
    }
    pthread_mutex_unlock(&findings->mutex);
}

int findings_errors(const struct findings *findings)
{
    int errors = 0;
    for (int i = 0; i < findings->count; i++) {
        errors += findings->list[i].is_error;
    }
    return errors;
}

const struct finding *findings_get(const struct findings *findings, const char *kind)
{
    for (int i = 0; i < findings->count; i++) {
        if (strcmp(findings->list[i].kind, kind) == 0) return &findings->list[i];
    }
    return NULL;
}
