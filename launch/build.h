/* Which weft this is. */
#ifndef WEFT_LAUNCH_BUILD_H
#define WEFT_LAUNCH_BUILD_H

/*
 * Version, state of the checkout it was built from ("git 1a2b3c4", with "-dirty" for changed files;
 * left out where there was no git), compiler, and the instruction set in use here:
 * "weft 0.1.0, git 1a2b3c4, gcc 12.2.0, avx512". Lives as long as the program.
 */
const char *build_text(void);

#endif
