/* libexec/libc-check of a bundle: ends well where the C library that it runs with is at least
 * BUNDLE_LIBC, the newest that anything in the bundle asks for. See bundle_start.c. */
#include <gnu/libc-version.h>
#include <string.h>

int main(void)
{
    return strverscmp(gnu_get_libc_version(), BUNDLE_LIBC) < 0;
}
