/* Flickr30k Entities: spans lie inside the plain sentence; XML ends in boxes or a reason. The first
 * byte chooses which.
 * runs=450000
 */
#include <stdlib.h>

#include "data/import/common.h"
#include "data/import/flickr_markup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    if (size < 1) return 0;
    const char *text = (const char *)data + 1;
    int64_t length = (int64_t)size - 1;
    if (data[0] & 1) {
        struct flickr_boxes boxes;
        if (flickr_parse_boxes(text, length, &arena, &boxes) == STATUS_OK) {
            int64_t count = 0;
            for (const struct flickr_box *box = boxes.first; box; box = box->next) {
                count++;
            }
            if (count != boxes.count) abort();
        }
    } else {
        struct flickr_sentence sentence;
        if (flickr_parse_sentence(text, length, &arena, &sentence) == STATUS_OK) {
            int32_t characters = common_characters(sentence.text, sentence.length);
            for (int i = 0; i < sentence.num_phrases; i++) {
                const struct flickr_phrase *phrase = &sentence.phrase[i];
                if (phrase->begin < 0 || phrase->begin > phrase->end) abort();
                if (phrase->end > characters || phrase->chain < 0) abort();
            }
        }
    }
    arena_fini(&arena);
    return 0;
}
