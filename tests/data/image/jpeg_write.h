/* JPEGs of every kind for tests, straight from libjpeg. */
#ifndef WEFT_TESTS_DATA_IMAGE_JPEG_WRITE_H
#define WEFT_TESTS_DATA_IMAGE_JPEG_WRITE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "runtime/base/strbuf.h"

struct jpeg_kind {
    J_COLOR_SPACE in;     /* what `samples` holds */
    J_COLOR_SPACE stored; /* what the file holds */
    int components;
    int quality;
    int progressive;
    int restart_rows;
    int full_chroma; /* 4:4:4 instead of 4:2:0 */
    int arithmetic;
    int separate; /* one scan a component */
};

/* Appends the JPEG of `samples` [height, width, kind->components] to `out`. */
static inline void jpeg_write(const struct jpeg_kind *kind, const uint8_t *samples, int width,
                              int height, struct strbuf *out)
{
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr error;
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    info.err = jpeg_std_error(&error);
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &bytes, &size);
    info.image_width = (JDIMENSION)width;
    info.image_height = (JDIMENSION)height;
    info.input_components = kind->components;
    info.in_color_space = kind->in;
    jpeg_set_defaults(&info);
    jpeg_set_colorspace(&info, kind->stored);
    jpeg_set_quality(&info, kind->quality, TRUE);
    info.restart_in_rows = kind->restart_rows;
    info.arith_code = kind->arithmetic ? TRUE : FALSE;
    if (kind->progressive) jpeg_simple_progression(&info);
    if (kind->full_chroma) info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = 1;
    jpeg_scan_info scans[4];
    for (int i = 0; i < 4; i++) {
        scans[i] = (jpeg_scan_info){.comps_in_scan = 1, .component_index = {i}, .Se = 63};
    }
    if (kind->separate) {
        info.scan_info = scans;
        info.num_scans = kind->components;
    }
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
        size_t at = (size_t)info.next_scanline * (size_t)width * (size_t)kind->components;
        JSAMPROW row = (JSAMPROW)(uintptr_t)(samples + at);
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    strbuf_append_bytes(out, bytes, size);
    free(bytes);
}

#endif
