/* cmd_pca.c: jepa pca -m MODEL VIDEO -o PNG */
#include "cli/model_args.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "  jepa pca -m run/latest clip.mp4 -o pca.png\n\n"
    "A picture: frames as the model sees them above, the first three principal components of their patch features as red, green and blue\n"
    "below. Patches of one colour are alike to the model.\n";

int cmd_pca(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    model_args a;
    text_list rest = {0};
    const char *out = "pca.png";
    model_args_defaults(&a);
    opt table[N_SAMPLING + N_MODEL + 1] = {{"--out", "PNG", "where the picture goes; default pca.png", O_TEXT, &out, 0, 0, "-o"}};
    sampling_options(table + 1, &a);
    model_options(table + 1 + N_SAMPLING, &a);
    jepa *m = NULL;
    jepa_run *run = NULL;
    clip_plan p;
    int rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (rest.n != 1) {
        rc = err_set(&err, JEPA_E_USE, "one video or image is needed: jepa pca -m MODEL VIDEO -o PNG");
        goto done;
    }
    if ((rc = model_args_open(c, &a, 0, &m, &p, &err)) < 0 || (rc = jepa_session(m, &run, &err)) < 0) goto done;
    model_args_say(c, m, &p);
    if ((rc = pca_picture(run, rest.at[0], &p, out, &err)) < 0) goto done;
    printf("%s\n", out);
done:
    jepa_session_close(&run);
    jepa_close(&m);
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
