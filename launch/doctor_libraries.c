/* The libraries this program runs with: their versions now, and where these differ from what it was
 * compiled with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dnnl.h>
#include <hdf5.h>
#include <jansson.h>
/* jpeglib.h uses FILE and size_t without declaring them. */
#include <jpeglib.h>
#include <mpi.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <png.h>
#include <utf8proc.h>
#include <webp/decode.h>
#include <webp/encode.h>
#include <xxhash.h>
#include <yaml.h>

#include "launch/doctor.h"

static void check_mpi(const struct doctor_options *options, struct doctor_finding *finding)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    int major = 0;
    int minor = 0;
    (void)options;
    MPI_Get_library_version(version, &length);
    MPI_Get_version(&major, &minor);
    version[strcspn(version, ",\n")] = '\0';
    if (major < 3) {
        doctor_fail(finding, "install Open MPI 4 or later and build again", "%s, MPI %d.%d",
                    version, major, minor);
    } else {
        doctor_ok(finding, "%s, MPI %d.%d", version, major, minor);
    }
}

static void check_hdf5(const struct doctor_options *options, struct doctor_finding *finding)
{
    unsigned major = 0;
    unsigned minor = 0;
    unsigned release = 0;
    (void)options;
    H5get_libversion(&major, &minor, &release);
#ifdef H5_HAVE_PARALLEL
    if (major != H5_VERS_MAJOR || minor != H5_VERS_MINOR) {
        doctor_fail(finding, "set LD_LIBRARY_PATH to the library it was built with, or build again",
                    "HDF5 %u.%u.%u runs, but weft was built for %d.%d", major, minor, release,
                    H5_VERS_MAJOR, H5_VERS_MINOR);
    } else {
        doctor_ok(finding, "HDF5 %u.%u.%u, parallel", major, minor, release);
    }
#else
    doctor_fail(finding, "install libhdf5-openmpi-dev (a build with --enable-parallel)",
                "HDF5 %u.%u.%u is not a parallel build", major, minor, release);
#endif
}

static void check_onednn(const struct doctor_options *options, struct doctor_finding *finding)
{
    const dnnl_version_t *version = dnnl_version();
    (void)options;
    if (version->major != DNNL_VERSION_MAJOR) {
        doctor_fail(finding, "set LD_LIBRARY_PATH to the library it was built with, or build again",
                    "oneDNN %d.%d runs, but weft was built for %d.%d", version->major,
                    version->minor, DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR);
    } else if (version->cpu_runtime != DNNL_RUNTIME_OMP) {
        doctor_warn(finding, "install a oneDNN built with OpenMP (Debian's libdnnl is)",
                    "oneDNN %d.%d.%d does not use OpenMP: it will not use weft's threads",
                    version->major, version->minor, version->patch);
    } else {
        doctor_ok(finding, "oneDNN %d.%d.%d, OpenMP", version->major, version->minor,
                  version->patch);
    }
}

static void check_codecs(const struct doctor_options *options, struct doctor_finding *finding)
{
    int webp = WebPGetDecoderVersion();
    (void)options;
#ifdef LIBJPEG_TURBO_VERSION_NUMBER
    doctor_ok(finding, "libjpeg-turbo %d.%d.%d, libpng %s, libwebp %d.%d.%d",
              LIBJPEG_TURBO_VERSION_NUMBER / 1000000, LIBJPEG_TURBO_VERSION_NUMBER / 1000 % 1000,
              LIBJPEG_TURBO_VERSION_NUMBER % 1000, png_get_libpng_ver(NULL), webp >> 16,
              webp >> 8 & 255, webp & 255);
#else
    doctor_warn(finding, "install libjpeg-turbo (libjpeg62-turbo-dev) and build again",
                "libjpeg %d is not libjpeg-turbo: pictures decode slowly, and pixels may differ, "
                "libpng %s, libwebp %d.%d.%d",
                JPEG_LIB_VERSION / 10, png_get_libpng_ver(NULL), webp >> 16, webp >> 8 & 255,
                webp & 255);
#endif
}

static void check_texts(const struct doctor_options *options, struct doctor_finding *finding)
{
    char pcre[64] = "";
    uint32_t unicode = 0;
    (void)options;
    pcre2_config(PCRE2_CONFIG_VERSION, pcre);
    pcre2_config(PCRE2_CONFIG_UNICODE, &unicode);
    pcre[strcspn(pcre, " ")] = '\0';
    if (!unicode) {
        doctor_fail(finding, "install a PCRE2 built with Unicode support",
                    "PCRE2 %s knows no Unicode: tokenizers need it", pcre);
    } else {
        unsigned xxhash = XXH_versionNumber();
        doctor_ok(finding, "libyaml %s, PCRE2 %s, utf8proc %s, jansson %s, xxHash %u.%u.%u",
                  yaml_get_version_string(), pcre, utf8proc_version(), jansson_version_str(),
                  xxhash / 10000, xxhash / 100 % 100, xxhash % 100);
    }
}

const struct doctor_check doctor_library_checks[] = {
    {"mpi", check_mpi},       {"hdf5", check_hdf5},   {"onednn", check_onednn},
    {"codecs", check_codecs}, {"texts", check_texts}, {0},
};
