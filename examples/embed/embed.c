/* embed.c: the smallest program that uses libjepa: one video in, its embedding's first numbers out.
 *
 *     cc embed.c $(pkg-config --cflags --libs jepa) -o embed && ./embed MODEL clip.mp4 */
#include <jepa/jepa.h>
#include <stdio.h>

int main(int argc, char **argv) {
    jepa *model = NULL;
    jepa_run *run = NULL;
    jepa_embedding e = {0};
    jepa_err err = {0};
    int rc = -1;
    if (argc != 3) {
        fprintf(stderr, "embed MODEL VIDEO\n");
        return 2;
    }
    if (jepa_open(&model, argv[1], NULL, &err) < 0 || jepa_session(model, &run, &err) < 0 || jepa_embed_video(run, argv[2], NULL, &e, &err) < 0) {
        fprintf(stderr, "embed: %s\n", err.text);
    } else {
        printf("jepa %s: %lld x %lld:", jepa_version(), (long long)e.rows, (long long)e.dim);
        for (int64_t i = 0; i < e.dim && i < 6; i++) printf(" %.4f", e.data[i]);
        printf(" ...\n");
        rc = 0;
    }
    jepa_embedding_free(&e);
    jepa_session_close(&run);
    jepa_close(&model);
    return rc < 0;
}
