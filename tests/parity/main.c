/* main.c: the command line of parity. */
#include "parity.h"

#include <getopt.h>

static int usage(FILE *out, int code) {
    fputs("parity golden/\nUsage: parity [--device ref|cpu] [--only GLOB] [--verbose] DIR...\n"
          "Runs the checks of every meta.json below DIR. GLOB is matched against set/name. Exit 1: one failed, or none was found.\n",
          out);
    return code;
}

int main(int argc, char **argv) {
    parity_opts o = {0};
    static const struct option longs[] = {{"device", required_argument, NULL, 'd'},
                                          {"only", required_argument, NULL, 'o'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    for (int k; (k = getopt_long(argc, argv, "d:o:vh", longs, NULL)) != -1;) {
        if (k == 'd')
            o.device = optarg;
        else if (k == 'o')
            o.only = optarg;
        else if (k == 'v')
            o.verbose = 1;
        else
            return usage(k == 'h' ? stdout : stderr, k == 'h' ? 0 : 2);
    }
    if (optind == argc) return usage(stderr, 2);
    return parity_run(&o, (const char *const *)argv + optind, argc - optind, stdout, NULL);
}
