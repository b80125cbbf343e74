/* weft doctor: checks the machine, says how to mend what is wrong. */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "launch/command.h"
#include "launch/doctor.h"
#include "launch/json_text.h"

static const char usage[] =
    "usage: weft doctor [FOLDER] [options]\n"
    "\n"
    "Checks whether this machine can train: processor, cores and threads, memory, shared memory,\n"
    "limits, disk space and file locks in FOLDER (where runs will be written; the current one),\n"
    "GPUs, the versions of libraries, and a trial launch of two ranks through mpirun that write a\n"
    "file together. One line a check: ok, warn or FAIL, and below it how to mend it. Run it on a\n"
    "compute node too, inside the job's launcher: mpirun -np 1 weft doctor.\n"
    "\n"
    "      --json       print the findings as JSON\n"
    "      --no-launch  do not start mpirun\n"
    "\n"
    "Exit code 0 unless a check fails; warnings do not count.\n";

static const char *const level_names[] = {"ok", "warn", "FAIL"};
static const char *const json_levels[] = {"ok", "warn", "fail"};

/* ---- findings ---- */

static void fill(struct doctor_finding *finding, enum doctor_level level, const char *mend,
                 const char *format, va_list arguments)
{
    finding->level = level;
    vsnprintf(finding->text, sizeof finding->text, format, arguments);
    snprintf(finding->mend, sizeof finding->mend, "%s", mend);
}

void doctor_ok(struct doctor_finding *finding, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fill(finding, DOCTOR_OK, "", format, arguments);
    va_end(arguments);
}

void doctor_warn(struct doctor_finding *finding, const char *mend, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fill(finding, DOCTOR_WARN, mend, format, arguments);
    va_end(arguments);
}

void doctor_fail(struct doctor_finding *finding, const char *mend, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fill(finding, DOCTOR_FAIL, mend, format, arguments);
    va_end(arguments);
}

/* ---- the command ---- */

enum { OPTION_JSON = 256, OPTION_NO_LAUNCH, OPTION_PROBE };

static const struct option long_options[] = {
    {"json", no_argument, NULL, OPTION_JSON},
    {"no-launch", no_argument, NULL, OPTION_NO_LAUNCH},
    {"probe", no_argument, NULL, OPTION_PROBE},
    {0},
};

struct arguments {
    struct doctor_options options;
    bool json;
    bool probe; /* this is a rank of the trial launch */
};

static enum status parse(int argc, char **argv, struct arguments *arguments)
{
    struct stat info;
    optind = 1;
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":", long_options, NULL);
        if (option == -1) break;
        CHECK(option >= OPTION_JSON, STATUS_INVALID, "no option %s; see `weft help doctor`",
              argv[optind - 1]);
        arguments->json |= option == OPTION_JSON;
        arguments->options.no_launch |= option == OPTION_NO_LAUNCH;
        arguments->probe |= option == OPTION_PROBE;
    }
    CHECK(argc - optind <= 1, STATUS_INVALID, "one folder at a time; see `weft help doctor`");
    arguments->options.folder = optind < argc ? argv[optind] : ".";
    CHECK(stat(arguments->options.folder, &info) == 0 && S_ISDIR(info.st_mode), STATUS_NOT_FOUND,
          "%s: there is no such folder", arguments->options.folder);
    return STATUS_OK;
}

static void print_finding(const char *name, const struct doctor_finding *finding)
{
    printf("%-4s  %-14s %s\n", level_names[finding->level], name, finding->text);
    if (finding->mend[0]) printf("      %-14s mend: %s\n", "", finding->mend);
    fflush(stdout);
}

static void add_json(struct strbuf *json, const char *name, const struct doctor_finding *finding)
{
    strbuf_append(json, json->length ? ",\n  {\"name\": " : "  {\"name\": ");
    json_append_string(json, name);
    strbuf_printf(json, ", \"level\": \"%s\", \"text\": ", json_levels[finding->level]);
    json_append_string(json, finding->text);
    strbuf_append(json, ", \"mend\": ");
    json_append_string(json, finding->mend[0] ? finding->mend : NULL);
    strbuf_append(json, "}");
}

static int examine(const struct arguments *arguments)
{
    const struct doctor_check *const tables[] = {doctor_system_checks, doctor_library_checks,
                                                 doctor_launch_checks};
    int counts[3] = {0};
    struct strbuf json = {0};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        for (const struct doctor_check *check = tables[i]; check->name; check++) {
            struct doctor_finding finding = {0};
            check->run(&arguments->options, &finding);
            counts[finding.level]++;
            if (arguments->json) {
                add_json(&json, check->name, &finding);
            } else {
                print_finding(check->name, &finding);
            }
        }
    }
    if (arguments->json) {
        printf("{\"checks\": [\n%s\n ],\n \"ok\": %d, \"warn\": %d, \"fail\": %d}\n",
               json.text ? json.text : "", counts[DOCTOR_OK], counts[DOCTOR_WARN],
               counts[DOCTOR_FAIL]);
    } else {
        printf("%d ok, %d warning%s, %d failed\n", counts[DOCTOR_OK], counts[DOCTOR_WARN],
               counts[DOCTOR_WARN] == 1 ? "" : "s", counts[DOCTOR_FAIL]);
    }
    bool failed = counts[DOCTOR_FAIL] > 0 || json.failed;
    strbuf_fini(&json);
    return failed ? 1 : 0;
}

static int run(int argc, char **argv)
{
    struct arguments arguments = {0};
    enum status status = parse(argc, argv, &arguments);
    if (status != STATUS_OK) {
        fprintf(stderr, "weft doctor: %s\n", status_message());
        return status_exit_code(status);
    }
    if (arguments.probe) return status_exit_code(doctor_probe(arguments.options.folder));
    return examine(&arguments);
}

const struct command command_doctor = {
    .name = "doctor",
    .summary = "check this machine: libraries, MPI, locks, memory, GPUs",
    .usage = usage,
    .run = run,
};
