/*
 * What an encoded file says about itself, without decoding it: format, size, EXIF orientation.
 *
 * Own walks over JPEG markers, PNG chunks and RIFF chunks rather than the libraries' header
 * readers: no allocation, no setjmp, and the orientation is found in the same pass. Every length
 * comes from the file, so each walk checks the bytes left before it moves.
 */
#include <string.h>
#include <webp/decode.h>

#include "data/image/image.h"

static uint32_t big_u16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t big_u32(const uint8_t *p)
{
    return big_u16(p) << 16 | big_u16(p + 2);
}

static uint32_t little_u16(const uint8_t *p)
{
    return (uint32_t)p[1] << 8 | p[0];
}

static uint32_t little_u32(const uint8_t *p)
{
    return little_u16(p + 2) << 16 | little_u16(p);
}

/* The orientation in a TIFF structure (what EXIF is), 1 when there is none that makes sense. */
static int tiff_orientation(const uint8_t *tiff, size_t size)
{
    enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY_SIZE = 12 };
    if (size >= 6 && memcmp(tiff, "Exif\0\0", 6) == 0) {
        tiff += 6;
        size -= 6;
    }
    if (size < 8) return 1;
    bool little = memcmp(tiff, "II*\0", 4) == 0;
    if (!little && memcmp(tiff, "MM\0*", 4) != 0) return 1;
    uint32_t (*u16)(const uint8_t *) = little ? little_u16 : big_u16;
    uint32_t directory = little ? little_u32(tiff + 4) : big_u32(tiff + 4);
    if (directory > size - 2) return 1;
    uint32_t count = u16(tiff + directory);
    for (uint32_t i = 0; i < count; i++) {
        size_t at = (size_t)directory + 2 + (size_t)i * ENTRY_SIZE;
        if (at + ENTRY_SIZE > size) return 1;
        if (u16(tiff + at) != TAG_ORIENTATION || u16(tiff + at + 2) != TYPE_SHORT) continue;
        uint32_t value = u16(tiff + at + 8);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

static enum status probe_jpeg(const uint8_t *bytes, size_t size, struct image_info *info)
{
    enum { SOI = 0xD8, EOI = 0xD9, SOS = 0xDA, APP1 = 0xE1, TEM = 0x01, RST0 = 0xD0, RST7 = 0xD7 };
    bool exif = false;
    size_t at = 2;
    while (at + 2 <= size) {
        if (bytes[at] != 0xFF || bytes[at + 1] == 0xFF || bytes[at + 1] == 0) {
            at++; /* fill bytes, and garbage that libjpeg skips too (and may complain about) */
            continue;
        }
        uint8_t marker = bytes[at + 1];
        at += 2;
        if (marker == SOI || marker == TEM || (marker >= RST0 && marker <= RST7)) continue;
        if (marker == EOI || marker == SOS || at + 2 > size) break;
        size_t length = big_u16(bytes + at);
        if (length < 2 || length > size - at) break;
        const uint8_t *segment = bytes + at + 2;
        size_t segment_size = length - 2;
        bool is_frame =
            marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
        if (is_frame && segment_size >= 6 && info->width == 0) {
            info->height = big_u16(segment + 1);
            info->width = big_u16(segment + 3);
        }
        if (marker == APP1 && !exif && segment_size >= 6 && memcmp(segment, "Exif\0\0", 6) == 0) {
            info->orientation = tiff_orientation(segment, segment_size);
            exif = true;
        }
        at += length;
    }
    CHECK(info->width > 0 && info->height > 0, STATUS_CORRUPT,
          "JPEG: no picture size in %zu bytes; the file is truncated or damaged", size);
    return STATUS_OK;
}

static enum status probe_png(const uint8_t *bytes, size_t size, struct image_info *info)
{
    CHECK(size >= 33 && big_u32(bytes + 8) == 13 && memcmp(bytes + 12, "IHDR", 4) == 0,
          STATUS_CORRUPT, "PNG: no header chunk in %zu bytes; the file is truncated or damaged",
          size);
    info->width = big_u32(bytes + 16);
    info->height = big_u32(bytes + 20);
    for (size_t at = 33; at + 12 <= size;) {
        size_t length = big_u32(bytes + at);
        if (length > size - at - 12) break;
        if (memcmp(bytes + at + 4, "eXIf", 4) == 0) {
            info->orientation = tiff_orientation(bytes + at + 8, length);
            break;
        }
        at += length + 12;
    }
    return STATUS_OK;
}

static enum status probe_webp(const uint8_t *bytes, size_t size, struct image_info *info)
{
    int width = 0;
    int height = 0;
    CHECK(WebPGetInfo(bytes, size, &width, &height), STATUS_CORRUPT,
          "WebP: no picture size in %zu bytes; the file is truncated or damaged", size);
    info->width = width;
    info->height = height;
    for (size_t at = 12; at + 8 <= size;) {
        size_t length = little_u32(bytes + at + 4);
        if (length > size - at - 8) break;
        if (memcmp(bytes + at, "EXIF", 4) == 0) {
            info->orientation = tiff_orientation(bytes + at + 8, length);
            break;
        }
        at += 8 + length + (length & 1);
    }
    return STATUS_OK;
}

/* The name of a format that people do have, but that weft does not read; NULL when unknown. */
static const char *foreign_format(const uint8_t *bytes, size_t size)
{
    static const struct {
        uint8_t offset;
        uint8_t length;
        const char *magic;
        const char *name;
    } rows[] = {
        {0, 4, "GIF8", "a GIF"},
        {0, 2, "BM", "a BMP"},
        {0, 4, "II*\0", "a TIFF"},
        {0, 4, "MM\0*", "a TIFF"},
        {4, 8, "ftypavif", "an AVIF"},
        {4, 7, "ftyphei", "a HEIC"},
        {4, 8, "ftypmif1", "a HEIF"},
        {4, 8, "\x6A\x50\x20\x20\r\n\x87\n", "a JPEG 2000"},
        {0, 2, "\xFF\x0A", "a JPEG XL"},
        {4, 8, "\x4A\x58\x4C\x20\r\n\x87\n", "a JPEG XL"},
        {0, 4, "%PDF", "a PDF"},
        {0, 2, "\x1F\x8B", "gzip data"},
        {0, 4, "PK\3\4", "a ZIP archive"},
        {0, 5, "<?xml", "XML or SVG text"},
        {0, 4, "<svg", "SVG text"},
        {0, 9, "<!DOCTYPE", "an HTML page"},
        {0, 9, "<!doctype", "an HTML page"},
        {0, 5, "<html", "an HTML page"},
        {0, 5, "<HTML", "an HTML page"},
        {0, 8, "version ", "a pointer of Git LFS, not the picture itself"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t end = (size_t)rows[i].offset + rows[i].length;
        if (size >= end && memcmp(bytes + rows[i].offset, rows[i].magic, rows[i].length) == 0) {
            return rows[i].name;
        }
    }
    return NULL;
}

static enum status refuse_unknown(const uint8_t *bytes, size_t size)
{
    const char *name = foreign_format(bytes, size);
    CHECK(!name, STATUS_UNSUPPORTED, "is %s; weft reads JPEG, PNG and WebP, convert it first",
          name);
    char hex[3 * 8 + 1] = "";
    for (size_t i = 0; i < 8 && i < size; i++) {
        static const char digits[] = "0123456789abcdef";
        hex[3 * i] = ' ';
        hex[3 * i + 1] = digits[bytes[i] >> 4];
        hex[3 * i + 2] = digits[bytes[i] & 15];
        hex[3 * i + 3] = '\0';
    }
    return status_fail(STATUS_UNSUPPORTED,
                       "is no JPEG, PNG or WebP: it starts with the bytes%s (%zu in all)", hex,
                       size);
}

enum status image_probe(const void *encoded, size_t size, struct image_info *info)
{
    const uint8_t *bytes = encoded;
    *info = (struct image_info){.orientation = 1};
    CHECK(size > 0, STATUS_CORRUPT, "image of 0 bytes");
    if (size >= 3 && memcmp(bytes, "\xFF\xD8\xFF", 3) == 0) {
        info->format = IMAGE_JPEG;
        return probe_jpeg(bytes, size, info);
    }
    if (size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1A\n", 8) == 0) {
        info->format = IMAGE_PNG;
        return probe_png(bytes, size, info);
    }
    if (size >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0) {
        info->format = IMAGE_WEBP;
        return probe_webp(bytes, size, info);
    }
    return refuse_unknown(bytes, size);
}
