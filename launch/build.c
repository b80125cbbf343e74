#include "launch/build.h"

#include <stdio.h>

#include "runtime/backend/cpu/isa.h"

#ifndef WEFT_VERSION
#define WEFT_VERSION "0.1.0"
#endif

/* The Makefile's, for this file alone: `git describe` changes with every commit. */
#ifdef WEFT_GIT
#define GIT ", git " WEFT_GIT
#else
#define GIT ""
#endif

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "an unknown compiler"
#endif

const char *build_text(void)
{
    static char text[256];
    snprintf(text, sizeof text, "weft " WEFT_VERSION GIT ", " COMPILER ", %s",
             cpu_isa_name(cpu_isa()));
    return text;
}
