#include "data/scenes/words.h"

const struct scene_noun scene_shape_words[SHAPE_COUNT] = {
    [SHAPE_CIRCLE] = {{"circle", "disc"}, {"circles", "discs"}},
    [SHAPE_SQUARE] = {{"square"}, {"squares"}},
    [SHAPE_TRIANGLE] = {{"triangle"}, {"triangles"}},
    [SHAPE_STAR] = {{"star"}, {"stars"}},
    [SHAPE_CROSS] = {{"cross", "plus sign"}, {"crosses", "plus signs"}},
    [SHAPE_RING] = {{"ring", "hoop"}, {"rings", "hoops"}},
    [SHAPE_DIAMOND] = {{"diamond", "rhombus"}, {"diamonds", "rhombuses"}},
    [SHAPE_HEXAGON] = {{"hexagon"}, {"hexagons"}},
    [SHAPE_HEART] = {{"heart"}, {"hearts"}},
    [SHAPE_CRESCENT] = {{"crescent", "crescent moon"}, {"crescents", "crescent moons"}},
};

const struct scene_noun scene_any_shape_words = {{"shape", "object"}, {"shapes", "objects"}};

const struct scene_paint scene_colour_words[COLOUR_COUNT] = {
    [COLOUR_RED] = {{{"red"}}, {214, 40, 40}},
    [COLOUR_ORANGE] = {{{"orange"}}, {246, 134, 28}},
    [COLOUR_YELLOW] = {{{"yellow"}}, {252, 214, 38}},
    [COLOUR_GREEN] = {{{"green"}}, {44, 158, 68}},
    [COLOUR_CYAN] = {{{"cyan", "turquoise"}}, {46, 196, 214}},
    [COLOUR_BLUE] = {{{"blue"}}, {36, 88, 208}},
    [COLOUR_PURPLE] = {{{"purple", "violet"}}, {146, 66, 198}},
    [COLOUR_PINK] = {{{"pink"}}, {244, 124, 182}},
    [COLOUR_BROWN] = {{{"brown"}}, {122, 72, 36}},
    [COLOUR_BLACK] = {{{"black"}}, {26, 26, 30}},
    [COLOUR_WHITE] = {{{"white"}}, {250, 250, 250}},
    [COLOUR_GREY] = {{{"grey", "gray"}}, {128, 132, 138}},
};

const struct scene_paint scene_tone_words[TONE_COUNT] = {
    [TONE_WHITE] = {{{"white"}}, {246, 246, 244}},
    [TONE_GREY] = {{{"grey", "gray"}}, {186, 189, 194}},
    [TONE_BEIGE] = {{{"beige", "cream"}}, {238, 226, 202}},
    [TONE_LIGHT_BLUE] = {{{"light blue", "pale blue"}}, {200, 224, 246}},
    [TONE_LIGHT_GREEN] = {{{"light green", "pale green"}}, {206, 234, 200}},
    [TONE_LIGHT_PINK] = {{{"light pink", "pale pink"}}, {250, 214, 222}},
    [TONE_LAVENDER] = {{{"lavender"}}, {220, 208, 244}},
    [TONE_NAVY] = {{{"navy", "dark blue"}}, {28, 38, 84}},
    [TONE_BLACK] = {{{"black"}}, {20, 20, 22}},
    [TONE_DARK_GREEN] = {{{"dark green"}}, {22, 66, 48}},
};

const struct scene_adjective scene_size_words[SIZE_COUNT] = {
    [SIZE_SMALL] = {{"small", "little", "tiny"}},
    [SIZE_MEDIUM] = {{"medium-sized", "mid-sized"}},
    [SIZE_LARGE] = {{"large", "big"}},
};

const struct scene_adjective scene_texture_words[TEXTURE_COUNT] = {
    [TEXTURE_PLAIN] = {{"plain"}},
    [TEXTURE_STRIPED] = {{"striped"}},
    [TEXTURE_DOTTED] = {{"dotted", "spotted"}},
    [TEXTURE_CHECKED] = {{"checkered", "chequered"}},
};

const char *const scene_number_words[SCENE_MAX_OBJECTS + 1] = {
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight",
};

bool scene_contrast(enum scene_colour colour, enum scene_tone tone)
{
    const uint8_t *a = scene_colour_words[colour].rgb;
    const uint8_t *b = scene_tone_words[tone].rgb;
    /* "Redmean" weights: a cheap stand-in for perceived distance, good enough to keep white off
     * beige. */
    int mean = (a[0] + b[0]) / 2;
    int red = a[0] - b[0];
    int green = a[1] - b[1];
    int blue = a[2] - b[2];
    int distance =
        ((512 + mean) * red * red >> 8) + 4 * green * green + ((767 - mean) * blue * blue >> 8);
    return distance > 190 * 190;
}
