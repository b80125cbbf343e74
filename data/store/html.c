#include "data/store/html.h"

#include "data/store/rules.h"

const uint8_t html_colours[HTML_NUM_COLOURS][3] = {
    {230, 60, 50}, {40, 110, 220}, {30, 150, 70},  {240, 150, 20}, {140, 70, 190},
    {0, 160, 170}, {210, 60, 140}, {120, 130, 20}, {100, 80, 60},  {250, 110, 90},
};

static void append_escaped(struct strbuf *out, char c)
{
    switch (c) {
    case '<':
        strbuf_append(out, "&lt;");
        break;
    case '>':
        strbuf_append(out, "&gt;");
        break;
    case '&':
        strbuf_append(out, "&amp;");
        break;
    case '"':
        strbuf_append(out, "&quot;");
        break;
    default:
        if ((unsigned char)c < 0x20 || c == 0x7F) c = ' ';
        strbuf_append_bytes(out, &c, 1);
        break;
    }
}

void html_append_text(struct strbuf *out, const char *text, int64_t length)
{
    while (length > 0) {
        int64_t characters = 0;
        int64_t bad = rule_utf8(text, length, &characters);
        int64_t good = bad < 0 ? length : bad;
        for (int64_t i = 0; i < good; i++) {
            append_escaped(out, text[i]);
        }
        if (bad < 0) return;
        strbuf_append(out, "\xEF\xBF\xBD");
        text += good + 1;
        length -= good + 1;
    }
}

void html_append_data_uri(struct strbuf *out, const char *mime, const void *bytes, int64_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *from = bytes;
    strbuf_printf(out, "data:%s;base64,", mime);
    for (int64_t i = 0; i < size; i += 3) {
        int left = size - i < 3 ? (int)(size - i) : 3;
        uint32_t word = (uint32_t)from[i] << 16;
        if (left > 1) word |= (uint32_t)from[i + 1] << 8;
        if (left > 2) word |= from[i + 2];
        char four[4];
        for (int j = 0; j < 4; j++) {
            four[j] = j <= left ? digits[word >> (18 - 6 * j) & 63] : '=';
        }
        strbuf_append_bytes(out, four, sizeof four);
    }
}
