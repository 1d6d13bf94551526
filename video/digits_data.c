/* digits_data.c: the 1,797 handwritten digits of the UCI data set "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak;
 * test part), as scikit-learn distributes them. CC BY 4.0, see LICENSE-DATA. In
 * digits_data.inc, a line a digit: its label, then 8 rows of 8 ink levels, 'A' (0) to 'Q' (16). */
#include "video/synth.h"

const char digits_data[DIGITS][1 + 64 + 1] = {
#include "video/digits_data.inc"
};
