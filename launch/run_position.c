#include "launch/run_position.h"

#define COUNT(field, text) CONFIG_INT(struct run_position, field, .range = "[0, inf)", .help = text)

static const struct config_option options[] = {
    COUNT(updates, "Updates done."),
    COUNT(micro_batches, "Micro-batches made: the position in the data."),
    COUNT(samples_per_micro_batch, "Over all ranks."),
    COUNT(seen, "Samples that the loaders of all ranks gave out."),
    COUNT(bad, "Bad ones among them."),
    COUNT(applied, "Updates that were applied."),
    COUNT(skipped, "Updates that were skipped because a gradient was not finite."),
    CONFIG_INT(struct run_position, skipped_row, .def = "0", .range = "[0, inf)",
               .help = "Of these, the last ones in a row."),
    CONFIG_STRINGS(struct run_position, data, .help = "Fingerprints of the data sets."),
    CONFIG_STRING(struct run_position, tokenizer, .help = "Fingerprint of the tokenizer."),
};

const struct config_table run_position_table = {CONFIG_TABLE(struct run_position, options),
                                                .name = "position", .help = "Where a run is."};
