/*
 * Numbers and intervals, exactly.
 *
 * Integers are scanned in decimal with an exponent and never pass through a double, so 1e18 and
 * 9_007_199_254_740_993 are what they say. A double must survive being read: overflow, underflow to
 * zero, NaN and infinity are refused with their reason.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/config_impl.h"

const char *config_scan_bool(const char *text, bool *out)
{
    *out = strcmp(text, "true") == 0;
    return *out || strcmp(text, "false") == 0 ? NULL : "not true or false";
}

/* A decimal number taken apart: sign, digits without point and underscores, power of ten. */
struct decimal {
    bool is_negative;
    bool has_leading_zero;
    int num_digits;
    int exponent;
    char digits[400];
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Appends a run of digits with single underscores between them; returns what follows, or NULL. */
static const char *scan_digits(const char *p, struct decimal *out)
{
    while (is_digit(*p) || *p == '_') {
        if (*p == '_' && !(is_digit(p[-1]) && is_digit(p[1]))) return NULL;
        if (*p != '_') {
            if (out->num_digits == (int)sizeof out->digits - 1) return NULL;
            out->digits[out->num_digits++] = *p;
        }
        p++;
    }
    return p;
}

static bool scan_exponent(const char *p, struct decimal *out)
{
    bool is_negative = *p == '-';
    if (*p == '-' || *p == '+') p++;
    if (!is_digit(*p)) return false;
    int exponent = 0;
    for (; is_digit(*p); p++) {
        if (exponent < 100000) exponent = exponent * 10 + (*p - '0');
    }
    out->exponent += is_negative ? -exponent : exponent;
    return *p == '\0';
}

static bool scan_decimal(const char *text, struct decimal *out)
{
    *out = (struct decimal){0};
    const char *p = text;
    out->is_negative = *p == '-';
    if (*p == '-' || *p == '+') p++;
    if (!is_digit(*p) && !(*p == '.' && is_digit(p[1]))) return false;
    out->has_leading_zero = p[0] == '0' && is_digit(p[1]);
    p = scan_digits(p, out);
    if (p && *p == '.') {
        int before = out->num_digits;
        if (p[1] == '_') return false;
        p = scan_digits(p + 1, out);
        out->exponent = -(out->num_digits - before);
    }
    if (!p) return false;
    if (*p == 'e' || *p == 'E') return scan_exponent(p + 1, out);
    return *p == '\0';
}

static bool is_not_finite(const char *text)
{
    if (*text == '-' || *text == '+') text++;
    if (*text == '.') text++;
    return strcasecmp(text, "nan") == 0 || strcasecmp(text, "inf") == 0 ||
           strcasecmp(text, "infinity") == 0;
}

static const char *check_decimal(const char *text, struct decimal *decimal)
{
    if (is_not_finite(text)) return "not finite";
    if (!scan_decimal(text, decimal)) return "not a number";
    if (decimal->has_leading_zero) return "a number with a leading zero is ambiguous";
    return NULL;
}

const char *config_scan_int(const char *text, int64_t *out)
{
    struct decimal decimal;
    const char *problem = check_decimal(text, &decimal);
    if (problem) return problem;
    int count = decimal.num_digits;
    int exponent = decimal.exponent;
    while (count > 0 && decimal.digits[count - 1] == '0') {
        count--;
        exponent++;
    }
    *out = 0;
    if (count == 0) return NULL;
    if (exponent < 0) return "not a whole number";
    /* Downwards, because INT64_MIN has no positive counterpart. */
    for (int i = 0; i < count + exponent; i++) {
        int digit = i < count ? decimal.digits[i] - '0' : 0;
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_sub_overflow(*out, digit, out)) {
            return "too large for a 64-bit integer";
        }
    }
    if (decimal.is_negative) return NULL;
    return __builtin_sub_overflow(0, *out, out) ? "too large for a 64-bit integer" : NULL;
}

const char *config_scan_double(const char *text, double *out)
{
    struct decimal decimal;
    const char *problem = check_decimal(text, &decimal);
    if (problem) return problem;
    char plain[sizeof decimal.digits + 32];
    snprintf(plain, sizeof plain, "%s%se%d", decimal.is_negative ? "-" : "", decimal.digits,
             decimal.exponent);
    *out = strtod(plain, NULL);
    if (!isfinite(*out)) return "too large for a double";
    bool is_zero = strspn(decimal.digits, "0") == (size_t)decimal.num_digits;
    return *out == 0 && !is_zero ? "too small for a double" : NULL;
}

void config_format_double(double value, char out[32])
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value) return;
    }
}

/* One end of an interval; returns what follows it, or NULL. */
static const char *scan_bound(const char *p, long double *out)
{
    while (*p == ' ') {
        p++;
    }
    char *end = NULL;
    *out = strtold(p, &end);
    return end == p || isnan(*out) ? NULL : end;
}

bool config_range_parse(const char *text, struct config_range *out)
{
    if (*text != '[' && *text != '(') return false;
    out->min_open = *text == '(';
    const char *p = scan_bound(text + 1, &out->min);
    if (!p || *p != ',') return false;
    p = scan_bound(p + 1, &out->max);
    if (!p || (*p != ']' && *p != ')') || p[1] != '\0') return false;
    out->max_open = *p == ')';
    return out->min <= out->max;
}

bool config_range_holds(const struct config_range *range, long double value)
{
    bool above = range->min_open ? value > range->min : value >= range->min;
    bool below = range->max_open ? value < range->max : value <= range->max;
    return above && below;
}
