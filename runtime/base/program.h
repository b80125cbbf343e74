/*
 * The file that this program is. In a bundle (launch/bundle) the dynamic loader is what runs, and
 * /proc/self/exe is the loader; what started it says so in the environment.
 */
#ifndef WEFT_RUNTIME_BASE_PROGRAM_H
#define WEFT_RUNTIME_BASE_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

/* A path of the program's code that can be opened now. Lives as long as the environment. */
const char *program_file(void);

/* Writes the path that starts this program again, such as through mpirun. False (and errno) when
 * /proc does not tell or `size` is too small. */
bool program_command(char *path, size_t size);

#endif
